"""Contact sheets: what was seen above what was decoded, and what it has to be compared with.

The nearest training image stands below each reconstruction because a decoder that merely recalls its
training set can look convincing. Columns are chosen by rank, from both ends and the middle: a sheet of best
cases only would show what a method can do, not what it does.
"""

import re
from collections.abc import Mapping
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
    footer: int = 44
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


def chosen(ranks: NDArray, per_group: int = 4) -> NDArray:
    """Rows that a sheet shows, in its order; a sheet of these rows alone is the same sheet."""
    return np.concatenate(list(pick(ranks, per_group).values()))


def contact_sheet(
    rows: Mapping[str, NDArray],
    ranks: NDArray,
    pool: int,
    per_group: int = 4,
    layout: Layout | None = None,
    by: str = "",
) -> NDArray:
    """One sheet (height, width, 3) uint8: a column per example, a row per kind of image.

    Parameters
    ----------
    rows : label -> images (n, height, width, 3) uint8, from top to bottom; sizes may differ between rows
    ranks : (n,) rank of the true image among `pool` candidates, 1 is best
    per_group : columns each of the best, the median and the worst ranks
    by : what the ranks are, for a line at the foot

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
    width, height = _size(groups, len(rows), layout)
    sheet = Image.new("RGB", (width, height + (layout.footer if by else 0)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for position, label in enumerate(rows):
        _label_row(draw, label, position, layout)
    left = layout.margin + layout.labels
    for name, columns in groups.items():
        _draw_group(sheet, left, rows, columns, layout)
        draw.text(
            (left, layout.margin), f"{name} (of {pool})", fill=INK, font=ImageFont.load_default(layout.font)
        )
        _label_columns(draw, left, [f"rank {_short(ranks[row])}" for row in columns], layout)
        left += _width(len(columns), layout) + layout.between_groups
    if by:
        foot = (layout.margin, sheet.height - layout.margin)
        draw.text(foot, by, fill=FAINT, font=ImageFont.load_default(layout.font - 3), anchor="ls")
    return np.asarray(sheet)


def _short(rank: float) -> str:
    """A rank as a whole number where it is one, else with one digit; means of ranks need not be whole."""
    return f"{rank:.0f}" if abs(rank - round(rank)) < 0.05 or rank >= 100 else f"{rank:.1f}"


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
    font = ImageFont.load_default(layout.font)
    lines = "\n".join(wrapped(label, layout.labels - 8, font)[: max(layout.cell // (layout.font + 5), 1)])
    draw.multiline_text((layout.margin, middle), lines, fill=INK, font=font, anchor="lm", spacing=5)


def wrapped(label: str, width: float, font: ImageFont.FreeTypeFont) -> list[str]:
    """Lines of a label that fit `width` pixels, broken after blanks, underscores and hyphens.

    A part that is too long on its own is cut, so that nothing runs into the images.
    """
    lines = [""]
    for part in re.findall(r"[^\s_-]*[\s_-]*", label)[:-1]:
        if lines[-1] and font.getlength((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [_cut(line.rstrip(), width, font) for line in lines]


def _cut(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    fits = (text[:n] + "…" for n in range(len(text), 0, -1))
    return next((short for short in fits if font.getlength(short) <= width), "…")


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
    """The sheet as a PNG file, packed quickly: an optimised one is a sixth smaller and takes far longer."""
    buffer = BytesIO()
    Image.fromarray(sheet).save(buffer, format="png", compress_level=3)
    return buffer.getvalue()


def write(path: str | Path, sheet: NDArray) -> None:
    """Write the sheet as a PNG, atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(png(sheet))
