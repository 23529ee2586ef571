"""A training step of MindEye at full size: the engine, a plain loop, and what the hardware allows.

    python benchmarks/training.py [step|whole|bound] [--size full|pooled|tiny] [--steps 20]
                                  [--precision bfloat16] [--images 96] [--device auto] [--json file]

step    seconds per step of the engine (`percept.decoders.training.fit`), of a plain loop in the manner of the
        public code (it embeds the images anew in every step with the frozen CLIP ViT-L/14, updates with
        PyTorch's default AdamW and reads the loss back every step), and of the same loop without the CLIP
bound   only the bound: matrix products at the rate measured on this device, plus the traffic of weights,
        gradients and optimiser state at the bandwidth measured on it
whole   the training of one subject-sized set, 8,859 images and 240 epochs, extrapolated from `--steps`

Data are random: a subject of 15,724 voxels, three responses to each image, targets of 257 x 768 in float16.
The network is that of subject 1, 1.0 billion parameters with its prior; `pooled` is the same for targets of
768 numbers, which fits a machine without a GPU. Everything is measured in one run.
"""

import argparse
import json
import logging
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from percept.backbones.device import choose
from percept.decoders.mindeye import MindEyeConfig
from percept.decoders.training.fit import Job, fit
from percept.decoders.training.learner import Data, When

BATCH, REPEATS, IMAGES, EPOCHS = 32, 3, 8859, 240
BYTES = 40  # per parameter and step: AdamW reads 16 and writes 12, the gradient 4, both passes read weights
SIZES = {
    "full": {"n_voxels": 15724, "shape": (257, 768)},
    "pooled": {"n_voxels": 15724, "shape": (768,)},
    "tiny": {"n_voxels": 819, "shape": (64,)},
}
TINY_SETTINGS = {
    "network": {"width": 512, "blocks": 2, "projector_width": 256},
    "prior": {"depth": 2, "heads": 4, "head_width": 16},
}


def made_up(size: dict, n_images: int) -> Data:
    """Responses and targets of a subject, drawn at random."""
    generator = torch.Generator().manual_seed(0)
    voxels = torch.randn(n_images * REPEATS, size["n_voxels"], generator=generator)
    target = torch.randn(n_images, *size["shape"], generator=generator).half()
    trials = torch.arange(n_images * REPEATS).reshape(n_images, REPEATS)
    repeats = torch.full((n_images,), REPEATS)
    return Data(n_images, {"voxels": voxels, "target": target, "trials": trials, "n_trials": repeats})


def settings(args: argparse.Namespace, epochs: int) -> MindEyeConfig:
    """MindEye with its defaults; only the number of epochs, the precision and the device are ours."""
    training = {
        "epochs": epochs, "peak_epochs": min(2, epochs / 2), "batch_size": BATCH, "select": "last",
        "precision": args.precision, "device": args.device, "checkpoint_minutes": 600,
    }  # fmt: skip
    return MindEyeConfig(
        target="clip_tokens", training=training, **(TINY_SETTINGS if args.size == "tiny" else {})
    )


