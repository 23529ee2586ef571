"""Environments name what their rules import, no more, at the versions that pyproject asks for."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from percept import provenance
from tests.environments.conda import listed as packages
from tests.unit.source import REPOSITORY, SCRIPTS, normal, third_party

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
BOUNDS = {
    normal(requirement.name): requirement
    for requirement in map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
}
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
CONSTRAINTS = (REPOSITORY / "constraints.txt").read_text().split()
IMPORTED_BY = {"pyarrow": "pandas", "accelerate": "diffusers"}  # imported for us, by another package
OPTIONAL = {"faiss"}  # an extra: what needs it says how to install it
SETTINGS = "percept.config"  # imported by every script; not part of a code version
HEAVY = {"torch", "open_clip", "transformers", "diffusers", "lightning_fabric"}
USE_TORCH = {
    "encode_target", "encode_pool", "train_decoder", "reconstruct_images", "score_reconstructions",
    "fetch_backbone", "train_tiny_backbone", "reconstruct_splits", "score_splits", "vote_images",
    "encode_responses", "leave_voxels_out", "preflight", "train_gan",
}  # fmt: skip


def rules() -> dict[str, str]:
    """Environment of the rule that runs each script."""
    text = "\n".join(path.read_text() for path in (REPOSITORY / "rules").rglob("*.smk"))
    pairs = re.findall(
        r'conda:\s+"(?:\.\./)+envs/(\w+)\.yaml".*?script:\s+"[./]+workflow/scripts/(\w+)\.py"',
        text,
        re.DOTALL,
    )
    return {script: environment for environment, script in pairs}


def imported(script: str) -> set[str]:
    """Packages that a script may import: by what it reaches, and by the plug-ins that it looks up."""
    path = REPOSITORY / "workflow/scripts" / f"{script}.py"
    own = provenance.closure([str(path)], without=())
    text = "\n".join(
        module.read_text() for module in {path, *own} if module != provenance.PACKAGE / "config.py"
    )
    plugins = [
        f"percept.{stage}.{module.stem}"
        for stage in re.findall(r'config\.plugin\("(\w+)"', text)
        for module in (provenance.PACKAGE / stage).glob("*.py")
    ]
    datasets = ["percept.datasets.arrays_config"] if "config.dataset(" in text else []
    reached = provenance.closure([str(path), *plugins, *datasets], without=())
    settings = {provenance.PACKAGE / "config.py"} if "config" in text else set()
    return set().union(*(third_party(module) for module in reached | settings))


def test_what_generators_import_is_found_where_they_are_looked_up():
    for script in ("reconstruct_images", "reconstruct_splits"):
        assert imported(script) >= {"diffusers", "transformers", "torchvision", "open-clip-torch"}


# Versions.


def test_every_rule_that_may_ask_for_a_gpu_takes_what_the_profile_says_of_those():
    text = "\n".join(path.read_text() for path in (REPOSITORY / "rules").rglob("*.smk"))
    parts = {part.split(":")[0]: part for part in re.split(r"\n *rule ", text)[1:]}
    asking = {rule for rule, part in parts.items() if re.search(r"\bgpu=", part)}
    assert {"train_decoder", "encode_target", "leave_voxels_out"} <= asking
    assert asking == {rule for rule, part in parts.items() if "**ON_GPUS" in part}


def test_there_are_environments_to_check():
    assert {path.stem for path in ENVIRONMENTS} >= {"data", "decoding", "report"}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_asks_for_the_versions_of_pyproject(path):
    listed = packages(path)
    python = listed.pop("python")
    assert python.startswith(PROJECT["requires-python"])
    assert {name: SpecifierSet(bounds) for name, bounds in listed.items()} == {
        name: BOUNDS[normal(name)].specifier if normal(name) in BOUNDS else "not in pyproject.toml"
        for name in listed
    }


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_is_sorted_and_its_channels_are_open(path):
    environment = yaml.safe_load(path.read_text())
    names = [line.split()[0] for line in environment["dependencies"]]
    assert names[0] == "python" and names[1:] == sorted(names[1:])
    assert environment["channels"] == ["conda-forge", "nodefaults"]


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_the_versions_that_were_tested_satisfy_pyproject(name):
    pins = dict(line.split("==") for line in CONSTRAINTS)
    versions = [version for pinned, version in pins.items() if normal(pinned) == name]
    assert len(versions) == 1 and BOUNDS[name].specifier.contains(Version(versions[0]))


def test_the_constraints_are_versions_and_nothing_else():
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []


# Imports.


def test_every_script_has_a_rule_with_an_environment():
    assert rules().keys() == {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("script", sorted(rules()))
def test_a_rule_imports_only_what_its_environment_has(script):
    environment = REPOSITORY / "envs" / f"{rules()[script]}.yaml"
    available = {normal(name) for name in packages(environment)}
    assert imported(script) - available - OPTIONAL == set(), f"missing from {environment.name}"


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_has_nothing_that_no_rule_imports(path):
    used = set().union(*(imported(script) for script, name in rules().items() if name == path.stem))
    listed = {normal(name) for name in packages(path)} - {"python"}
    assert {name for name in listed - used if IMPORTED_BY.get(name) not in used} == set()


@pytest.mark.parametrize("script", sorted(rules().keys() - USE_TORCH))
def test_a_rule_that_needs_no_torch_cannot_reach_it(script):
    assert imported(script).isdisjoint({"torch", "open-clip-torch"})


def test_the_rules_that_use_torch_are_those_whose_environment_has_it():
    having = {path.stem for path in ENVIRONMENTS if "torch" in packages(path)}
    assert {script for script, name in rules().items() if name in having} == USE_TORCH


def test_the_rules_that_use_torch_reach_it():
    assert all(
        "torch" in imported(script) for script in USE_TORCH - {"reconstruct_images", "reconstruct_splits"}
    )


def test_starting_a_script_imports_no_torch():
    """Not even where it is needed later: a wrong setting is then reported at once."""
    lines = ["import sys"]
    for script in SCRIPTS:
        lines += [line for line in script.read_text().splitlines() if re.match(r"(?:import|from) ", line)]
        lines.append(f"if {HEAVY} & set(sys.modules): sys.exit('{script.stem} imports torch')")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
