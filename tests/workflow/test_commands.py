"""Every command that the README and the documentation print works as it is printed, from a fresh checkout."""

import re
import shlex
import shutil
import subprocess

import pytest

from tests.environments import conda

from .conftest import REPOSITORY, Checkout

PAGES = [REPOSITORY / "README.md", REPOSITORY / "config/README.md", *sorted(REPOSITORY.glob("docs/*.md"))]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(program):
    """Lines of code blocks, and code within the text, that start with a program; the page is in the id."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
        inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
        lines += [line for line in inline if line.count(" ") > 1]  # others only name a target in passing
        for line in lines:
            line = line.split("  #")[0].strip()
            if line.startswith(f"{program} ") and "..." not in line:
                yield pytest.param(line, id=f"{page.stem}: {line}")


SNAKEMAKE, MAKE = list(commands("snakemake")), list(commands("make"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A fresh copy in which the files of the worked example of own data are there, empty; and a `conda`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in conda.install(tmp_path_factory.mktemp("conda")).items():
            patch.setenv(name, value)
        patch.setenv("STAND_IN_EMPTY", "1")
        yield prepared(tmp_path_factory)


def prepared(tmp_path_factory):
    copy = Checkout(tmp_path_factory.mktemp("commands"))
    for name in ("bold.nii.gz", "attributes_literal.txt"):
        path = copy.folder / "resources/haxby" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (copy.folder / "resources/photographs").mkdir()  # of the GAN at full size
    return copy


def test_there_are_commands_to_try():
    assert len(SNAKEMAKE) >= 8 and len(MAKE) >= 2


@pytest.mark.parametrize("line", SNAKEMAKE)
def test_a_printed_snakemake_command_resolves(fresh, line):
    arguments = shlex.split(line)[1:]
    if "--report" in arguments:  # not together with -n; test_finished_run.py makes that report
        at = arguments.index("--report")
        del arguments[at : at + 2]
    if "--containerize" in arguments:  # neither; test_environments.py reads what it prints
        arguments = []
    if arguments and not {"--cores", "--profile", "-c", "--lint"} & set(arguments):
        pytest.fail(f"Snakemake refuses to run without --cores or a profile: {line}")
    # first, because some options take every name that follows them
    done = fresh.run("-n", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("line", MAKE)
def test_a_printed_make_command_has_its_target(fresh, line):
    done = subprocess.run(
        [*shlex.split(line), "--dry-run"], cwd=fresh.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
