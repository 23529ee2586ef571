"""The workflow is formatted, lints clean, keeps its layers, and every rule carries what it should."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RULE_FILES = [REPOSITORY / "Snakefile", *sorted(REPOSITORY.glob("rules/**/*.smk"))]
CONFIGS = ["config/config.yaml", "config/nsd.yaml", "config/experiments/haxby.yaml"]  # each kind of data set


def run(*command):
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("snakefmt", "--check", "Snakefile", "rules"),
        ("lint-imports",),
    ],
    ids=" ".join,
)
def test_a_checker_finds_nothing(command):
    done = run(BIN / command[0], *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("config", CONFIGS)
def test_snakemake_lints_clean(config):
    done = run(BIN / "snakemake", "--lint", "--configfile", config)
    assert done.returncode == 0 and "Congratulations" in done.stdout + done.stderr, done.stdout + done.stderr


def rules():
    """Text of every rule that runs a script, by file and name."""
    for path in RULE_FILES:
        for block in re.split(r"\n(?=\s*(?:use )?rule\b)", path.read_text())[1:]:
            name = re.search(r"(?:use rule \w+ as (\w+)|rule (\w+)|name:\s*f?\"([^\"]+)\")", block)
            if "script:" in block:
                yield pytest.param(block, id=next(filter(None, name.groups())))


def test_there_are_rules_to_check():
    assert len(list(rules())) >= 18


@pytest.mark.parametrize("directive", ["log", "conda", "message", "script"])
@pytest.mark.parametrize("rule", list(rules()))
def test_every_rule_says(rule, directive):
    assert re.search(rf"^\s+{directive}:", rule, re.MULTILINE), f"no {directive}: in\n{rule}"


@pytest.mark.parametrize("rule", list(rules()))
def test_every_rule_that_does_not_download_is_measured_and_tracks_its_code(rule):
    if re.search(r"download|rule fetch_", rule):
        assert "code=" not in rule  # bytes from elsewhere do not depend on our code
    elif not re.search(r"^\s+output:", rule, re.MULTILINE):
        assert "localrule: True" in rule  # it makes no file, looks at what is there and always runs
    else:
        assert "benchmark:" in rule and "params:" in rule and re.search(r"code=\w*code", rule)
        assert "mem_mb=" in rule and "runtime=" in rule


SCRIPTS = sorted((REPOSITORY / "workflow/scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_thin_and_used(script):
    lines = [line for line in script.read_text().splitlines() if line.strip()]
    assert len(lines) <= 42
    assert any(f"scripts/{script.name}" in path.read_text() for path in RULE_FILES)
