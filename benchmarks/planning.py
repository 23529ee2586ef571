"""Planning all of NSD: seconds from the command to the list of jobs, and how many jobs there are.

    python benchmarks/planning.py [--config config/nsd.yaml] [--repeats 5]

Runs `snakemake all -n` in a fresh process each time, imports included; nothing of the data is needed. Prints
the median, least and greatest wall time, and how much of it is Snakemake's own start (`snakemake --version`).
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
BUDGET_S, BUDGET_JOBS = 5, 600


def timed(*arguments: str) -> tuple[float, str]:
    """Wall seconds of one Snakemake command, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - start, done.stdout + done.stderr


def main() -> None:
    """Measure and print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="config/nsd.yaml")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    start = statistics.median(timed("--version")[0] for _ in range(given.repeats))
    plan = ("all", "-n", "--cores", "1", "--quiet", "rules", "--configfile", given.config)
    runs = [timed(*plan) for _ in range(given.repeats)]
    seconds = sorted(run[0] for run in runs)
    jobs = int(re.search(r"^total\s+(\d+)$", runs[0][1], re.MULTILINE)[1])
    median = statistics.median(seconds)
    print(f"{given.config}: {jobs} jobs (budget: fewer than {BUDGET_JOBS})")
    print(f"planned in {median:.2f} s, median of {len(seconds)} ({seconds[0]:.2f} to {seconds[-1]:.2f})")
    print(f"budget: {BUDGET_S} s; of it {start:.2f} s are the start of Snakemake itself")


if __name__ == "__main__":
    main()
