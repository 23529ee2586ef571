"""How a network is trained; nothing here imports torch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from percept.sections import Fraction, Precision, Section

Schedule = Literal["one_cycle", "steps"]


class TrainingConfig(Section):
    """How a network is trained: AdamW and the course of its learning rate (defaults: Scotti et al. 2023)."""

    # Settings that change nothing about what comes of a training: it is not repeated because of them.
    harmless: ClassVar[frozenset[str]] = frozenset({"checkpoint_minutes", "tensorboard"})

    epochs: PositiveInt = Field(240, description="Passes over the training images.")
    batch_size: PositiveInt = Field(32, description="Images per step, over all devices together.")
    learning_rate: PositiveFloat = Field(3e-4, description="Highest learning rate.")
    schedule: Schedule = Field(
        "one_cycle",
        description="Course of the learning rate: one_cycle rises and falls along cosines; steps starts at "
        "`learning_rate` and multiplies it by `step_factor` every `step_epochs`.",
    )
    step_epochs: PositiveInt = Field(10, description="Epochs between two falls (schedule steps).")
    step_factor: Fraction = Field(0.8, description="What a fall multiplies the learning rate by.")
    peak_epochs: NonNegativeFloat = Field(2.0, description="Epochs until the learning rate is highest.")
    warmup: Fraction | None = Field(
        None,
        description="Share of the training until the learning rate is highest, in place of `peak_epochs`, "
        "which then plays no part; null goes by `peak_epochs`.",
    )
    start_divisor: Annotated[float, Field(ge=1)] = Field(
        25.0, description="The first learning rate is the highest one divided by this."
    )
    end_divisor: Annotated[float, Field(ge=1)] = Field(
        1000.0, description="The last learning rate is the first one divided by this."
    )
    cycle_momentum: bool = Field(
        True, description="Beta1 of AdamW falls from 0.95 to 0.85 while the learning rate rises, and back."
    )
    weight_decay: NonNegativeFloat = Field(1e-2, description="Decoupled weight decay.")
    decayed: Literal["matrices", "all_but_biases"] = Field(
        "matrices",
        description="What decays: tensors of two and more axes, or (all_but_biases) also the gains of "
        "normalisation layers, which MindEye's code did not mean to include but does.",
    )
    gradient_clip: PositiveFloat | None = Field(
        None, description="Largest norm of the gradient; null does not clip."
    )
    ema: Fraction | None = Field(
        None, description="Decay of an average of the weights, which then is what is validated and kept."
    )
    precision: Precision = Field(
        "float32",
        description="Arithmetic of the forward and backward pass; weights stay float32. float16 scales the "
        "loss against underflow.",
    )
    devices: PositiveInt = Field(
        1, description="GPUs that share each batch; on the CPU, processes. Divides batch_size."
    )
    device: str = Field("auto", description="auto (a GPU where there is one), cpu, cuda, cuda:1, ...")
    chunk: PositiveInt | None = Field(
        None,
        description="Rows per forward pass, where a whole batch does not fit in memory: the gradient is the "
        "same, at the price of a second forward pass. null computes the batch at once.",
    )
    checkpoint_minutes: PositiveFloat = Field(
        10.0, description="Minutes between checkpoints; one is also written at a signal and at the end."
    )
    select: Literal["validation", "last"] = Field(
        "validation", description="Which weights are kept: the best on the validation images, or the last."
    )
    patience: PositiveInt | None = Field(
        None, description="Validations in a row without a better one that stop the training; null never does."
    )
    validate_every: PositiveInt = Field(1, description="Epochs between validations.")
    tensorboard: bool = Field(
        False, description="Also write the history for TensorBoard (needs the package tensorboard)."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingConfig":
        if self.schedule == "one_cycle" and self.epochs and self.rise >= 1:  # no epochs have no peak
            raise ValueError(
                f"the learning rate cannot be highest after {self.peak_epochs:g} of {self.epochs} epochs: "
                "set `peak_epochs` to less than `epochs`"
            )
        if self.batch_size % self.devices:
            raise ValueError(
                f"{self.devices} devices cannot share {self.batch_size} images evenly: set `batch_size` to a "
                f"multiple of {self.devices}"
            )
        return self

    @property
    def rise(self) -> float:
        """Share of the training in which the learning rate rises, below 1."""
        return self.peak_epochs / self.epochs if self.warmup is None else self.warmup

    @property
    def n_gpus(self) -> int:
        """GPUs that a cluster is asked for: none on the CPU."""
        return 0 if self.device == "cpu" else self.devices
