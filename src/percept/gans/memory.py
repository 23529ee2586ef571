"""How much memory a training takes, counted on torch's meta device, where nothing is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from percept.backbones.gan import losses
from percept.backbones.gan.discriminator import Discriminator
from percept.backbones.gan.generator import Generator


@dataclass(frozen=True)
class Estimate:
    """Bytes of a training in float32, but for the network of the conditions and for scratch space.

    ``weights`` of both players; ``rest`` what is as large as they are: gradients, two moments of the
    optimiser, the average of the generator and its best state; ``activations`` what is kept for the backward
    passes of the largest step.
    """

    weights: int
    rest: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes of everything that is counted."""
        return self.weights + self.rest + self.activations


def estimate(generator: Generator, discriminator: Discriminator, batch: int) -> Estimate:
    """What a batch takes; both players lie on the meta device, in training mode."""
    made, judging = _bytes(generator), _bytes(discriminator)
    largest = max(step(generator, discriminator, batch) for step in (_against, _towards))
    return Estimate(made + judging, 3 * (made + judging) + 2 * made, largest)


def _against(generator: Generator, discriminator: Discriminator, batch: int) -> int:
    """The discriminator's step with R1, while the made images keep their graph for the other side."""
    z, c = _inputs(generator, batch)
    with _noting() as kept:
        fake = generator(z, c)
        real = torch.empty_like(fake, requires_grad=True)
        seen, told = discriminator(real).score(c), discriminator(fake.detach()).score(c)
        loss = losses.telling(seen, told) + losses.gradient_penalty(seen, real)
    del loss
    return _counted(kept, generator, discriminator)


def _towards(generator: Generator, discriminator: Discriminator, batch: int) -> int:
    """The generator's step with path lengths, of half a batch."""
    z, c = _inputs(generator, batch)
    with _noting() as kept:
        loss = losses.fooling(discriminator(generator(z, c)).score(c))
        w = generator.mapped(z[: batch // 2])
        images = generator.synthesis(w, c[: batch // 2])
        loss = loss + losses.path_lengths(images, w, torch.empty_like(images)).mean()
    del loss
    return _counted(kept, generator, discriminator)


def _inputs(generator: Generator, batch: int) -> tuple[Tensor, Tensor]:
    size = generator.size
    return torch.empty(batch, size.latent, device="meta"), torch.empty(batch, size.condition, device="meta")


def _bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def _counted(kept: dict[int, torch.UntypedStorage], *players: nn.Module) -> int:
    """Bytes of what is kept beside the weights."""
    known = {
        value.untyped_storage()._cdata  # on the meta device nothing has an address
        for player in players
        for value in player.state_dict().values()
    }
    return sum(storage.nbytes() for address, storage in kept.items() if address not in known)


@contextmanager
def _noting() -> Iterator[dict[int, torch.UntypedStorage]]:
    """Storages saved for a backward pass; they are held, so that no number is given out twice."""
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept
