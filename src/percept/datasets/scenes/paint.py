"""Scenes as pixels: gradients, backdrops, brush strokes and flat shapes, drawn twofold and averaged."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from percept.datasets.scenes.catalogue import CATEGORIES, COLOURS, PAINTS, SETTINGS, Setting
from percept.datasets.scenes.compose import SIZE, Object, Scene

FINE = 2 * SIZE  # drawn at twice the size, then averaged: smooth edges
Rng = np.random.Generator
Rgb = tuple[int, int, int]


def paint(scene: Scene) -> NDArray[np.uint8]:
    """The picture of a scene, (425, 425, 3) uint8 RGB."""
    setting = SETTINGS[scene.setting]
    rng = np.random.default_rng([*scene.key, 1])
    canvas = Image.fromarray(_gradients(setting, scene.horizon))
    pen = ImageDraw.Draw(canvas)
    horizon = round(scene.horizon * FINE)
    BACKDROPS[setting.backdrop](pen, horizon, rng)
    GROUNDS[setting.ground](pen, horizon, setting, rng)
    for thing in scene.objects:
        _draw_object(pen, thing, indoor=setting.indoor, horizon=horizon)
    small = np.asarray(canvas.reduce(2))
    return _light(small, scene, rng)


def _gradients(setting: Setting, horizon: float) -> NDArray[np.uint8]:
    """Sky or wall above, ground below, (850, 850, 3)."""
    edge = round(horizon * FINE)
    above = np.linspace(setting.above, setting.behind, edge)
    below = np.linspace(setting.far, setting.near, FINE - edge)
    column = np.concatenate([above, below]).astype(np.uint8)
    return np.repeat(column[:, None], FINE, axis=1)


def _light(image: NDArray[np.uint8], scene: Scene, rng: Rng) -> NDArray[np.uint8]:
    """Exposure, colour temperature and a fine grain, as a camera adds them."""
    gain = scene.light * (1 + scene.warmth * np.array([0.07, 0.0, -0.09]))
    curve = np.arange(256)[:, None] * gain  # (level, channel)
    lookup = np.clip(curve, 0, 249).astype(np.uint8)  # room for the grain
    lit = np.stack([lookup[image[..., channel], channel] for channel in range(3)], axis=-1)
    grain = rng.integers(0, 7, (SIZE, SIZE, 1), dtype=np.uint8)
    return lit + grain


def _shade(colour: Rgb, factor: float) -> Rgb:
    """Darker below 1, lighter above."""
    if factor <= 1:
        return tuple(int(level * factor) for level in colour)
    return tuple(int(level + (255 - level) * (factor - 1)) for level in colour)


@cache
def _primitives(category: str) -> tuple[tuple[str, str, NDArray[np.float64]], ...]:
    """The parsed shape of a category: kind, paint, numbers."""
    parts = (part.split() for part in CATEGORIES[category].shape.split(";"))
    return tuple((part[0], part[1], np.array(part[2:], dtype=float)) for part in parts)


def _draw_object(pen: ImageDraw.ImageDraw, thing: Object, *, indoor: bool, horizon: int) -> None:
    left, top, width, height = (share * FINE for share in thing.box)
    main, second = COLOURS[thing.colour], COLOURS[thing.second]
    paints = PAINTS | {"m": main, "n": second, "d": _shade(main, 0.68), "l": _shade(main, 1.4)}
    if top + height > horizon:  # stands on the ground: a contact shadow
        base = top + height
        pen.ellipse(
            (left, base - 0.04 * height, left + width, base + 0.04 * height),
            (60, 56, 54) if indoor else (70, 78, 70),
        )
    for kind, paint_name, numbers in _primitives(thing.category):
        corners = numbers[: 4 if kind in "ERL" else None].reshape(-1, 2).copy()
        if thing.mirrored:
            corners[:, 0] = 1 - corners[:, 0]
        points = corners * (width, height) + (left, top)
        extra = numbers[4] * min(width, height) if len(numbers) == 5 and kind in "RL" else 0.0
        _draw_primitive(pen, kind, points, paints[paint_name], extra)


def _draw_primitive(
    pen: ImageDraw.ImageDraw, kind: str, points: NDArray[np.float64], colour: Rgb, extra: float
) -> None:
    if kind == "P":
        pen.polygon([tuple(point) for point in points], colour)
    elif kind == "L":
        pen.line([tuple(point) for point in points], colour, width=max(2, round(extra)))
    else:
        box = (*points.min(axis=0), *points.max(axis=0))
        pen.ellipse(box, colour) if kind == "E" else pen.rounded_rectangle(box, extra, colour)


def _clouds(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    for _ in range(rng.integers(0, 4)):
        x, y, size = rng.uniform(0, FINE), rng.uniform(0.05, 0.6) * horizon, rng.uniform(40, 90)
        for dx, dy, r in ((-0.9, 0.15, 0.7), (0, -0.2, 1.0), (0.9, 0.1, 0.75)):
            pen.ellipse(
                (
                    x + (dx - r) * size,
                    y + (dy - 0.6 * r) * size,
                    x + (dx + r) * size,
                    y + (dy + 0.6 * r) * size,
                ),
                (248, 249, 250),
            )


def _ridge(pen: ImageDraw.ImageDraw, base: int, heights: NDArray[np.float64], colour: Rgb) -> None:
    """A filled skyline through equally spaced heights above `base`, in pixels."""
    x = np.linspace(0, FINE, len(heights))
    pen.polygon([(0, base), *zip(x, base - heights, strict=True), (FINE, base)], colour)


def _sea(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    _clouds(pen, horizon, rng)
    pen.rectangle((0, 0.72 * horizon, FINE, horizon), (58, 134, 184))
    for y in rng.uniform(0.74 * horizon, 0.98 * horizon, 14):
        x = rng.uniform(0, FINE)
        pen.line((x, y, x + rng.uniform(40, 160), y), (150, 204, 226), width=4)
    pen.line((0, horizon, FINE, horizon), (246, 250, 250), width=9)


def _trees(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    _clouds(pen, horizon, rng)
    _ridge(pen, horizon + 2, 60 + 22 * np.abs(rng.standard_normal(40)), (98, 152, 96))
    for x in rng.uniform(0, FINE, rng.integers(2, 6)):
        size = rng.uniform(90, 190)
        pen.rectangle((x - 0.07 * size, horizon - 0.6 * size, x + 0.07 * size, horizon + 8), (112, 80, 54))
        green = _shade((66, 128, 62), rng.uniform(0.8, 1.2))
        for dx, dy, r in ((-0.3, -0.75, 0.36), (0.3, -0.75, 0.36), (0, -1.05, 0.4)):
            pen.ellipse(
                (
                    x + (dx - r) * size,
                    horizon + (dy - r) * size,
                    x + (dx + r) * size,
                    horizon + (dy + r) * size,
                ),
                green,
            )


def _hills(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    _clouds(pen, horizon, rng)
    x = np.linspace(0, 2 * np.pi, 60)
    for level, colour in ((0.34, (150, 190, 160)), (0.2, (132, 180, 112))):
        waves = np.sin(rng.uniform(0.6, 1.8) * x + rng.uniform(0, 6)) + 0.3 * np.sin(
            3 * x + rng.uniform(0, 6)
        )
        _ridge(pen, horizon + 2, horizon * level * (1 + 0.5 * waves), colour)


def _sun(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    x, y, r = rng.uniform(0.1, 0.9) * FINE, rng.uniform(0.35, 0.85) * horizon, rng.uniform(60, 110)
    pen.ellipse((x - r, y - r, x + r, y + r), (255, 240, 190))
    for trunk in rng.uniform(0, FINE, 3):
        size = rng.uniform(90, 170)
        pen.line((trunk, horizon + 4, trunk, horizon - 0.7 * size), (88, 66, 44), width=10)
        pen.ellipse(
            (trunk - 0.9 * size, horizon - size, trunk + 0.9 * size, horizon - 0.6 * size), (120, 124, 60)
        )


def _facades(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng, *, night: bool) -> None:
    x = -float(rng.uniform(0, 60))
    while x < FINE:
        width, height = rng.uniform(110, 220), rng.uniform(0.4, 0.95) * horizon
        wall = _shade(
            ((186, 126, 100), (206, 186, 150), (142, 152, 166), (172, 148, 130))[rng.integers(4)],
            0.32 if night else 1,
        )
        pen.rectangle((x, horizon - height, x + width, horizon), wall)
        columns = int(width // 46)
        for row in range(int(height // 62)):
            for column in range(columns):
                left, top = x + 14 + column * width / columns, horizon - height + 16 + 60 * row
                lit = night and rng.random() < 0.4
                pen.rectangle(
                    (left, top, left + 22, top + 32),
                    (250, 220, 130) if lit else _shade((96, 122, 146), 0.4 if night else 1),
                )
        x += width + 4


def _houses(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    _clouds(pen, horizon, rng)
    _facades(pen, horizon, rng, night=False)


def _night(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    for x, y in rng.uniform(0, (FINE, 0.7 * horizon), (30, 2)):
        pen.ellipse((x, y, x + 4, y + 4), (240, 240, 220))
    x, y = rng.uniform(0.1, 0.9) * FINE, rng.uniform(0.12, 0.3) * horizon
    pen.ellipse((x - 44, y - 44, x + 44, y + 44), (244, 240, 214))
    _facades(pen, horizon, rng, night=True)


def _mountains(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    _clouds(pen, horizon, rng)
    for _ in range(4):
        x, half, height = rng.uniform(0, FINE), rng.uniform(140, 260), rng.uniform(0.35, 0.75) * horizon
        grey = _shade((122, 136, 158), rng.uniform(0.8, 1.15))
        pen.polygon([(x - half, horizon), (x, horizon - height), (x + half, horizon)], grey)
        pen.polygon(
            [
                (x - 0.28 * half, horizon - 0.72 * height),
                (x, horizon - height),
                (x + 0.28 * half, horizon - 0.72 * height),
            ],
            (246, 248, 252),
        )


def _window(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    x, y, w, h = rng.uniform(40, 560), rng.uniform(0.1, 0.2) * horizon, rng.uniform(180, 260), 0.5 * horizon
    pen.rectangle((x - 10, y - 10, x + w + 10, y + h + 10), (246, 242, 234))
    pen.rectangle((x, y, x + w, y + h), (170, 210, 234))
    pen.ellipse((x + 0.1 * w, y + 0.6 * h, x + 0.9 * w, y + 1.0 * h), (120, 170, 104))
    pen.line((x + w / 2, y, x + w / 2, y + h), (246, 242, 234), width=8)
    pen.line((x, y + h / 2, x + w, y + h / 2), (246, 242, 234), width=8)
    pen.rectangle((0, horizon - 16, FINE, horizon), (236, 226, 208))


def _stripes(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    step = int(rng.integers(34, 70))
    for x in range(0, FINE, 2 * step):
        pen.rectangle((x, 0, x + step, horizon), (176, 202, 220))
    pen.rectangle((0, horizon - 18, FINE, horizon), (240, 240, 236))


def _tiles(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    step = int(rng.integers(60, 100))
    for x in range(0, FINE, step):
        pen.line((x, 0, x, horizon), (196, 192, 178), width=4)
    for y in range(horizon % step, horizon, step):
        pen.line((0, y, FINE, y), (196, 192, 178), width=4)


def _bricks(pen: ImageDraw.ImageDraw, horizon: int, rng: Rng) -> None:
    for row, y in enumerate(range(horizon % 34 - 34, horizon, 34)):
        for x in range(-40 * (row % 2), FINE, 80):
            pen.rectangle((x + 3, y + 3, x + 76, y + 31), _shade((164, 96, 74), rng.uniform(0.85, 1.08)))


def _marks(
    pen: ImageDraw.ImageDraw,
    horizon: int,
    setting: Setting,
    rng: Rng,
    shape: Callable[[float], tuple[float, float]],
) -> None:
    """Short strokes, longer in front; `shape` gives width and rise for a nearness in 0..1."""
    nearness = np.sqrt(rng.uniform(0, 1, setting.strokes))
    factors = rng.uniform(0.8, 1.12, setting.strokes)
    for near, x, factor in zip(nearness, rng.uniform(0, FINE, setting.strokes), factors, strict=True):
        y = horizon + near * (FINE - horizon)
        dx, dy = shape(near)
        pen.line((x, y, x + dx, y - dy), _shade(setting.near, factor), width=4 if near > 0.4 else 2)


def _blades(pen: ImageDraw.ImageDraw, horizon: int, setting: Setting, rng: Rng) -> None:
    _marks(pen, horizon, setting, rng, lambda near: (6 * near, 10 + 26 * near))


def _dots(pen: ImageDraw.ImageDraw, horizon: int, setting: Setting, rng: Rng) -> None:
    _marks(pen, horizon, setting, rng, lambda near: (3 + 6 * near, 0.0))


def _waves(pen: ImageDraw.ImageDraw, horizon: int, setting: Setting, rng: Rng) -> None:
    _marks(pen, horizon, setting, rng, lambda near: (30 + 90 * near, 0.0))


def _road(pen: ImageDraw.ImageDraw, horizon: int, setting: Setting, rng: Rng) -> None:
    kerb = horizon + 0.16 * (FINE - horizon)
    pen.rectangle((0, horizon, FINE, kerb), _shade(setting.far, 1.35))
    _dots(pen, horizon, setting, rng)
    y = horizon + rng.uniform(0.5, 0.62) * (FINE - horizon)
    for x in range(-60, FINE, 150):
        pen.polygon([(x, y), (x + 80, y), (x + 70, y + 14), (x - 14, y + 14)], _shade(setting.near, 1.7))


def _planks(pen: ImageDraw.ImageDraw, horizon: int, setting: Setting, rng: Rng) -> None:
    vanishing = FINE * rng.uniform(0.3, 0.7)
    for x in np.linspace(-1.2 * FINE, 2.2 * FINE, 24):
        pen.line((vanishing + 0.45 * (x - vanishing), horizon, x, FINE), _shade(setting.near, 0.82), width=3)


def _rug(pen: ImageDraw.ImageDraw, horizon: int, setting: Setting, rng: Rng) -> None:
    colour = tuple(COLOURS.values())[rng.integers(len(COLOURS))]
    span = FINE - horizon
    for inset, factor in ((0.0, 1.0), (0.12, 1.4), (0.2, 1.0)):
        pen.ellipse(
            (
                (0.08 + inset) * FINE,
                horizon + (0.2 + inset) * span,
                (0.92 - inset) * FINE,
                horizon + (1.1 - inset) * span,
            ),
            _shade(colour, factor),
        )


def _checks(pen: ImageDraw.ImageDraw, horizon: int, setting: Setting, rng: Rng) -> None:
    colour = COLOURS[("red", "blue", "green", "teal")[rng.integers(4)]]
    step = int(rng.integers(46, 74))
    for row, y in enumerate(range(horizon, FINE, step)):
        for x in range(step * (row % 2), FINE, 2 * step):
            pen.rectangle((x, y, x + step, y + step), _shade(colour, 1.35))


BACKDROPS: dict[str, Callable[[ImageDraw.ImageDraw, int, Rng], None]] = {
    "sea": _sea, "trees": _trees, "hills": _hills, "sun": _sun, "houses": _houses, "night": _night,
    "mountains": _mountains, "window": _window, "stripes": _stripes, "tiles": _tiles, "bricks": _bricks,
}  # fmt: skip
GROUNDS: dict[str, Callable[[ImageDraw.ImageDraw, int, Setting, Rng], None]] = {
    "blades": _blades, "dots": _dots, "waves": _waves, "road": _road, "planks": _planks, "rug": _rug,
    "checks": _checks,
}  # fmt: skip
