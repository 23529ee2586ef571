"""Values of vertices on the cortical surface: scattered on fsaverage, saved as GIFTI, drawn.

A vertex of the Algonauts challenge is a vertex of FreeSurfer's fsaverage (163,842 per hemisphere). Its meshes
come from an icosahedron, each from the one before by halving the edges: old vertices keep their place and
number. So the first 10,242 vertices of fsaverage are those of fsaverage5, which comes with nilearn, and a
map drawn there shows every sixteenth vertex as it is, with nothing resampled.
"""

from binascii import Error as BinasciiError
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple
from xml.parsers.expat import ExpatError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.files import UNREADABLE, PerceptError, atomic, gzip_damage, read_parquet
from percept.shortage import damage

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D

N_FSAVERAGE = 163_842
SIDES = {"lh": "left", "rh": "right"}
VIEWS = ("lateral", "medial", "ventral", "posterior")
STRUCTURES = {"lh": "CortexLeft", "rh": "CortexRight"}
MUTED, COLOURS, ZOOM = "#6b7280", "inferno", 1.35


class Mesh(NamedTuple):
    """Inflated surfaces by hemisphere: `coordinates` (vertex, 3) mm, `faces` (face, 3), `sulci` (vertex,)."""

    name: str
    coordinates: dict[str, NDArray]
    faces: dict[str, NDArray]
    sulci: dict[str, NDArray]

    @property
    def n_vertices(self) -> int:
        """Of a hemisphere."""
        return len(self.coordinates["lh"])


def scattered(values: NDArray, voxels: pd.DataFrame) -> dict[str, NDArray[np.float32]]:
    """Values (voxel,) on all of fsaverage, per hemisphere (163842,) float32; NaN where nothing was measured.

    Parameters
    ----------
    voxels : with the columns `hemisphere` and `vertex` (0-based on fsaverage)

    Raises
    ------
    PerceptError : the place of the vertices is not known
    """
    if "vertex" not in voxels or (voxels["vertex"] < 0).any():
        raise PerceptError(
            "it is not known which vertices of fsaverage these values are from, so they cannot be drawn on "
            "it: put roi_masks/{lh,rh}.all-vertices_fsaverage_space.npy of the release there and extract "
            "again."
        )
    surface = {side: np.full(N_FSAVERAGE, np.nan, np.float32) for side in SIDES}
    for side, whole in surface.items():
        own = (voxels["hemisphere"] == side).to_numpy()
        whole[voxels["vertex"].to_numpy()[own]] = values[own]
    return surface


def write_gifti(values: NDArray[np.float32], side: str, path: str | Path) -> None:
    """Write the values of a hemisphere (vertex,) as a functional GIFTI file, which surface viewers open."""
    import nibabel as nib

    array = nib.gifti.GiftiDataArray(
        values.astype(np.float32), intent="NIFTI_INTENT_NONE", datatype="float32"
    )
    about = nib.gifti.GiftiMetaData(AnatomicalStructurePrimary=STRUCTURES[side])
    with atomic(path) as temporary:
        temporary.write_bytes(nib.gifti.GiftiImage(meta=about, darrays=[array]).to_bytes())


def load_mesh(folder: str | Path | None = None) -> Mesh:
    """Inflated surfaces of a folder of fsaverage, or, without one, of nilearn's fsaverage5.

    Parameters
    ----------
    folder : FreeSurfer's (surf/lh.inflated, surf/lh.sulc), or nilearn's (infl_left.gii.gz, sulc_left.gii.gz)

    Raises
    ------
    PerceptError : the folder holds neither, or a file of it is damaged
    """
    from nilearn import datasets, surface

    if folder is None:
        found = datasets.fetch_surf_fsaverage("fsaverage5")  # part of nilearn: nothing is fetched
        files = {side: (found[f"infl_{name}"], found[f"sulc_{name}"]) for side, name in SIDES.items()}
        title = "fsaverage5"
    else:
        files, title = _files(Path(folder).expanduser()), "fsaverage"
    sides = {side: _read_side(*pair, surface) for side, pair in files.items()}
    return Mesh(title, *({side: parts[at] for side, parts in sides.items()} for at in range(3)))


def _require_gzip(path: str | Path) -> None:
    if str(path).endswith(".gz") and (problem := gzip_damage(path)):
        raise EOFError(problem)


def _read_side(inflated: Path, sulc: Path, surface: ModuleType) -> tuple[NDArray, NDArray, NDArray]:
    """Coordinates, faces and sulci of one hemisphere, which have to fit each other."""
    path = inflated
    try:
        _require_gzip(path)
        mesh = surface.load_surf_mesh(path)
        places, faces = np.asarray(mesh.coordinates), np.asarray(mesh.faces)
        if not np.isfinite(places).all() or faces.min() < 0 or faces.max() >= len(places):
            raise ValueError("its faces are not of its vertices, or these are nowhere")
        path = sulc
        _require_gzip(path)
        depth = np.asarray(surface.load_surf_data(path))
        if depth.shape != (len(places),) or not np.isfinite(depth).all():
            raise ValueError(f"values of the shape {depth.shape} for {len(places)} vertices, or not finite")
    except damage(path, *UNREADABLE, ExpatError, BinasciiError) as error:
        raise PerceptError(
            f"{path} is not readable as a surface of fsaverage ({type(error).__name__}: {error}): it is "
            "damaged, or its mesh is another's, so values would be drawn at wrong places. Copy it again, or "
            "remove `dataset.fsaverage` to draw on fsaverage5."
        ) from error
    return places, faces, depth


