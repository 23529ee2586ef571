#!/usr/bin/env python3
"""A stand-in for conda, which makes virtual environments from the package lists in `envs/`.

It answers what Snakemake asks conda, and nothing else: who are you, and `env create`. Packages come from
PyPI, at the versions that were tested. What it makes is closed: Snakemake appends its own search path to that
of every script, so that a package which an environment lacks would be found in Snakemake's; `closed.py`
refuses those.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE.parents[1] / "constraints.txt"
VERSION = "24.9.2"  # Snakemake wants 24.7.1 or newer
ON_PYPI = {
    "matplotlib-base": "matplotlib",
    "python-isal": "isal",
    "pytorch": "torch",
}  # conda's name -> PyPI's
# Enough for a plan, in which Snakemake asks the conda of the image who it is: the question is answered here.
APPTAINER = """#!/bin/bash
[ "$1" = --version ] && exec echo apptainer version 1.3.4
while [ "$#" -gt 0 ] && [ "$1" != -c ]; do shift; done
[ "$#" -gt 1 ] && exec bash -c "$2"
"""


def listed(path: Path) -> dict[str, str]:
    """Version bounds of an environment by the name that PyPI uses."""
    lines = [line.split(maxsplit=1) for line in yaml.safe_load(path.read_text())["dependencies"]]
    return {ON_PYPI.get(name, name): bounds for name, bounds in lines}


def install(folder: Path) -> dict[str, str]:
    """Put the stand-in into a folder; what the environment of Snakemake has to hold for it.

    With STAND_IN_EMPTY beside, environments are empty folders: for commands that make them and nothing else.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    (programs / "conda").write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n')
    (programs / "conda").chmod(0o755)
    (programs / "apptainer").write_text(APPTAINER)
    (programs / "apptainer").chmod(0o755)
    (programs / "activate").write_text('source "$1/bin/activate"\n')
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "STAND_IN": str(folder)}


def create(path: Path, prefix: Path) -> None:
    """Make a closed virtual environment with the packages of a file, and nothing else."""
    packages = listed(path)
    del packages["python"]
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
    python = prefix / "bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = [f"{name}{bounds.replace(' ', '')}" for name, bounds in packages.items()]
    subprocess.run([*pip, "--constraint", CONSTRAINTS, *wanted], check=True)
    (site,) = (prefix / "lib").glob("python3*/site-packages")
    shutil.copy(HERE / "closed.py", site / "sitecustomize.py")


def main(arguments: list[str]) -> int:
    """Answer one command."""
    match arguments:
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": os.environ["STAND_IN"], "platform": "linux-64"}))
        case ["--version"]:
            print(f"conda {VERSION}")
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", "--quiet", "--no-default-packages", "--file", path, "--prefix", prefix]:
            make = Path.mkdir if "STAND_IN_EMPTY" in os.environ else partial(create, Path(path))
            make(Path(prefix))
        case ["clean", *_]:  # what was downloaded is not kept
            pass
        case _:
            print(f"the stand-in for conda was not made for: conda {' '.join(arguments)}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
