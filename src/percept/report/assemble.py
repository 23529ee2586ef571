"""Everything that the page shows, from the files that the stages before it wrote."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from percept.files import read_parquet
from percept.report import figures, signals, spec, summary
from percept.report.figures import Picture
from percept.voxels.reliability import noise_ceiling

REPEATS = 3  # of an image in NSD
MOST_LABELS = 40  # a confusion matrix of more is no picture


@dataclass(frozen=True)
class Sources:
    """Files of one data set; lists by run go through the subjects, and through `runs` for each of them.

    subjects : their names; runs : "decoder/seed-n"; reconstructions : their names
    voxels, summaries : a file per subject; histories, answers : a file per subject and run
    sheets : a file per subject and reconstruction
    """

    subjects: Sequence[str]
    runs: Sequence[str]
    reconstructions: Sequence[str]
    voxels: Sequence[str]
    summaries: Sequence[str]
    histories: Sequence[str]
    answers: Sequence[str]
    sheets: Sequence[str]

    def by_run(self, paths: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Subject, run and path of each of `paths`."""
        names = [(subject, run) for subject in self.subjects for run in self.runs]
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
    drawn += [signals.noise_ceiling(ceilings(sources)), signals.validation_curve(history(sources))]
    return drawn + list(maps(sources)) + list(confusions(sources, labels or {}))


def sheets(sources: Sources) -> list[Picture]:
    """Contact sheets of every reconstruction and subject."""
    names = [(subject, name) for subject in sources.subjects for name in sources.reconstructions]
    return [
        figures.from_png(
            "reconstructions",
            path,
            f"Images seen by {subject} above what {name} made of the responses, best to worst.",
            label=f"{name}, {subject}",
        )
        for (subject, name), path in zip(names, sources.sheets, strict=True)
    ]


def ceilings(sources: Sources) -> dict[str, np.ndarray]:
    """Noise ceiling of every voxel, in per cent, for the mean of three repeats: subject -> (voxel,)."""
    tables = {s: read_parquet(path) for s, path in zip(sources.subjects, sources.voxels, strict=True)}
    return {
        subject: 100 * noise_ceiling(table["ncsnr"].to_numpy(np.float64), REPEATS)
        for subject, table in tables.items()
    }


def history(sources: Sources) -> pd.DataFrame:
    """Training histories with the columns decoder and subject; a seed is part of the decoder's name."""
    parts = [
        read_parquet(path).assign(decoder=run.removesuffix("/seed-0"), subject=subject)
        for subject, run, path in sources.by_run(sources.histories)
    ]
    return pd.concat(parts, ignore_index=True)


def maps(sources: Sources) -> Iterator[Picture]:
    """Where the voxels of each subject are."""
    for subject, path in zip(sources.subjects, sources.summaries, strict=True):
        alt = f"Voxels per ROI set and map of the signal-to-noise ratio of {subject}."
        yield figures.from_png("voxel_map", path, alt, label=subject)


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


def read_audit(paths: Sequence[str | Path]) -> pd.DataFrame:
    """The audits of all subjects."""
    return pd.concat([read_parquet(path) for path in paths], ignore_index=True)
