"""Draw how well each vertex is predicted on the cortical surface, and save the maps as GIFTI."""

from pathlib import Path

from percept import log
from percept.voxels import surface

log.to_file(snakemake.log[0])
who, made = snakemake.wildcards, snakemake.output
title = f"{who.subject}, {who.encoding}"
folder = Path(made.maps[0]).parent
surface.write_maps(snakemake.input.vertices, folder, title, made[0], snakemake.params.fsaverage)
