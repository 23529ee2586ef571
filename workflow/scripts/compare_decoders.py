"""Compare all decoders and reconstructions of one subject, pair by pair, on the same items."""

from percept import config, files, log
from percept.evaluation import compare, table

log.to_file(snakemake.log[0])
settings = config.EvaluationConfig.model_validate(snakemake.params.evaluation)
items = table.concat([files.read_parquet(path) for path in snakemake.input.per_item], table.ITEM_SCHEMA)
files.write_parquet(compare.compare(items, settings), snakemake.output[0])
