"""Put the scores by split of all subjects into one table: long parquet, and a CSV to read."""

import pandas as pd

from percept import files, log
from percept.report import splits

log.to_file(snakemake.log[0])
rows = pd.concat([files.read_parquet(path) for path in snakemake.input], ignore_index=True)
rows = rows[rows["name"].isin(snakemake.params.names)]
files.write_parquet(rows, snakemake.output.parquet)
files.write_text(splits.wide(rows).to_csv(index=False), snakemake.output.csv)
