"""Numbers as text: one place decides digits, units, intervals and what a missing value looks like."""

import math
import re

import pandas as pd

from percept.report.spec import Metric

MISSING = "–"
THIN = "\u202f"  # narrow no-break space between a number and its unit
LATEX = {
    "[": "{[}", "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "×": r"$\times$", "<": r"\textless{}", ">": r"\textgreater{}", THIN: r"\,", "−": "$-$", "∞": r"$\infty$",
    "·": r"$\cdot$", "²": r"\textsuperscript{2}",
}  # fmt: skip
DIGITS = {"percent": 1, "correlation": 3, "bits": 2, "rank": 1, "number": 3}


def is_missing(value: object) -> bool:
    """Whether a cell of a table is empty: None, NaN or pandas' NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def bare(value: float | None, metric: Metric) -> str:
    """A value without its unit: a fraction in per cent, the others as they are."""
    if is_missing(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    scaled = value * 100 if metric.format == "percent" else value
    text = f"{scaled:.{DIGITS[metric.format]}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")  # no minus zero


def score(value: float | None, metric: Metric) -> str:
    """A value with its unit, where it has one."""
    text = bare(value, metric)
    unit = {"percent": "%", "bits": "bits"}.get(metric.format, "")
    return text if text == MISSING or not unit else f"{text}{THIN}{unit}"


def interval(low: float | None, high: float | None, metric: Metric) -> str:
    """An interval in the unit of its value; empty where either end is missing."""
    if is_missing(low) or is_missing(high):
        return ""
    return f"[{bare(low, metric)}, {bare(high, metric)}]"


def share(value: float | None) -> str:
    """A share of a limit, in whole per cent."""
    return MISSING if is_missing(value) or math.isinf(value) else f"{value:.0%}".replace("%", f"{THIN}%")


def p_value(value: float | None) -> str:
    """A p value with two significant digits, bounded below by 0.001."""
    if is_missing(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def count(value: float | None) -> str:
    """A count, thousands set apart."""
    return MISSING if is_missing(value) else f"{int(value):,}".replace(",", THIN)


def listed(names: list[str]) -> str:
    """Names in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def latex(text: str) -> str:
    """Escape text for LaTeX; every character with a meaning there is replaced once."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)
