"""What one batch takes on the device while images are made, counted and not computed.

    python benchmarks/images.py [--batch 1 8] [--side 512]

The autoencoder and the denoising network of Stable Diffusion 1.x (Rombach et al. 2022), built from their
published shapes on fake tensors, which have shapes and no content: gigabytes of intermediate results at the
worst moment, without weights. Memory that single kernels work in is not seen. `percept.preflight` uses it.
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

CHANNELS = (128, 256, 512, 512)
PRECISIONS = (torch.float32, torch.float16)
GUIDED = 2  # rows of a denoising step per image, under guidance


def autoencoder() -> AutoencoderKL:
    """That of latents with four channels, 84 M parameters."""
    n = len(CHANNELS)
    return AutoencoderKL(
        block_out_channels=CHANNELS, layers_per_block=2, norm_num_groups=32,
        down_block_types=("DownEncoderBlock2D",) * n, up_block_types=("UpDecoderBlock2D",) * n,
    )  # fmt: skip


def denoiser() -> UNet2DConditionModel:
    """That of Stable Diffusion 1.x, 860 M parameters."""
    return UNet2DConditionModel(cross_attention_dim=768)


def peak(
    build: Callable[[], torch.nn.Module],
    shapes: Sequence[tuple[int, ...]],
    precision: torch.dtype,
    method: str,
) -> int:
    """Bytes of intermediate results at the worst moment of one call."""
    with FakeTensorMode():
        torch.set_default_dtype(precision)
        network = build().eval()
        inputs = [torch.zeros(shape) for shape in shapes]
        torch.set_default_dtype(torch.float32)
        tracker = MemTracker()
        tracker.track_external(network)
        with tracker, torch.no_grad():
            getattr(network, method)(*inputs)
    found = tracker.get_tracker_snapshot("peak")
    return sum(n for kinds in found.values() for kind, n in kinds.items() if "ACT" in str(kind))


def main() -> None:
    """Print a line for each precision, batch and network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--side", type=int, default=512)
    given = parser.parse_args()
    latent = given.side // 8
    for precision in PRECISIONS:
        for batch in given.batch:
            decoded = peak(autoencoder, [(batch, 4, latent, latent)], precision, "decode")
            rows = GUIDED * batch
            step = [(rows, 4, latent, latent), (rows,), (rows, 77, 768)]
            denoised = peak(denoiser, step, precision, "forward")
            maps = decoded / (batch * 256 * given.side**2 * precision.itemsize)
            print(
                f"{precision}, {batch} x {given.side} px: decoding {decoded / 1e9:.2f} GB ({maps:.2f} maps "
                f"of 256 channels to an image), a guided denoising step {denoised / 1e9:.2f} GB"
            )


if __name__ == "__main__":
    main()