def engine(args: argparse.Namespace, size: dict, data: Data) -> dict[str, float]:
    """Seconds per step of the engine: between the ends of the first and of the last epoch."""
    per_epoch = data.n_rows // BATCH
    epochs = 1 + max(1, -(-args.steps // per_epoch))
    cfg = settings(args, epochs)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        learner = cfg.build(size["n_voxels"], size["shape"])
        outcome = fit(learner, data, None, cfg.training, Job(Path(folder), 0, "benchmark", "mindeye"))
    seconds = outcome.history["seconds"].to_numpy()
    steps = (epochs - 1) * per_epoch
    return {
        "seconds": float((seconds[-1] - seconds[0]) / steps), "steps": steps,
        "peak_memory_mb": outcome.record["peak_memory_mb"], "energy_j": outcome.record["energy_j"],
    }  # fmt: skip


def clip(device: torch.device):
    """The vision tower of CLIP ViT-L/14, with random weights: as fast as the trained one."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        patch_size=14, image_size=224, projection_dim=768,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).to(device).eval().requires_grad_(False)


def plain(args: argparse.Namespace, size: dict, data: Data, embeds: bool) -> dict[str, float]:
    """Seconds per step of a loop as one writes it first, with or without the frozen network inside."""
    import numpy as np

    device = torch.device(choose(args.device))
    learner = settings(args, 2).build(size["n_voxels"], size["shape"]).to(device).train()
    moved = Data(data.n_rows, {name: tensor.to(device) for name, tensor in data.tensors.items()})
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-4, weight_decay=1e-2)
    tower = clip(device) if embeds else None
    images = torch.rand(BATCH, 3, 224, 224, device=device)
    half = getattr(torch, args.precision)
    taken = []
    for step in range(args.plain_steps + 1):
        begun = time.perf_counter()
        rng = np.random.default_rng([0, step])
        rows = torch.as_tensor(rng.permutation(data.n_rows)[:BATCH], device=device)
        when = When(step=step, n_steps=args.plain_steps + 1, steps_per_epoch=1)
        with torch.autocast(device.type, half, enabled=half != torch.float32):
            if tower is not None:
                with torch.no_grad():
                    hidden = tower.vision_model(images).last_hidden_state
                    tower.visual_projection(tower.vision_model.post_layernorm(hidden))
            batch = learner.draw(moved, rows, when, rng)
            loss = learner.loss(learner(batch), batch, when)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
        taken.append(time.perf_counter() - begun)
    return {"seconds": min(taken[1:]), "steps": args.plain_steps}


def bound(args: argparse.Namespace, size: dict) -> dict[str, float]:
    """Seconds that matrix products and memory traffic alone take, one after the other."""
    device = torch.device(choose(args.device))
    with torch.device("meta"):
        learner = settings(args, 2).build(size["n_voxels"], size["shape"])
    n_parameters = sum(one.numel() for one in learner.parameters())
    flops = count_flops(args, size)
    rate, bandwidth = matmul_rate(device, getattr(torch, args.precision)), copy_rate(device)
    products, traffic = flops / rate, BYTES * n_parameters / bandwidth
    return {
        "seconds": products + traffic, "products": products, "traffic": traffic, "parameters": n_parameters,
        "tflop": flops / 1e12, "tflops": rate / 1e12, "gb_per_s": bandwidth / 1e9,
    }  # fmt: skip


def count_flops(args: argparse.Namespace, size: dict) -> float:
    """Operations of a forward and a backward pass of one batch; nothing is computed."""
    import numpy as np

    data = made_up({**size, "n_voxels": size["n_voxels"]}, BATCH)
    learner = settings(args, 2).build(size["n_voxels"], size["shape"]).train()
    when = When(step=0, n_steps=2, steps_per_epoch=1)
    few = 2  # rows that are really computed: every operation but the similarities grows with them
    with FlopCounterMode(display=False) as counter:
        batch = learner.draw(data, torch.arange(few), when, np.random.default_rng(0))
        learner.loss(learner(batch), batch, when)["loss"].backward()
    return counter.get_total_flops() * BATCH / few


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product, the best of several."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / fastest(lambda: a @ b, device)


def copy_rate(device: torch.device) -> float:
    """Bytes per second read and written by a copy larger than any cache."""
    source = torch.randn((1 << 30) // 4 if device.type == "cuda" else (1 << 28) // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / fastest(lambda: target.copy_(source), device)


def fastest(run, device: torch.device, tries: int = 7) -> float:
    """Seconds of the fastest of several runs."""
    taken = []
    for _ in range(tries):
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return min(taken[1:])


def machine(device: torch.device) -> str:
    """What this was measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, {date.today()}"


def report(found: dict[str, dict[str, float]], what: str) -> None:
    """Print seconds and ratios."""
    least = found["bound"]["seconds"]
    for name, one in found.items():
        print(f"{name:>22}: {one['seconds']:9.4f} s a step, {one['seconds'] / least:6.2f} x the bound")
    if what == "whole":
        minutes = found["engine"]["seconds"] * (IMAGES // BATCH) * EPOCHS / 60
        print(f"{'240 epochs of 8,859':>22}: {minutes:9.1f} minutes (from {found['engine']['steps']} steps)")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="?", default="step", choices=("step", "whole", "bound"))
    parser.add_argument("--size", default="full", choices=tuple(SIZES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--plain-steps", type=int, default=5)
    parser.add_argument("--images", type=int, default=0, help="0: 8,859 on a GPU or for `whole`, else 64")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", default=None, help="where checkpoints go (16 GB at full size)")
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    device, size = torch.device(choose(args.device)), SIZES[args.size]
    torch.backends.cuda.matmul.allow_tf32 = True
    found = {"bound": bound(args, size)}
    if args.what != "bound":
        n_images = args.images or (IMAGES if device.type == "cuda" or args.what == "whole" else 2 * BATCH)
        data = made_up(size, n_images)
        found["engine"] = engine(args, size, data)
        if args.what == "step":
            found["plain loop"] = plain(args, size, data, embeds=False)
            found["plain loop with CLIP"] = plain(args, size, data, embeds=True)
    print(machine(device))
    report(found, args.what)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
