"""Self-supervision on responses (DINO; Caron et al. 2021), and a linear probe of what it learned.

An encoder is trained without any target: views of the responses to one training image should get one answer.
Then it is frozen, and ridge regression maps its features to the target. What it predicts is scored like any
decoder's, so that the probe stands beside ridge on raw voxels, from the same data.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from percept.config import DecoderConfig
from percept.decoders.initial import hidden
from percept.decoders.networks.dino_settings import DinoLosses, DinoNetwork, DinoTraining, DinoViews, Probe
from percept.decoders.ridge import RidgeConfig
from percept.decoders.task import Block, Task
from percept.decoders.units import average
from percept.decoders.weights import ENCODER, Shapes
from percept.files import PerceptError, hash_text
from percept.voxels import roi

if TYPE_CHECKING:
    from percept.decoders.networks.dino import Dino
    from percept.decoders.training.job import Job, Outcome

log = logging.getLogger(__name__)
PROBE = "probe."  # what the names of its saved weights begin with


class DinoConfig(DecoderConfig):
    """Self-supervised encoder of responses (DINO; Caron et al. 2021) with a linear probe."""

    unit: ClassVar[Literal["average", "single"] | None] = "single"  # repeats are views of their image
    # Its encoder has seen all training responses, without their targets: no fold is unseen.
    cross_validates: ClassVar[bool] = False
    pretrains: ClassVar[bool] = True
    harmless: ClassVar[Mapping[str, frozenset[str]]] = {"training": DinoTraining.harmless}

    kind: Literal["dino"] = "dino"
    network: DinoNetwork = DinoNetwork()
    views: DinoViews = DinoViews()
    losses: DinoLosses = DinoLosses()
    training: DinoTraining = DinoTraining()
    probe: Probe = Probe()
    weights: Literal["float32", "float16"] = Field("float32", description="Precision of the saved weights.")

    @property
    def n_gpus(self) -> int:
        """GPUs that training asks a cluster for."""
        return self.training.n_gpus

    @property
    def note(self) -> str:
        """What the table says of it."""
        return "linear probe of " + (
            "a self-supervised encoder" if self.training.epochs else "an encoder that was never trained"
        )

    @property
    def encoder(self) -> dict[str, Any]:
        """Hidden layers, which a decoder that begins with them has to share."""
        return hidden(self.network)

    @property
    def _ridge(self) -> RidgeConfig:
        return RidgeConfig(
            target=self.target, device=self.training.device, weights=self.weights, **self.probe.model_dump()
        )

    def tensors(self, n_voxels: int, shape: tuple[int, ...]) -> Shapes:
        """Saved weights: the teacher's encoder, without its head, and the probe."""
        import torch

        from percept.decoders.training import answers

        with torch.device("meta"):
            encoder = answers.shapes(self.build(n_voxels).encoder, self.weights)
        probe = self._ridge.tensors(self.network.width, shape)
        return _named(ENCODER, encoder) | _named(PROBE, probe)

    def build(self, n_voxels: int, task: Task | None = None) -> "Dino":
        """Student and teacher before training, for responses (row, voxel), and the views of a task."""
        from percept.decoders.networks.dino import Dino

        return Dino(n_voxels, self, None if task is None else self._around(task))

    def _around(self, task: Task) -> Any:  # noqa: ANN401 (a class of a module that imports torch)
        from percept.decoders.networks.dino import Surroundings
        from percept.decoders.networks.dino_views import estimate_noise

        noise = estimate_noise(task.X, task.stimulus, self.views.noise_rank) if self.views.noise else None
        return Surroundings(regions(task, self.views.regions), noise)

    def train(self, task: Task, seed: int) -> Iterator[Block]:
        """Train the encoder, or go on where that was interrupted; then fit the probe, and predict."""
        from percept.decoders.training import answers

        learner = answers.initialised(lambda: self.build(task.X.shape[1], task), seed)
        outcome = self._pretrain(learner, task, seed)
        weights = _named(ENCODER, answers.state(learner.encoder))
        told = _told(task, outcome)
        for block in self._ridge.train(self._probed(learner, task), seed):
            first = block.columns.start == 0
            tensors = _named(PROBE, block.tensors if first else _of_columns(block.tensors))
            yield replace(
                block,
                out_of_fold=None,
                tensors=tensors | (weights if first else {}),
                history=(told["history"] if first else []) + block.history,
                record=told["record"] if first else {},
            )

    def _pretrain(self, learner: "Dino", task: Task, seed: int) -> "Outcome | None":
        """What came of the training; None where there is none."""
        from percept.decoders.training import resident
        from percept.decoders.training.fit import fit

        if not self.training.epochs:
            return None
        data = resident.training(task), resident.validation(task)
        return fit(learner, *data, self.training, self.job(learner, task, seed))

    def job(self, learner: "Dino", task: Task, seed: int) -> "Job":
        """Where its checkpoints are, and what they belong to: also which voxels are which region."""
        from percept.decoders.training import answers

        plain = answers.job(self, task, seed)
        seen = hashlib.sha256(learner.members.cpu().numpy().tobytes()).hexdigest()
        return replace(plain, identity=hash_text(plain.identity + seen, 64))

    def _probed(self, learner: "Dino", task: Task) -> Task:
        """The task of the probe: features instead of voxels, of the rows that ridge would have."""
        embed = partial(self.embed, learner)
        X, stimulus, groups = averaged(task)
        return replace(
            task,
            X=embed(X),
            stimulus=stimulus,
            groups=groups,
            evaluate={name: embed(rows) for name, rows in task.evaluate.items()},
        )

    def embed(self, learner: "Dino", X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (row, width) of responses (row, voxel)."""
        from percept.decoders.training import answers

        with answers.arithmetic(learner, self.training.precision):
            return learner.embed(X)

    def rebuilt(
        self, saved: Mapping[str, NDArray], n_voxels: int
    ) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """What predicts flat targets (row, dim) from responses of `n_voxels`, made of saved tensors.

        Raises
        ------
        RuntimeError : the tensors are of an encoder of other settings
        """
        import torch

        from percept.decoders.training import answers

        learner = self.build(n_voxels)
        encoder = {name: torch.from_numpy(one) for name, one in _part(saved, ENCODER).items()}
        answers.fill(learner.encoder, encoder)
        probe = {name.replace("feature_", "voxel_"): one for name, one in _part(saved, PROBE).items()}
        weights, intercept = self._ridge.linear(probe)
        return lambda X: self.embed(learner, X) @ weights + intercept


def averaged(task: Task) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray]:
    """Mean training responses (row, voxel) to each image within each group, its image and its group.

    Where groups are images, as in a fixed split, that is a row per image; where runs are left out, a row per
    run and image: what a decoder of average responses is trained on.
    """
    keys = np.stack([np.unique(task.groups, return_inverse=True)[1], task.stimulus])
    _, first, code = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    X = average(task.X, np.arange(len(task.X)), code.ravel(), len(first))
    return X, task.stimulus[first], task.groups[first]


def regions(task: Task, labels: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which voxels belong to which region, (region, voxel); an atlas stands for each of its labels.

    Raises
    ------
    PerceptError : an atlas or a label that the voxel table does not know, or labels that no voxel has
    """
    table, n_voxels = task.voxels, task.X.shape[1]
    if not labels:
        return np.zeros((0, n_voxels), dtype=bool)
    if table is None:
        raise PerceptError(
            "views should lack regions (`views.regions`), but nothing is known of the voxels: give their "
            "table, or name no regions."
        )
    named: list[str] = []
    for label in labels:
        atlas, name = roi.split_label(label)
        roi.members(table, [label])  # refuses what is unknown
        carried = table[roi.column(atlas)].dropna().unique() if name is None else [name]
        named += [f"{atlas}:{each}" for each in sorted(carried)]
    found = [roi.members(table, [label]) for label in dict.fromkeys(named)]
    found = [one for one in found if task.X[:, one].any()]  # not of regions that a mask leaves nothing of
    if not found:
        raise PerceptError(
            f"none of the {n_voxels} voxels carries a label of `views.regions` ({', '.join(labels)}), so no "
            "view could lack a region: name labels of the ROI set that is decoded, or none."
        )
    return np.array(found, dtype=bool)


def _named(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors under the names of their part; features, not voxels, are what the probe standardises."""
    return {prefix + name.replace("voxel_", "feature_"): one for name, one in tensors.items()}


def _part(saved: Mapping[str, NDArray], prefix: str) -> dict[str, NDArray]:
    """The tensors of one part, under the names that they have there."""
    return {name.removeprefix(prefix): one for name, one in saved.items() if name.startswith(prefix)}


def _of_columns(tensors: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Those of a block that belong to its columns; the scale of the features came with the first block."""
    return {name: one for name, one in tensors.items() if not name.startswith("voxel_")}


def _told(task: Task, outcome: "Outcome | None") -> dict[str, Any]:
    """History and record of the training; a collapse is warned of and recorded."""
    from percept.backbones.distillation import collapse
    from percept.decoders.training import answers

    if outcome is None:
        return {"history": [], "record": {}}
    history, record = answers.history(outcome), dict(outcome.record)
    looked = [row for row in history if row.get("validation_divergence") == row.get("validation_divergence")]
    last = {
        name: looked[-1][f"validation_{name}"]
        for name in ("entropy", "divergence")
        if looked and f"validation_{name}" in looked[-1]
    }
    if last and (how := collapse(last)):
        record["note"] = f"collapsed: all responses get the same answer ({how})"
        log.warning(
            "%s: the self-supervised training collapsed (%s: entropy %.3f, divergence %.4f of the largest "
            "possible): its features are those of an encoder that was trained for nothing. Lower "
            "`training.learning_rate`, raise `losses.momentum`, or choose other temperatures in `losses`",
            task.name, how, last["entropy"], last["divergence"],
        )  # fmt: skip
    return {"history": history, "record": record}
