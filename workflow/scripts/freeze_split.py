"""Freeze which images train, validate and test, and write the trial table that says so."""

from pathlib import Path

from percept import config, files, log
from percept.datasets import nsd, splits
from percept.voxels import store

log.to_file(snakemake.log[0])
dataset = config.dataset(snakemake.params.dataset)
settings = config.SplitConfig.model_validate(snakemake.params.split)
subject = snakemake.wildcards.subject
schedule = nsd.schedule(dataset.root, dataset) if isinstance(dataset, config.NativeTree) else None
trials = splits.freeze(files.read_parquet(snakemake.input.shown), settings, subject, schedule)
splits.write(trials, settings, subject, snakemake.output.split)
store.write_trials(Path(snakemake.output.trials).parent, trials)
