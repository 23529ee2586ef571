"""In which floating-point format a network's weights are held and its answer computed."""

from typing import Any, get_args

from percept.files import PerceptError
from percept.sections import Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def dtype(precision: str) -> Any:  # noqa: ANN401 (a torch.dtype)
    """The torch type of a precision.

    Raises
    ------
    PerceptError : no such precision
    """
    import torch

    if precision not in PRECISIONS:
        raise PerceptError(
            f"a network cannot be computed in the precision {precision!r}: set `precision` to one of "
            f"{', '.join(PRECISIONS)}."
        )
    return getattr(torch, precision)
