"""Contact sheet of a reconstruction: what was seen, what was decoded, and the nearest training image.

The nearest training image stands beside each reconstruction because a decoder that merely recalls its
training set can look convincing. Columns are chosen by rank, from both ends and the middle: a sheet of best
cases only would show what a method can do, not what it does.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from percept.files import atomic

PAPER, INK, FAINT = (255, 255, 255), (28, 36, 46), (92, 102, 114)
GROUPS = ("best", "median", "worst")


@dataclass(frozen=True)
class Layout:
    """Measures of a sheet, in pixels."""

    cell: int = 128
    gap: int = 6
    between_groups: int = 26
    margin: int = 20
    labels: int = 200  # width of the row labels
    header: int = 82
    font: int = 25


def pick(ranks: NDArray, per_group: int) -> dict[str, NDArray]:
    """Rows (at most `per_group` each) of the best, the median and the worst ranks; no row appears twice.

    Parameters
    ----------
    ranks : (n,) rank of the true image among the candidates, 1 is best; ties keep their order

    With fewer than 3 * `per_group` rows the groups share them out, so that a small test set still shows all
    three; of two rows one is the best and one the worst.
    """
    order = np.argsort(ranks, kind="stable")
    share = min(per_group, max(len(order) // 3, 1))
    middle = max((len(order) - share) // 2, share)
    slices = {"best": order[:share], "worst": order[-share:], "median": order[middle : middle + share]}
    groups, taken = {}, np.zeros(0, dtype=int)
    for name, rows in slices.items():
        groups[name] = rows[~np.isin(rows, taken)]
        taken = np.concatenate([taken, rows])
    return {name: groups[name] for name in GROUPS if len(groups[name])}


def contact_sheet(
    rows: dict[str, NDArray], ranks: NDArray, pool: int, per_group: int = 4, layout: Layout | None = None
) -> NDArray:
    """One landscape sheet (height, width, 3) uint8: a column per example, a row per kind of image.

    Parameters
    ----------
    rows : label -> images (n, height, width, 3) uint8, from top to bottom; sizes may differ between rows
    ranks : (n,) rank of the true image among `pool` candidates, 1 is best
    per_group : columns each of the best, the median and the worst ranks

    Raises
    ------
    ValueError : no image, or rows of different length
    """
    lengths = {label: len(images) for label, images in rows.items()}
    if not len(ranks) or set(lengths.values()) != {len(ranks)}:
        raise ValueError(
            f"a contact sheet needs one rank and one image of each row for every example; there are "
            f"{len(ranks)} ranks and {lengths} images: check that the reconstruction covers the test set."
        )
    layout = layout or Layout()
    groups = pick(ranks, per_group)
    sheet = Image.new("RGB", _size(groups, len(rows), layout), PAPER)
    draw = ImageDraw.Draw(sheet)
    for position, label in enumerate(rows):
        _label_row(draw, label, position, layout)
    left = layout.margin + layout.labels
    for name, chosen in groups.items():
        _draw_group(sheet, left, rows, chosen, layout)
        draw.text(
            (left, layout.margin), f"{name} (of {pool})", fill=INK, font=ImageFont.load_default(layout.font)
        )
        _label_columns(draw, left, [f"rank {ranks[row]:g}" for row in chosen], layout)
        left += _width(len(chosen), layout) + layout.between_groups
    return np.asarray(sheet)


def _width(n: int, layout: Layout) -> int:
    return n * layout.cell + (n - 1) * layout.gap


def _size(groups: dict[str, NDArray], n_rows: int, layout: Layout) -> tuple[int, int]:
    width = sum(_width(len(chosen), layout) for chosen in groups.values())
    width += (len(groups) - 1) * layout.between_groups + layout.labels + 2 * layout.margin
    return width, _width(n_rows, layout) + layout.header + 2 * layout.margin


def _top(position: int, layout: Layout) -> int:
    return layout.margin + layout.header + position * (layout.cell + layout.gap)


def _label_row(draw: ImageDraw.ImageDraw, label: str, position: int, layout: Layout) -> None:
    middle = _top(position, layout) + layout.cell // 2
    words = label.replace(" ", "\n", 1)  # two lines fit beside a cell
    font = ImageFont.load_default(layout.font)
    draw.multiline_text((layout.margin, middle), words, fill=INK, font=font, anchor="lm", spacing=5)


def _label_columns(draw: ImageDraw.ImageDraw, left: int, texts: list[str], layout: Layout) -> None:
    font = ImageFont.load_default(layout.font - 3)
    bottom = layout.margin + layout.header - 9
    for column, text in enumerate(texts):
        centre = left + column * (layout.cell + layout.gap) + layout.cell // 2
        draw.text((centre, bottom), text, fill=FAINT, font=font, anchor="ms")


def _draw_group(
    sheet: Image.Image, left: int, rows: dict[str, NDArray], chosen: NDArray, layout: Layout
) -> None:
    underline = layout.margin + layout.font + 12
    ImageDraw.Draw(sheet).line(
        (left, underline, left + _width(len(chosen), layout), underline), fill=INK, width=1
    )
    for position, images in enumerate(rows.values()):
        for column, row in enumerate(chosen):
            x = left + column * (layout.cell + layout.gap)
            sheet.paste(thumbnail(images[row], layout.cell), (x, _top(position, layout)))


def thumbnail(image: NDArray, side: int) -> Image.Image:
    """An image (height, width, 3) uint8 fitted into a square of `side` pixels, on white, proportions kept."""
    scale = side / max(image.shape[:2])
    height, width = (max(round(length * scale), 1) for length in image.shape[:2])
    small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), PAPER)
    square.paste(small, ((side - width) // 2, (side - height) // 2))
    return square


def png(sheet: NDArray) -> bytes:
    """The sheet as a PNG file."""
    buffer = BytesIO()
    Image.fromarray(sheet).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def write(path: str | Path, sheet: NDArray) -> None:
    """Write the sheet as a PNG, atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(png(sheet))
