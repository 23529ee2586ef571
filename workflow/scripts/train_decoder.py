"""Train one decoder of one subject, and predict the validation and test images."""

from pathlib import Path

from percept import config, files, log, sweeps
from percept.backbones import device
from percept.datasets import splits
from percept.datasets.twin import faults
from percept.decoders import predict
from percept.targets import store
from percept.voxels import normalise

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
# With what the parameters leave out: how often a training is saved.
named = sweeps.settings_of(snakemake.config, snakemake.wildcards.decoder)
settings = config.plugin("decoders", named)
split = config.SplitConfig.model_validate(snakemake.params.split)
voxels = config.VoxelsConfig.model_validate(snakemake.params.voxels)
trials = files.read_parquet(snakemake.input.trials)
folds = splits.folds(trials, validation=split.validation_fraction > 0)
planted = snakemake.params.dataset.get("faults", ())
rows = faults.apply_statistics(planted, folds[0].train, folds[0].test)
folder = Path(snakemake.input.betas).parent
X, applied = normalise.load_recorded(
    folder, settings.roi, voxels.normalisation, voxels.rois, rows, settings.mask
)
normalise.write_statistics(snakemake.output.normalisation, applied)
names = {
    "decoder": snakemake.wildcards.decoder,
    "subject": snakemake.wildcards.subject,
    "target": settings.target,
}
further = zip(settings.further, map(store.Features, snakemake.input.further), strict=True)
job = predict.Job(
    Path(snakemake.output.predictions).parent, split.test_units, split.train_repeats,
    int(snakemake.wildcards.seed), names, dict(further),
    normalise.selected(folder, settings.roi, voxels.rois), snakemake.params.get("code", ""), settings.fitted,
    next(iter(snakemake.input.get("initial", [])), None),
)  # fmt: skip
with store.open_features(snakemake.input.features) as features:
    predict.train_and_predict(settings, X, trials, folds, features, job)
