"""What goes with the weights of a small network: model card, training log, measured quality, manifest."""

import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from percept.backbones import store
from percept.backbones.tiny.trainer import Job, Recipe
from percept.files import write_json, write_text

LOG = "training.csv"
QUALITY = "quality.json"
README = "README.md"
FILES = {LOG, QUALITY, README}  # what a folder holds beside its network
CARD = """---
license: mit
library_name: {library}
---

# {name}

{description}

It ships with Percept so that every stage runs without a download. It knows nothing but Percept's procedural
scenes: {n_categories} categories of flat-shaded objects in {n_places} kinds of place, at 64 pixels.

## Data

{n_train} scenes, drawn by `compose(seed=0, stimulus)` with numbers from 1,000,000 on, reduced from 425 to 64
pixels. Numbers of NSD's stimuli, and of every simulated data set of Percept, are below 73,000: none of them
was trained on. {data}

## Training

{training}

{steps} steps of {batch} scenes in {minutes:.0f} minutes on {machine}. Losses, mean over 100 steps
each; all of them in `{log}`:

{losses}

## Quality

On {n_held_out} held-out scenes (numbers from 2,000,000 on), with the shipped half-precision weights:

{quality}

## How to make it again

```
snakemake tiny_backbones --cores 2
```

writes `results/tiny_backbones/{name}/`; copy that folder to `resources/backbones/{name}/`. On the same
machine with the same versions of the libraries the weights come out the same; elsewhere rounding may differ.
"""


def clear(folder: str | Path) -> None:
    """Empty the folder that a training will fill, so that its manifest lists nothing of an earlier one."""
    for path in Path(folder).glob("*"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def finish(
    job: Job, name: str, recipe: Recipe, history: pd.DataFrame, quality: Mapping[str, float], **texts: str
) -> None:
    """Write training log, quality, model card and, last, the manifest into the folder of a network.

    Parameters
    ----------
    history : as `trainer.fit` returns it
    quality : measured numbers by what they are; names end up in the card, so they are whole phrases
    texts : for the card: library, description, data (what is special about it), training
    """
    folder = Path(job.folder)
    history.round(5).to_csv(folder / LOG, index=False)
    write_json(dict(quality), folder / QUALITY)
    filled = CARD.format(
        name=name,
        n_categories=len({name for names in job.train.objects for name in names}),
        n_places=len(set(job.train.settings)),
        n_train=len(job.train),
        n_held_out=len(job.held_out),
        steps=int(history["step"].iloc[-1]),
        batch=recipe.batch_size,
        minutes=history["seconds"].iloc[-1] / 60,
        machine=machine(),
        losses=markdown(milestones(history)),
        quality="\n".join(f"- {what}: {value:.4g}" for what, value in quality.items()),
        log=LOG,
        **texts,
    )
    write_text(filled, folder / README)
    store.write_manifest(folder, name, revision=job.code or "unversioned", notes={"recipe": asdict(recipe)})


def milestones(history: pd.DataFrame, n: int = 6) -> pd.DataFrame:
    """About `n` rows of a history, the first and the last among them."""
    rows = sorted({round(k * (len(history) - 1) / max(1, n - 1)) for k in range(n)})
    return history.iloc[rows]


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, four digits."""
    rows = [[f"{value:.4g}" for value in row] for row in table.to_numpy(dtype=float)]
    lines = [list(table.columns), ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Processor and libraries, in words."""
    import torch

    threads = torch.get_num_threads()
    plural = "s" if threads > 1 else ""
    return f"{threads} thread{plural} of one {platform.machine()} processor, torch {torch.__version__}"
