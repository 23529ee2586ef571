"""Say what the configuration will take, before anything runs; refuse what cannot work."""

import logging
import sys

from percept import config, log
from percept.preflight import run, table

log.to_file(snakemake.log[0])
where, refused = run.places(snakemake.params.partitions)
outlook = run.look(
    config.load(dict(snakemake.config)),
    where,
    run.Fixed(snakemake.params.minutes, snakemake.params.megabytes),
)
print(table.text(outlook), flush=True)
refused += run.refusals(outlook)
for paragraph in refused:
    logging.getLogger("percept").error("%s", paragraph)
if refused:
    sys.exit(f"{len(refused)} things cannot work: see above")
