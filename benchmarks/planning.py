"""What planning and scheduling cost, and how that grows with the plan.

    python benchmarks/planning.py plan     [--config config/nsd.yaml] [--repeats 5]
    python benchmarks/planning.py growth   [--seeds 1 3 5] [--repeats 3]
    python benchmarks/planning.py start    [--repeats 3]
    python benchmarks/planning.py overhead [--jobs 20 100]
    python benchmarks/planning.py run      [--config config/experiments/tiny.yaml]

plan      seconds of `snakemake all -n` to the list of jobs, in a fresh process, imports included; nothing of
          the data is needed. Jobs, files, and how much of it is Snakemake's own start (`snakemake --version`)
growth    the same for all of NSD with every decoder and sweep of the shipped configurations, each network
          with some number of seeds
start     seconds until the script of each rule that needs no torch has imported what it imports
overhead  jobs that do nothing, one after the other: wall seconds that Snakemake takes for each, and the files
          of metadata that it keeps of them
run       a small twin as a whole, in a copy of the checkout: wall seconds beyond those of its jobs, per job

CPU seconds stand beside wall seconds, because other work on the machine disturbs them less.
"""

import argparse
import csv
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
BUDGET_S, BUDGET_JOBS, BUDGET_START_S = 5, 600, 1.5
NSD = "config/nsd.yaml"
FURTHER = ("voting-nsd", "voxelclip-nsd", "mindeye-ablations")  # experiments on NSD whose decoders are added
SWEEP = {"lowlevel-rois": {"decoder": "mindeye_lowlevel", "mask": ["set1", "set2", "set3"]}}
TRIVIAL = """
rule all:
    input: [f"made/{n}" for n in range(%d)]
rule one:
    output: "made/{n}"
    script: "one.py"
"""


@dataclass(frozen=True)
class Took:
    """One command: wall and CPU seconds, and what it printed."""

    wall: float
    cpu: float
    printed: str


