"""A plausible long table, so that the report is tested on what evaluations write without running any."""

import numpy as np
import pandas as pd

DECODERS = {
    "ridge": ("pixels", "nsdgeneral", 0.52),
    "ridge_early": ("pixels", "early", 0.41),
    "ridge_higher": ("pixels", "higher", 0.22),
    "ridge_clip": ("clip_image", "nsdgeneral", 0.60),
}
DIRECTIONS = ("image_from_brain", "brain_from_image")
POOLS = (50, 100, 150)
LIMITS = {50: 0.97, 100: 0.93, 150: 0.9, 300: 0.85, 982: 0.75}


def evaluation(subject, name, *, pools=POOLS, dataset="twin", limits=True, unit="average", seed=0, n=150):
    """Rows of one decoder in one subject: retrieval in both directions, two-way, rank, bits, correlations."""
    target, roi, base = DECODERS[name]
    rng = np.random.default_rng([seed, len(name), int(subject[-1]), unit == "single"])
    skill = np.clip(base + rng.normal(0, 0.03), 0.02, 0.95) * (1 if unit == "average" else 0.6)
    common = dict(
        dataset=dataset, protocol="shared1000", subject=subject, what="decoder", name=name, target=target,
        roi=roi, seed=seed, unit=unit, n=n,
    )  # fmt: skip

    def row(metric, value, width, **more):
        ends = dict(ci_low=value - width, ci_high=value + width)
        return common | dict(metric=metric, value=value, p_value=0.001, control=None) | ends | more

    rows = []
    for direction in DIRECTIONS:
        lower = 1 if direction == "image_from_brain" else 0.9
        where = dict(direction=direction, scoring="cosine")
        for pool in pools:
            value = lower * skill ** (0.4 + 0.2 * np.log10(pool))
            limit = LIMITS[pool] * lower if limits else np.nan
            bounds = dict(limit_oracle=limit, limit_finite=0.9 * limit)
            bounds |= dict(share_oracle=value / limit, share_finite=value / limit / 0.9)
            rows.append(row("top1", value, 0.04, pool=pool, chance=1 / pool, **bounds, **where))
            rows.append(row("top5", value**0.5, 0.03, pool=pool, chance=5 / pool, **where))
            shuffled = dict(control="shuffled", p_value=None, pool=pool, chance=1 / pool)
            rows.append(row("top1", 1.1 / pool, 0.01, **shuffled, **where))
        rows.append(row("two_way", 0.9 + 0.1 * skill, 0.01, pool=pools[-1], chance=0.5, **where))
        rows.append(
            row("median_rank", 1 + 8 * (1 - skill), 0.6, pool=pools[-1], chance=pools[-1] / 2, **where)
        )
        rows.append(row("bits", 6 * skill, 0.3, pool=pools[-1], chance=0.0, **where))
    rows.append(row("profile_correlation", 0.5 * skill, 0.02, chance=0.0))
    rows.append(row("pattern_correlation", 0.6 * skill, 0.02, chance=0.0))
    return pd.DataFrame(rows)


def reconstruction(subject, **common):
    """Rows of the linear reconstruction: image metrics, their controls and the recovery ceiling."""
    rows = []
    scores = {"pixcorr": 0.31, "ssim": 0.42, "pixel_two_way": 0.83}
    factors = {None: 1, "mean_image": 0.6, "nearest_train": 0.7, "random_image": 0.5, "recovery": 1.15}
    for metric, value in scores.items():
        for control, factor in factors.items():
            row = dict(
                dataset="twin", protocol="shared1000", subject=subject, what="reconstruction", name="linear",
                target="pixels", roi="nsdgeneral", seed=0, unit="average", metric=metric, n=150,
                value=value * factor, ci_low=value * factor - 0.02, ci_high=value * factor + 0.02,
                control=control,
            )  # fmt: skip
            rows.append(row | common)
    return pd.DataFrame(rows)
