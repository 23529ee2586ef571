"""Caching the features of images: `encode_to` against the bare forward pass of the same network.

    python benchmarks/caching.py [--images 192] [--repeats 3] [--only ViT-B-32] [--device cpu] [--json file]

Bare: preprocessed tensors in memory, the network, its answer as float32 on the CPU; nothing is read, resized
or written. Caching: images of NSD's size (425 x 425) are read from a file like NSD's, digested, resized,
encoded, checked, written and flushed, and the index is made. Both run in turn in one process with the same
batches and threads; the rate is that of the fastest repetition, since other work on the machine only slows.
The ratio of the CPU seconds says how it would be if nothing of the rest ran beside the network: what a CPU
whose cores are all busy with the network can reach. Networks have random weights, as fast as trained ones.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from percept.backbones import image
from percept.datasets import nsd_keys
from percept.targets import encode, open_clip
from percept.targets.open_clip import OpenClipConfig

SIZE, BUDGET = 425, 0.95
TINY = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 6, "width": 192, "head_width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1},
}
NETWORKS = {"tiny": 64, "ViT-B-32": 64, "ViT-L-14": 32}  # with their batch sizes


def write_images(root: Path, n_images: int) -> None:
    """The file of the stimuli as NSD has it: uint8, not compressed, so that reading is copying."""
    path = root / nsd_keys.STIMULI
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("imgBrick", (n_images, SIZE, SIZE, 3), np.uint8)
        for row in range(n_images):
            data[row] = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def settings(name: str, folder: Path, device: str) -> OpenClipConfig:
    """The target whose features are cached."""
    architecture = name
    if name == "tiny":
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
        architecture = f"local-dir:{folder}"
    return OpenClipConfig(
        architecture=architecture, weights="random:0", batch_size=NETWORKS[name], device=device
    )


def bare(encoder: image.ImageEncoder, batches: list) -> None:
    """The forward pass on tensors that are ready."""
    import torch

    with torch.inference_mode():
        for batch in batches:
            encoder.tower(batch.to(encoder.device)).float().cpu().numpy()


def prepared(encoder: image.ImageEncoder, source: encode.NativeSource, ids: list) -> list:
    """What the network reads, in memory."""
    import torch

    with torch.inference_mode():
        crops = ([encoder.preprocessing.crop(one) for one in source.images(batch)] for batch in ids)
        return [encoder.preprocessing.scale(torch.from_numpy(np.stack(batch))) for batch in crops]


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one run."""
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - start_cpu


def measure(name: str, root: Path, n_images: int, repeats: int, device: str) -> dict:
    """Rates of both ways, images per second, in turn."""
    folder = root / name
    folder.mkdir()
    cfg, source = settings(name, folder, device), encode.NativeSource(root)
    stimuli = np.arange(n_images, dtype=np.int32)
    cfg.fingerprint(source, stimuli)  # loads the network, and keeps it
    encoder = open_clip._encoder(cfg.architecture, cfg.weights, cfg.device)
    batches = prepared(encoder, source, encode.batches_of(stimuli, cfg.batch_size))
    fingerprint = cfg.fingerprint(source, stimuli)

    class Ready(OpenClipConfig):
        """The fingerprint hashes all weights once per target, whatever the number of images."""

        def fingerprint(self, *_: object) -> dict:
            return fingerprint

    def cache() -> None:
        target = Ready(**cfg.model_dump())
        encode.encode_to(folder / "cached" / "index.json", name, target, source, stimuli)

    bare(encoder, batches[:1])
    times: dict[str, list[tuple[float, float]]] = {"bare": [], "caching": []}
    for _ in range(repeats):
        times["bare"].append(seconds(lambda: bare(encoder, batches)))
        shutil.rmtree(folder / "cached", ignore_errors=True)
        times["caching"].append(seconds(cache))
    (wall, cpu), (wall_cached, cpu_cached) = (np.min(times[way], axis=0) for way in ("bare", "caching"))
    return {
        "batch": cfg.batch_size,
        "bare": n_images / wall,
        "caching": n_images / wall_cached,
        "ratio": wall / wall_cached,
        "cpu_ratio": cpu / cpu_cached,
        "seconds": times,
    }


def describe() -> dict:
    """The machine and what else it was doing."""
    import torch

    cpu = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu[0] if cpu else platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "packages": {name: version(name) for name in ("torch", "open_clip_torch", "numpy", "h5py", "pillow")},
    }


def show(about: dict, rows: dict[str, dict], n_images: int) -> None:
    """Print the table and the verdicts."""
    print(
        f"{n_images} images of {SIZE} x {SIZE}; {about['date']}; {about['machine']}; GPU {about['gpu']}; "
        f"{about['threads']} threads of torch; load before: {about['load']:.1f}"
    )
    print(*(f"{name} {number}" for name, number in about["packages"].items()))
    print(f"{'network':12}{'batch':>7}{'bare, images/s':>16}{'caching':>10}{'ratio':>8}{'CPU ratio':>11}")
    for name, row in rows.items():
        print(
            f"{name:12}{row['batch']:7d}{row['bare']:16.1f}{row['caching']:10.1f}{row['ratio']:8.3f}"
            f"{row['cpu_ratio']:11.3f}"
        )
    for name, row in rows.items():
        kept = "kept  " if row["ratio"] >= BUDGET else "MISSED"
        print(kept, f"{name}: at least {BUDGET:.0%} of the bare forward rate")


def main() -> int:
    """Write the images, measure, print; 1 where a budget is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=192, help="images per repetition")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=["tiny", "ViT-B-32"])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    about = describe()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), given.images)
        rows = {
            name: measure(name, Path(folder), given.images, given.repeats, given.device)
            for name in given.only
        }
    show(about, rows, given.images)
    if given.json:
        given.json.write_text(json.dumps({**about, "networks": rows}, indent=2) + "\n")
    return 0 if all(row["ratio"] >= BUDGET for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
