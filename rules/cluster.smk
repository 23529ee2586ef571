# What a run on a cluster needs before its first job; nothing where jobs run on this machine.
from snakemake.logging import logger

import slurm_guard


onstart:
    slurm_guard.prepare(workflow, logger, most_gpus())
