"""Train one of the small networks and write its folder."""

import importlib
from pathlib import Path

from percept import log
from percept.backbones import device, tiny
from percept.backbones.tiny import data, trainer

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
module, parts = tiny.NETWORKS[snakemake.wildcards.network]
folder = Path(snakemake.output.manifest).parent
job = trainer.Job(
    train=data.load(Path(snakemake.input.train).parent),
    held_out=data.load(Path(snakemake.input.held_out).parent),
    folder=folder,
    work=folder.parent / "work" / folder.name,
    parts={name: folder.parent / name for name in parts},
    code=snakemake.params.code,
)
importlib.import_module(module).train(job)
