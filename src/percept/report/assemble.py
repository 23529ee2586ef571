"""Everything that the page shows, from the files that the stages before it wrote."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from percept.files import read_parquet
from percept.report import figures, interpretation, signals, spec, summary, sweeps, training
from percept.report import splits as by_split
from percept.report.figures import Picture
from percept.voxels.reliability import noise_ceiling

REPEATS = 3  # of an image in NSD
SHEETS = 10_000_000  # bytes of contact sheets that the page holds, as base64
MOST_LABELS = 40  # a confusion matrix of more is no picture


@dataclass(frozen=True)
class Sources:
    """Files of one data set; lists by run go through the subjects, and through `runs` for each of them.

    subjects : their names; runs : "decoder/seed-n"; reconstructions : their names
    voxels, summaries : a file per subject; histories, answers : a file per subject and run
    sheets : per subject a file over all reconstructions, then one of each
    latent_runs : runs whose embeddings were looked at; latents, maps : a table of images, and a map, per
        subject and such run
    analyses : tables of what trained decoders use, of all subjects
    """

    subjects: Sequence[str]
    runs: Sequence[str]
    reconstructions: Sequence[str]
    voxels: Sequence[str]
    summaries: Sequence[str]
    histories: Sequence[str]
    answers: Sequence[str]
    sheets: Sequence[str]
    latent_runs: Sequence[str] = ()
    latents: Sequence[str] = ()
    maps: Sequence[str] = ()
    analyses: Sequence[str] = ()

    def by_run(
        self, paths: Sequence[str], runs: Sequence[str] | None = None
    ) -> Iterator[tuple[str, str, str]]:
        """Subject, run and path of each of `paths`, one for each of `runs`; all of them by default."""
        names = [(subject, run) for subject in self.subjects for run in (self.runs if runs is None else runs)]
        return ((*name, path) for name, path in zip(names, paths, strict=True))


def pictures(
    results: pd.DataFrame, nouns: spec.Words, sources: Sources, labels: Mapping[int, str] | None = None
) -> list[Picture | None]:
    """Figures of the page, in any order; None where the data do not allow one.

    Parameters
    ----------
    results : long table of all evaluations
    labels : stimulus -> name, where the stimuli are labels and not images
    """
    rows = summary.summarise(results)
    drawn = [
        draw(rows, nouns)
        for draw in (
            figures.retrieval_curve,
            figures.decoder_comparison,
            figures.roi_comparison,
            figures.reconstruction_comparison,
        )
    ]
    trained = history(sources)
    drawn += [signals.noise_ceiling(ceilings(sources)), signals.validation_curve(trained)]
    drawn += [training.training_curve(trained, records(sources))]
    drawn += interpretation.pictures(interpretation.read(sources.analyses), nouns.items)
    drawn += [*maps(sources), *latent_maps(sources)]
    return drawn + list(confusions(sources, labels or {}))


def sheets(sources: Sources, folder: str | Path = ".", budget: int = SHEETS) -> list[Picture]:
    """Contact sheets of every subject: over all reconstructions, and of each.

    The page holds those that fit the budget, those over all reconstructions first; the others are links.

    Parameters
    ----------
    folder : of the page, for the links
    """
    if not sources.reconstructions:
        return []
    names = [(subject, name) for subject in sources.subjects for name in (None, *sources.reconstructions)]
    named = list(zip(names, sources.sheets, strict=True))
    shown = []
    for (subject, name), path in sorted(named, key=lambda one: one[0][1] is not None):
        picture = _sheet(subject, name, path)
        budget -= len(picture.uri())
        link = Path(os.path.relpath(path, folder)).as_posix()
        shown.append(picture if budget >= 0 else picture._replace(data=b"", href=link))
    return shown


def _sheet(subject: str, name: str | None, path: str) -> Picture:
    if name is None:
        alt = f"Images seen by {subject} above what each method made of the responses, best to worst."
        return figures.from_sheet("subject_sheet", path, alt, label=subject)
    alt = f"Images seen by {subject} above what {name} made of the responses, best to worst, and controls."
    return figures.from_sheet("reconstructions", path, alt, label=f"{name}, {subject}", method=name)


def ceilings(sources: Sources) -> dict[str, np.ndarray]:
    """Noise ceiling of every voxel, in per cent, for the mean of three repeats: subject -> (voxel,)."""
    tables = {s: read_parquet(path) for s, path in zip(sources.subjects, sources.voxels, strict=True)}
    return {
        subject: 100 * noise_ceiling(table["ncsnr"].to_numpy(np.float64), REPEATS)
        for subject, table in tables.items()
    }


def curves(sources: Sources, decoders: Sequence[str]) -> Picture | None:
    """How the networks among some decoders were trained."""
    names = {run.removesuffix("/seed-0") for run in sources.runs if run.split("/")[0] in decoders}
    trained = history(sources)
    told = [record for record in records(sources) if record["decoder"] in names]
    return training.training_curve(trained[trained["decoder"].isin(names)], told)


def history(sources: Sources) -> pd.DataFrame:
    """Training histories with the columns decoder and subject; a seed is part of the decoder's name."""
    parts = [
        read_parquet(path).assign(decoder=run.removesuffix("/seed-0"), subject=subject)
        for subject, run, path in sources.by_run(sources.histories)
    ]
    return pd.concat(parts, ignore_index=True)