def _files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Inflated surface and sulci of each hemisphere, in FreeSurfer's layout or nilearn's."""
    layouts = (
        {side: (folder / f"surf/{side}.inflated", folder / f"surf/{side}.sulc") for side in SIDES},
        {
            side: (folder / f"infl_{name}.gii.gz", folder / f"sulc_{name}.gii.gz")
            for side, name in SIDES.items()
        },
    )
    for layout in layouts:
        if all(path.is_file() for pair in layout.values() for path in pair):
            return layout
    wanted = " nor ".join(str(layout["lh"][0]) for layout in layouts)
    raise PerceptError(
        f"`dataset.fsaverage` names {folder}, which holds neither {wanted}: give FreeSurfer's "
        "subjects/fsaverage or the folder into which nilearn.datasets.fetch_surf_fsaverage('fsaverage') "
        "wrote, or remove the setting to draw on fsaverage5."
    )


def draw(surface: dict[str, NDArray], mesh: Mesh, title: str, top: float, path: str | Path) -> None:
    """Draw a map on the inflated surfaces, a row per hemisphere, a column per view, as PNG.

    Parameters
    ----------
    surface : per hemisphere (163842,), NaN where nothing is drawn
    top : the value of the brightest colour; the darkest is 0
    """
    import mpl_toolkits.mplot3d  # noqa: F401 (registers the projection)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.7 * len(VIEWS), 4.9), facecolor="white")
    FigureCanvasAgg(figure)
    for row, side in enumerate(SIDES):
        for column, view in enumerate(VIEWS):
            place = (column / len(VIEWS), 0.4 - 0.44 * row, 1 / len(VIEWS), 0.55)  # squares, overlapping
            _draw_view(figure.add_axes(place, projection="3d"), surface[side], mesh, side, view, top)
    for column, view in enumerate(VIEWS):
        figure.text((column + 0.5) / len(VIEWS), 0.9, view, ha="center", size=9, color=MUTED)
    for row, side in enumerate(SIDES.values()):
        figure.text(0.012, 0.68 - 0.44 * row, side, rotation=90, va="center", size=9, color=MUTED)
    figure.text(0.012, 0.96, title, size=10.5, weight="bold", va="center")
    bar = figure.add_axes((0.72, 0.965, 0.24, 0.02))
    scale = figure.colorbar(ScalarMappable(Normalize(0, top), COLOURS), cax=bar, orientation="horizontal")
    scale.outline.set_visible(False)
    bar.tick_params(length=0, labelsize=8, labelcolor=MUTED)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _draw_view(axes: "Axes3D", values: NDArray, mesh: Mesh, side: str, view: str, top: float) -> None:
    """One hemisphere from one side: sulci in grey, and in colour faces with a vertex that has a value."""
    from nilearn import plotting

    plotting.plot_surf(
        [mesh.coordinates[side], mesh.faces[side]],
        np.clip(values[: mesh.n_vertices], 0, top),
        bg_map=mesh.sulci[side],
        hemi=SIDES[side],
        view=view,
        cmap=COLOURS,
        vmin=0,
        vmax=top,
        bg_on_data=False,
        colorbar=False,
        axes=axes,
        figure=axes.figure,
        engine="matplotlib",
    )
    axes.set_box_aspect(None, zoom=ZOOM)


def write_maps(
    vertices: str | Path, folder: str | Path, title: str, figure: str | Path, fsaverage: str | None = None
) -> None:
    """Draw what `encoding.per_vertex` says of a subject, and write it as GIFTI for each hemisphere.

    The challenge's score is shown where noise ceilings are known, else r.

    Parameters
    ----------
    vertices : parquet of `encoding.per_vertex`
    folder : of `lh.r.func.gii`, `rh.r.func.gii` and, with ceilings, `lh.challenge.func.gii`, ...
    figure : PNG
    """
    table = read_parquet(vertices)
    known = [name for name in ("r", "challenge") if table[name].notna().any()]
    for name in known:
        surface = scattered(table[name].to_numpy(np.float32), table)
        for side, values in surface.items():
            write_gifti(values, side, Path(folder) / f"{side}.{name}.func.gii")
    shown = known[-1] if known else "r"
    mesh = load_mesh(fsaverage)
    words = {"r": "correlation r", "challenge": "% of the noise ceiling"}[shown]
    top = max(float(np.nanpercentile(table[shown], 99)), 1e-3) if known else 1.0
    surface = scattered(table[shown].to_numpy(np.float32), table)
    draw(surface, mesh, f"{title}: {words}, on {mesh.name}", top, figure)
