"""The summaries as LaTeX tables, for a paper: booktabs, nothing else needed."""

import pandas as pd

from percept.report import formats, spec, views
from percept.report.summary import Matrix, matrices, summarise

OPENING = "% Made by percept; needs \\usepackage{booktabs}. Intervals are in brackets.\n"
UNITS = {"percent": "(%)", "bits": "(bits)"}


def table(long: pd.DataFrame, nouns: spec.Words | None = None) -> str:
    """One table per kind of prediction and unit of test data, for the mean over subjects, then each subject.

    Parameters
    ----------
    long : long table of all evaluations
    nouns : what the stimuli are called
    """
    nouns, rows = nouns or spec.Words(), summarise(long)
    shown = [matrix for who in views.whom(rows) for matrix in matrices(rows, who)]
    return OPENING + "\n".join(_table(one, nouns) for one in shown)


def _table(matrix: Matrix, nouns: spec.Words) -> str:
    shown = views.summary(matrix, nouns)
    shared = [_has_share(shown, at) for at in range(len(shown["columns"]))]
    width = 1 + len(shared) + sum(shared)
    body = []
    for block in shown["blocks"]:
        heading = rf"\multicolumn{{{width}}}{{l}}{{\emph{{{formats.latex(block['title'])}}}}} \\"
        body += [r"\midrule", heading]
        body += [row for line in block["lines"] for row in _line(line, shared)]
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{formats.latex(_caption(matrix, shown['caption']))}}}",
        rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
        _head(matrix, shown, shared),
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *_below(shown),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _below(shown: dict) -> list[str]:
    """Lines under the table: what holds for all scores of a method, what is not available and why."""
    told = [f"{note}." for note in shown["notes"]]
    told += [f"Not available: {'; '.join(shown['missing'])}."] if shown["missing"] else []
    return [rf"\par\smallskip{{\footnotesize {formats.latex(line)}\par}}" for line in told]


def _caption(matrix: Matrix, caption: str) -> str:
    counts = [
        cell.n
        for lines in matrix.blocks.values()
        for line in lines
        for cell in line.cells
        if cell is not None
    ]
    n = max((int(count) for count in counts if not pd.isna(count)), default=None)
    return caption if n is None else f"{caption}; n = {n} per subject."


def _has_share(shown: dict, at: int) -> bool:
    return any(line["cells"][at]["share"] for block in shown["blocks"] for line in block["lines"])


def _head(matrix: Matrix, shown: dict, shared: list[bool]) -> str:
    """What was measured, in which unit, direction and pool: stacked words, so that columns stay narrow."""
    cells = ["Method"]
    for column, heading, share in zip(matrix.columns, shown["columns"], shared, strict=True):
        unit = UNITS.get(spec.load().metric(column.metric).format, "")
        words = [*heading["label"].split(), unit, *heading["detail"].rsplit(" ", 1), heading["pool"]]
        stack = r"\\".join(formats.latex(word) for word in words if word)
        cells += [rf"\shortstack[r]{{{stack}}}", *([r"\shortstack[r]{of\\limit}"] if share else [])]
    return " & ".join(cells) + r" \\"


def _line(line: dict, shared: list[bool]) -> list[str]:
    """A method: the scores, then their intervals below, where there are any."""
    name = rf"\footnotesize {formats.latex(line['detail'])}" if line["detail"] else ""
    first, second = [formats.latex(line["name"])], [name]
    for cell, share in zip(line["cells"], shared, strict=True):
        value, interval = cell["value"].split(formats.THIN)[0], cell["interval"]
        first += [formats.latex(value), *([formats.latex(cell["share"].split(" of ")[0])] if share else [])]
        second += [rf"\scriptsize {formats.latex(interval)}" if interval else "", *([""] if share else [])]
    return [" & ".join(row) + r" \\" for row in (first, second) if any(row)]