def records(sources: Sources) -> list[dict[str, Any]]:
    """What each training of a network took, with whose it is; empty for decoders that are solved."""
    return [
        {"decoder": run.removesuffix("/seed-0"), "subject": subject, **record}
        for subject, run, path in sources.by_run(sources.histories)
        for record in read_parquet(path).attrs.get("training", [])
    ]


def maps(sources: Sources) -> Iterator[Picture]:
    """Where the voxels of each subject are."""
    for subject, path in zip(sources.subjects, sources.summaries, strict=True):
        alt = f"Voxels per ROI set and map of the signal-to-noise ratio of {subject}."
        yield figures.from_png("voxel_map", path, alt, label=subject)


def latent_maps(sources: Sources) -> Iterator[Picture]:
    """Where the test images of each subject lie by what was decoded of them, a map per run."""
    pairs = zip(sources.by_run(sources.latents, sources.latent_runs), sources.maps, strict=True)
    for (subject, run, path), picture in pairs:
        images, decoder = read_parquet(path), run.removesuffix("/seed-0")
        alt = f"Test images of {subject} laid out by what {decoder} decoded from the responses to them."
        told = "the kind of the main object" if images["group"].notna().all() else "clusters"
        fills = {"label": f"{decoder}, {subject}", "colours": told, "kept": f"{images['kept'].iloc[0]:.0%}"}
        fills["decoder"] = run.split("/")[0]
        yield figures.from_sheet("latent_map", picture, alt, **fills)


def surfaces(names: Sequence[tuple[str, str]], paths: Sequence[str]) -> Iterator[Picture]:
    """How well each vertex is predicted; `names` are the subject and the encoding model of each path."""
    for (subject, encoding), path in zip(names, paths, strict=True):
        alt = f"Inflated cortex of {subject}: how well {encoding} predicts each vertex."
        yield figures.from_png("surface_map", path, alt, label=f"{subject}, {encoding}")


def confusions(sources: Sources, labels: Mapping[int, str]) -> Iterator[Picture | None]:
    """What is taken for what, over all subjects, a matrix per run; for label data alone."""
    if not 2 <= len(labels) <= MOST_LABELS:
        return
    stimuli = sorted(labels)
    names = [labels[stimulus] for stimulus in stimuli]
    answers = pd.concat(
        [read_parquet(path).assign(name=run) for _, run, path in sources.by_run(sources.answers)]
    )
    for (run, unit), own in answers.groupby(["name", "unit"], sort=False):
        true, answered = (np.searchsorted(stimuli, own[column]) for column in ("stimulus", "answer"))
        yield signals.confusion(
            signals.confusions(true, answered, names), f"{run.removesuffix('/seed-0')}, {unit}"
        )


def tables(
    splits: Sequence[str], sweeps_: Sequence[str], grids: Mapping[str, sweeps.Grid], nouns: spec.Words
) -> dict[str, list[dict[str, Any]]]:
    """Section of the page -> its plain tables: scores by split, and one table per sweep.

    Parameters
    ----------
    splits, sweeps_ : long tables, of all methods (none or one file) and of each of `grids`
    nouns : what the subjects are called
    """
    found = {"splits": [by_split.table(read_parquet(path), nouns) for path in splits]}
    found["sweeps"] = [
        sweeps.text_table(name, read_parquet(path), grids[name])
        for name, path in zip(grids, sweeps_, strict=True)
    ]
    return {section: shown for section, shown in found.items() if shown}


def swept(grids: Mapping[str, sweeps.Grid], paths: Sequence[str]) -> list[Picture]:
    """The figure of each sweep."""
    return [
        Picture("sweep", Path(path).read_bytes(), "image/svg+xml", _of_sweep(name, grid), {"label": name})
        for (name, grid), path in zip(grids.items(), paths, strict=True)
    ]


def _of_sweep(name: str, grid: sweeps.Grid) -> str:
    return f"Losses and scores of the {len(grid)} decoders of the sweep {name}."


def read_tables(paths: Sequence[str | Path]) -> pd.DataFrame:
    """The tables of all subjects, such as their audits, as one."""
    return pd.concat([read_parquet(path) for path in paths], ignore_index=True)
