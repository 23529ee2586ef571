"""List the images of a pool outside the data set, in the order of the embeddings that are given."""

from percept import log
from percept.targets import folder

log.to_file(snakemake.log[0])
folder.write_list(snakemake.input.images, snakemake.output[0])
