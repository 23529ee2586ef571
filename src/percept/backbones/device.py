"""Where tensors are computed."""

from percept.files import PerceptError


def choose(device: str) -> str:
    """The device that a setting stands for: `auto` is a GPU where there is one.

    Raises
    ------
    PerceptError : a GPU was asked for where torch sees none
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PerceptError(
            f"the device {device!r} was asked for, but torch {torch.__version__} sees no GPU here: set "
            "`device: auto` to use the CPU, or run where `nvidia-smi` lists a GPU and torch is built for it."
        )
    return device
