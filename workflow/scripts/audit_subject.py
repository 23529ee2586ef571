"""Audit one subject: its data once, then every decoder that was trained on them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from percept import config, files, log
from percept.evaluation import audit, duplicates, run
from percept.evaluation.audit_data import Recorded
from percept.evaluation.evidence import of_run
from percept.targets import sources
from percept.voxels import normalise, roi, store

log.to_file(snakemake.log[0])
params, given = snakemake.params, snakemake.input
folder = Path(given.betas).parent
trials, voxels = store.read_trials(folder), store.read_voxels(folder)
source = sources.source(config.dataset(params.dataset))
stimuli = sorted(trials["stimulus"].unique())
reliable = voxels["ncsnr"].fillna(0).nlargest(2000).index.sort_values()
about = audit.Evidence(
    snakemake.wildcards.subject,
    trials=trials,
    pictures=duplicates.of_source(source, stimuli),
    betas=store.read_betas(folder, columns=reliable, raw=True),
    permutations=params.evaluation["permutations"],
)


def evidence() -> Iterator[audit.Evidence]:
    """Of one run after the other: only one is held at a time."""
    each = zip(params.runs, given.predictions, given.features, given.scores, given.normalisation, strict=True)
    for name, predictions, features, scores, normalisation in each:
        inside = roi.select(voxels, params.decoders[name.split("/")[0]]["roi"], params.voxels["rois"])
        applied = normalise.read_statistics(normalisation)
        recorded = Recorded(applied.how, applied.mean, applied.sd)
        own = replace(about, betas=store.read_betas(folder, columns=inside, raw=True), recorded=recorded)
        found = run.read(predictions, features, params.units, trials)
        yield from of_run(found, own, name, files.read_parquet(scores))


files.write_parquet(audit.audit_subject(about, evidence()), snakemake.output[0])
