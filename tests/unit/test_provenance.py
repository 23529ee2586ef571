"""Results are remade when the code they come from changes what it does, and only then."""

import ast
import os
import shutil
import subprocess
import typing

import pytest

from percept import provenance
from tests.unit.source import LIBRARY

LOSS = (
    '"""Losses."""\n\nfrom percept.deep import blocks\n\n\ndef loss(x):\n    """Half."""\n    return x / 2\n'
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A little copy of the package: script -> losses -> deep.blocks; other is reached by nobody."""
    root = tmp_path / "percept"
    (root / "deep").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "deep" / "__init__.py").write_text("")
    (root / "losses.py").write_text(LOSS)
    (root / "deep" / "blocks.py").write_text("def block():\n    return 1\n")
    (root / "other.py").write_text("x = 1\n")
    (root / "config.py").write_text("default = 1\n")
    (tmp_path / "train.py").write_text(
        "def f():\n    from percept import losses\n    import percept.config\n    import numpy\n"
    )
    monkeypatch.setattr(provenance, "PACKAGE", root)
    monkeypatch.setattr(provenance, "NOT_COUNTED", (root / "config.py",))
    return root


def version(package):
    return provenance.code_version(str(package.parent / "train.py"))


def edit(path, old, new):
    """Edit a file; its modification time moves on even on a coarse clock."""
    before = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_the_closure_holds_what_is_reached_and_nothing_else(package):
    found = {p.name for p in provenance.closure([str(package.parent / "train.py")])}
    assert found == {"train.py", "losses.py", "blocks.py", "__init__.py"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("losses.py", "x / 2", "x / 3"),
        ("deep/blocks.py", "return 1", "return 2"),
        ("../train.py", "losses", "other"),
    ],
)
def test_an_edit_of_reached_code_changes_the_version(package, file, old, new):
    before = version(package)
    edit(package / file, old, new)
    assert version(package) != before


def test_what_is_left_out_changes_no_version_nor_does_what_it_alone_reaches(package):
    script, without = str(package.parent / "train.py"), (package / "config.py", package / "losses.py")
    before = provenance.code_version(script, without=without), version(package)
    edit(package / "losses.py", "x / 2", "x / 3")
    edit(package / "deep" / "blocks.py", "return 1", "return 2")
    assert provenance.code_version(script, without=without) == before[0] != before[1] != version(package)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("losses.py", "Half.", "Half of x."),
        ("losses.py", '"""Losses."""\n', '"""Losses."""\n\n# A remark.\n'),
        ("losses.py", "x / 2", "x  /  2"),
        ("other.py", "x = 1", "x = 2"),
        ("config.py", "1", "2"),
        ("losses.py", "", ""),
    ],
)
def test_an_edit_that_changes_no_result_keeps_the_version(package, file, old, new):
    before = version(package)
    edit(package / file, old, new)
    assert version(package) == before


def test_a_copy_elsewhere_has_the_same_version(package, tmp_path, monkeypatch):
    before = version(package)
    copy = shutil.copytree(package.parent, tmp_path / "copy")
    monkeypatch.setattr(provenance, "PACKAGE", copy / "percept")
    monkeypatch.setattr(provenance, "NOT_COUNTED", (copy / "percept" / "config.py",))
    assert provenance.code_version(str(copy / "train.py")) == before


@pytest.mark.parametrize(
    ("module", "counted"),
    [
        ("image", True),
        ("fingerprint", True),
        ("store", True),
        ("catalogue", False),
        ("entry", False),
        ("fetch", False),
        ("transfer", False),
        ("convert", False),
    ],
)
def test_what_reads_a_network_counts_and_what_lists_and_fetches_it_does_not(module, counted):
    reached = provenance.closure(["percept.targets.clip_image", "percept.backbones.fetch"])
    path = provenance.PACKAGE / "backbones" / f"{module}.py"
    assert path.is_file() and (path in reached) is counted


@pytest.mark.parametrize("name", ["percept.absent", "numpy", "absent.py"])
def test_a_name_that_is_no_code_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is neither a module of percept"):
        provenance.code_version(name)


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "a").write_text("1")
    git("init")
    git("add", "a")
    git("commit", "-m", "first")
    return tmp_path


@pytest.mark.parametrize("modified", [False, True])
def test_the_manifest_says_which_commit_and_whether_it_was_modified(checkout, modified):
    if modified:
        (checkout / "a").write_text("2")
    record = provenance.manifest({"b": 1}, [checkout / "a"], checkout)
    assert record["git"]["modified"] is modified
    assert len(record["git"]["commit"]) == 40
    assert record["inputs"][str(checkout / "a")] == provenance.sha256(checkout / "a")
    assert record["versions"]["snakemake"].startswith("9.")


def test_outside_a_checkout_the_commit_is_unknown(tmp_path):
    assert provenance.git_state(tmp_path) == {"commit": "unknown", "modified": False}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_statements_hold_all_imports_and_docstrings_of_a_file(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wanted = (ast.Import, ast.ImportFrom, *typing.get_args(provenance.Documented))
    whole = {id(node) for node in ast.walk(tree) if isinstance(node, wanted)}
    assert {id(node) for node in provenance._statements(tree) if isinstance(node, wanted)} == whole


def test_a_file_is_read_once_for_all_rules_until_it_changes(package, monkeypatch):
    version(package)
    parsed, parse = [], ast.parse
    monkeypatch.setattr(ast, "parse", lambda text: parsed.append(text) or parse(text))
    version(package)
    assert parsed == []
    edit(package / "losses.py", "x / 2", "x / 3")
    version(package)
    assert len(parsed) == 1 and "x / 3" in parsed[0]
