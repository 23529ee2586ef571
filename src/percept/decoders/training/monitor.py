"""What a training costs: time, memory, energy."""

import ctypes
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

RAPL = Path("/sys/class/powercap")
MB = 1e6


@dataclass
class Meter:
    """Costs so far, over all the processes that a training was resumed in.

    seconds : of steps, without validation and checkpoints; wall : with them
    samples : rows of all batches; joules : None where energy cannot be read
    """

    device: torch.device
    seconds: float = 0.0
    wall: float = 0.0
    samples: int = 0
    joules: float | None = 0.0
    _stepping: float = 0.0  # when steps, and the training, were last timed
    _running: float = 0.0
    _energy: float | None = None

    def __post_init__(self) -> None:
        self._energy = energy(self.device)
        self._stepping = self._running = time.monotonic()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def tick(self) -> None:
        """Add what has passed since the last tick."""
        now, used = time.monotonic(), energy(self.device)
        self.seconds += now - self._stepping
        self.wall += now - self._running
        if self.joules is not None and used is not None and self._energy is not None:
            self.joules += max(0.0, used - self._energy)  # a counter of RAPL starts again from 0
        else:
            self.joules = None
        self._stepping = self._running = now
        self._energy = used

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time inside the block is not that of steps."""
        self.tick()
        try:
            yield
        finally:
            self._stepping = time.monotonic()

    def state(self) -> dict[str, float | int | None]:
        """What a checkpoint holds."""
        return {"seconds": self.seconds, "wall": self.wall, "samples": self.samples, "joules": self.joules}

    def load(self, state: dict[str, float | int | None]) -> None:
        """Continue from a checkpoint."""
        for name, value in state.items():
            setattr(self, name, value)

    def record(self) -> dict[str, float | None]:
        """Peak memory, samples per second, seconds, energy."""
        return {
            "peak_memory_mb": round(peak_memory(self.device) / MB, 1),
            "samples_per_s": round(self.samples / self.seconds, 2) if self.seconds else 0.0,
            "seconds": round(self.wall, 3),
            "energy_j": None if self.joules is None else round(self.joules, 1),
        }


def peak_memory(device: torch.device) -> int:
    """Bytes: of tensors on a GPU since the training began, of the whole process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def energy(device: torch.device) -> float | None:
    """Joules counted so far by the GPU, or by the sockets of the processor with all that runs on them.

    None where the counter is absent or not readable (most systems let only root read the processor's).
    """
    return _gpu_energy(device) if device.type == "cuda" else _cpu_energy(RAPL)


def _cpu_energy(folder: Path) -> float | None:
    try:
        counters = [int(path.read_text()) for path in sorted(folder.glob("intel-rapl:?/energy_uj"))]
    except OSError:
        return None
    return sum(counters) / 1e6 if counters else None


def _gpu_energy(device: torch.device) -> float | None:
    """Read by NVML, found by the GPU's identity: CUDA's numbers are not NVML's."""
    name = f"GPU-{getattr(torch.cuda.get_device_properties(device), 'uuid', '')}"
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    calls = (
        lambda: nvml.nvmlInit_v2(),
        lambda: nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle)),
        lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)),
    )
    return millijoules.value / 1e3 if all(call() == 0 for call in calls) else None