def timed(*command: str, cwd: Path = REPOSITORY) -> Took:
    """Run a command of this Python."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall, cpu, done.stdout + done.stderr)


def middle(runs: list[Took]) -> str:
    """Median and range of wall seconds, and the least CPU seconds."""
    walls = sorted(run.wall for run in runs)
    spread = f"{statistics.median(walls):.2f} s, median of {len(walls)} ({walls[0]:.2f} to {walls[-1]:.2f})"
    return f"{spread}; CPU at least {min(run.cpu for run in runs):.2f} s"


def plan(config: str, repeats: int) -> None:
    """Plan a configuration and print one line per figure."""
    command, given = ("-m", "snakemake", "all", "--cores", "1"), ("--configfile", config)
    summary = timed(*command, "--summary", *given).printed.splitlines()
    outputs = sum(line.count("\t") == 5 for line in summary) - 1  # a row for each, and the head
    start = [timed("-m", "snakemake", "--version") for _ in range(repeats)]
    runs = [timed(*command, "-n", "--quiet", "rules", *given) for _ in range(repeats)]
    jobs = int(re.search(r"^total\s+(\d+)$", runs[0].printed, re.MULTILINE)[1])
    print(f"{jobs} jobs, {outputs} output files, each of which gets one file of metadata")
    print(f"planned in {middle(runs)}")
    print(f"of it the start of Snakemake itself: {middle(start)}")


def grown(n_seeds: int) -> dict[str, Any]:
    """All of NSD with every decoder, target and sweep of the shipped configurations on it."""
    settings = yaml.safe_load((REPOSITORY / NSD).read_text())
    for name in FURTHER:
        other = yaml.safe_load((REPOSITORY / f"config/experiments/{name}.yaml").read_text())
        for section in ("targets", "decoders", "sweeps"):
            settings[section] = {**other.get(section, {}), **settings.get(section, {})}
    settings["sweeps"] = {**settings["sweeps"], **SWEEP}
    for decoder in settings["decoders"].values():
        if decoder["kind"] != "ridge":
            decoder["seeds"] = list(range(n_seeds))
    return settings


def planned(config: str, repeats: int) -> None:
    """Plan a configuration, beside its budget."""
    print(f"{config} (budget: {BUDGET_S} s, fewer than {BUDGET_JOBS} jobs):")
    plan(config, repeats)


def growth(seeds: list[int], repeats: int) -> None:
    """Plan ever more trainings."""
    for n_seeds in seeds:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(grown(n_seeds), file, sort_keys=False)
            file.flush()
            print(f"every decoder and sweep, networks with {n_seeds} seeds:")
            plan(file.name, repeats)


def free_of_torch() -> Iterator[Path]:
    """Scripts of the rules whose environment has no torch."""
    text = "\n".join(path.read_text() for path in (REPOSITORY / "rules").rglob("*.smk"))
    pairs = re.findall(r'envs/(\w+)\.yaml".*?workflow/scripts/(\w+)\.py"', text, re.DOTALL)
    for environment, script in sorted(set(pairs), key=lambda pair: pair[1]):
        if "pytorch" not in (REPOSITORY / f"envs/{environment}.yaml").read_text():
            yield REPOSITORY / f"workflow/scripts/{script}.py"


def start(repeats: int) -> None:
    """Import what each script imports."""
    for script in free_of_torch():
        lines = [line for line in script.read_text().splitlines() if re.match(r"(?:import|from) ", line)]
        runs = [timed("-c", "\n".join(["import snakemake.script", *lines])) for _ in range(repeats)]
        print(f"{script.stem}: {middle(runs)} (budget: {BUDGET_START_S} s)")


def overhead(numbers: list[int]) -> None:
    """Jobs that do nothing, few and many; the difference is what a job costs."""
    found = []
    for n_jobs in numbers:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "Snakefile").write_text(TRIVIAL % n_jobs)
            Path(folder, "one.py").write_text("open(snakemake.output[0], 'w').close()\n")
            took = timed("-m", "snakemake", "--cores", "1", cwd=Path(folder))
            kept = sum(path.is_file() for path in Path(folder, ".snakemake/metadata").rglob("*"))
        found.append((n_jobs, took))
        print(f"{n_jobs} jobs that do nothing: {middle([took])}; {kept} files of metadata")
    (few, least), (many, most) = found[0], found[-1]
    n = many - few
    print(f"each: {(most.wall - least.wall) / n:.2f} s, CPU {(most.cpu - least.cpu) / n:.2f} s")


def run(config: str) -> None:
    """A small twin as a whole, in a copy."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in listed.stdout.splitlines():
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, Path(folder, name), follow_symlinks=False)
        took = timed("-m", "snakemake", "all", "--cores", "1", "--configfile", config, cwd=Path(folder))
        tables = list(Path(folder, "results").rglob("benchmarks/**/*.tsv"))
        rows = [next(csv.DictReader(path.open(), delimiter="\t")) for path in tables]
        kept = sum(path.is_file() for path in Path(folder, ".snakemake/metadata").rglob("*"))
    inside = sum(float(row["s"]) for row in rows)
    print(
        f"{config}: {len(rows)} jobs in {took.wall:.0f} s, of which {inside:.0f} s inside them (imports too)"
    )
    print(f"beyond: {(took.wall - inside) / len(rows):.2f} s for each; {kept} files of metadata")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", default="plan", choices=["plan", "growth", "start", "overhead", "run"]
    )
    parser.add_argument("--config")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--jobs", type=int, nargs="+", default=[20, 100])
    given = parser.parse_args()
    measures = {
        "plan": lambda: planned(given.config or NSD, given.repeats),
        "growth": lambda: growth(given.seeds, given.repeats),
        "start": lambda: start(given.repeats),
        "overhead": lambda: overhead(given.jobs),
        "run": lambda: run(given.config or "config/experiments/tiny.yaml"),
    }
    measures[given.what]()


if __name__ == "__main__":
    main()
