"""A trained generator as a folder: its size in config.json, its weights in half precision beside it."""

from dataclasses import asdict
from pathlib import Path

from percept.backbones.gan.generator import Generator, Size
from percept.files import atomic, read_json, write_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save(generator: Generator, folder: str | Path) -> None:
    """Write a generator into a folder, in half precision."""
    from safetensors.torch import save_file

    write_json(asdict(generator.size), Path(folder) / CONFIG)
    half = {name: value.half().contiguous() for name, value in generator.state_dict().items()}
    with atomic(Path(folder) / WEIGHTS) as temporary:
        save_file(half, temporary, metadata={"format": "pt"})


def load(folder: str | Path) -> Generator:
    """The generator of a folder, in evaluation mode, single precision, and without gradients of its own."""
    from safetensors.torch import load_file

    about = read_json(Path(folder) / CONFIG)
    lists = {name: tuple(value) for name, value in about.items() if isinstance(value, list)}
    generator = Generator(Size(**(about | lists)))
    generator.load_state_dict(load_file(Path(folder) / WEIGHTS))
    return generator.float().eval().requires_grad_(False)
