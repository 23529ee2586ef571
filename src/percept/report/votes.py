"""Figure of votes: how often each candidate was chosen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from percept.files import read_parquet
from percept.report import formats
from percept.report.figures import COLOURS, WIDTH, Picture, picture, style


def counts(votes: Sequence[tuple[str, str]], paths: Sequence[str | Path]) -> pd.DataFrame:
    """Test images by vote, subject and candidate chosen: columns vote, subject, member, n.

    Parameters
    ----------
    votes : (subject, vote) of each of the tables of details
    """
    parts = []
    for (subject, vote), path in zip(votes, paths, strict=True):
        details = read_parquet(path)
        chosen = details.loc[details["set"] == "images", "member"].value_counts(sort=False)
        about = {"vote": vote, "subject": subject}
        parts.append(chosen.rename("n").rename_axis("member").reset_index().assign(**about))
    columns = ["vote", "subject", "member", "n"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def figure(found: pd.DataFrame) -> Picture | None:
    """Share of the test images for which each candidate was chosen, a bar per vote, over all subjects.

    Parameters
    ----------
    found : what `counts` returns
    """
    if found.empty:
        return None
    total = found.pivot_table("n", "vote", "member", aggfunc="sum", sort=False, fill_value=0)
    shares = total.div(total.sum(axis=1), axis=0)
    with style():
        drawn = Figure(figsize=(WIDTH, 1.1 + 0.42 * len(shares)), layout="constrained")
        axis, left = drawn.subplots(), np.zeros(len(shares))
        for at, member in enumerate(shares.columns):
            width = shares[member].to_numpy()
            axis.barh(shares.index, width, left=left, color=COLOURS[at % 7], label=member)
            left = left + width
        axis.invert_yaxis()
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_xlim(0, 1)
        axis.grid(axis="y", visible=False)
        drawn.legend(loc="outside lower center", ncols=min(len(shares.columns), 6))
    told = [
        f"{vote}: " + formats.listed([f"{member} {n}" for member, n in row.items()])
        for vote, row in total.iterrows()
    ]
    return picture(drawn, "votes", "How often each candidate was chosen. " + "; ".join(told) + ".")
