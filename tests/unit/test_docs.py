"""The examples of the documentation run as they are printed, and what it says of the code is so."""

import importlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

from percept import config
from percept.datasets.splits import Fold
from percept.decoders.predict import Job, read_predictions, train_and_predict
from percept.files import read_parquet
from percept.targets import store
from tests.unit.source import REPOSITORY

PAGES = sorted(
    [*(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "README.md", REPOSITORY / "config/README.md"]
)
N_IMAGES, N_TRIALS, N_VOXELS, N_DIMS = 90, 180, 13, 6


def blocks(page, language):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for label, block in fenced if label == language]


# docs/decoder.md: the example is put into a package of decoders in another process, because a kind that was
# registered once stays registered; there it is found by its name, trained, and its own tests run.


def drive(folder):
    """What the other process does: train the example on random linear responses, and run its tests."""
    package = importlib.import_module("percept.decoders")
    package.__path__.append(str(folder))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N_IMAGES, N_DIMS)).astype(np.float32)
    stimulus = np.resize(np.arange(N_IMAGES), N_TRIALS).astype(np.int32)
    trials = pd.DataFrame({"session": 1, "run": np.repeat([1, 2, 3], 60), "stimulus": stimulus})
    noise = rng.normal(scale=0.5, size=(N_TRIALS, N_VOXELS))
    X = (features[stimulus] @ rng.normal(size=(N_DIMS, N_VOXELS)) + noise).astype(np.float32)
    rows = Fold(*(np.flatnonzero(part) for part in (stimulus < 70, stimulus // 10 == 7, stimulus >= 80)))
    store.write(folder / "index.json", features, np.arange(N_IMAGES), {"kind": "random"}, "random")
    settings = config.plugin("decoders", entry())
    with store.open_features(folder / "index.json") as targets:
        train_and_predict(settings, X, trials, [rows], targets, Job(folder))
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", str(folder / "test_components.py")]))


def entry():
    """The decoder that docs/decoder.md configures."""
    (settings,) = yaml.safe_load(blocks("docs/decoder.md", "yaml")[0])["decoders"].values()
    return settings


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Folder of the example after its training, and what its own tests printed."""
    folder = tmp_path_factory.mktemp("example")
    names = ["components.py", "test_components.py"]
    for name, text in zip(names, blocks("docs/decoder.md", "python"), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    code = (
        f"from pathlib import Path; from tests.unit import test_docs; test_docs.drive(Path({str(folder)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_tests_of_the_documented_decoder_pass(example):
    assert "3 passed" in example[1]


@pytest.mark.parametrize(("group", "n_rows"), [("train", 70), ("validation", 10), ("test/average", 10)])
def test_the_documented_decoder_predicts_its_target(example, group, n_rows):
    folder, _ = example
    found = read_predictions(folder / "predictions.h5", group)
    assert found.predicted.shape == (n_rows, N_DIMS)
    true = store.read(folder / "index.json", found.stimulus)
    assert np.corrcoef(found.predicted.ravel(), true.ravel())[0, 1] > 0.8


def test_the_documented_decoder_saves_the_map_that_it_used(example):
    saved = load_file(example[0] / "weights.safetensors")
    assert {name: value.shape for name, value in saved.items()} == {
        "weights": (N_DIMS, N_VOXELS), "intercept": (N_DIMS,),
    }  # fmt: skip
    assert len(read_parquet(example[0] / "history.parquet")) == 1


def test_the_documented_entry_sets_what_the_page_says():
    assert entry() == {"kind": "components", "target": "pixels", "roi": "nsdgeneral", "n_components": 100}


@pytest.mark.parametrize("name", ["components.py", "test_components.py"])
def test_the_documented_code_is_clean(example, name):
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--config",
        str(REPOSITORY / "pyproject.toml"),
    ]
    done = subprocess.run(
        [*ruff, "--ignore", "ANN,D,I" if name.startswith("test") else "RUF100", str(example[0] / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


# All pages.


def links():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http", "mailto")):
                yield pytest.param(page, target, id=f"{page.name}-{target}")


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_a_link_leads_somewhere(page, target):
    assert (page.parent / target).exists()


def commands():
    """Lines of the unlabelled code blocks: what a reader types."""
    for page in PAGES:
        for block in blocks(page.relative_to(REPOSITORY), ""):
            for line in block.splitlines():
                if command := line.split("  #")[0].strip():
                    yield pytest.param(command, id=f"{page.name}-{command[:60]}")


@pytest.mark.parametrize("command", list(commands()))
def test_a_command_names_what_exists(command):
    """Files, targets of make, and modules; running all of them is the business of tests/workflow."""
    words = shlex.split(command)
    assert words[0] in {"make", "snakemake", "python", "git", "cd", "ls", "rm", "pip", "open"}
    if words[0] == "make":
        assert f"\n{words[1]}:" in (REPOSITORY / "Makefile").read_text()
    if "--configfile" in words:
        assert (REPOSITORY / words[words.index("--configfile") + 1]).is_file()
    if words[:2] == ["python", "-m"]:
        assert (REPOSITORY / "src" / words[2].replace(".", "/")).with_suffix(".py").is_file()
    assert command


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, "yaml"))
        if block.startswith("dataset:") and "decoders:" in block
    ],
)
def test_a_whole_configuration_on_a_page_is_valid(block):
    assert config.load(yaml.safe_load(block)).decoders


def test_there_are_pages_links_and_commands_to_check():
    assert len(PAGES) >= 5 and len(list(links())) > 5 and len(list(commands())) > 10
