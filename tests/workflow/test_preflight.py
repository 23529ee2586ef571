"""`snakemake preflight` as it is typed: tables and 0, or tables, reasons and an error."""

import pytest

from .conftest import Checkout

NSD = "config/nsd.yaml"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("preflight"))


def test_the_smallest_twin_works_and_leaves_nothing_but_its_log(fresh):
    done = fresh.run("preflight", "--cores", "1", "--configfile", "config/experiments/tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "disk, GB" in done.stdout and "mindeye_lowlevel" in done.stdout and "longest, h" in done.stdout
    assert not (fresh.folder / "results/tiny").exists()
    assert (fresh.folder / "logs/tiny/preflight.log").is_file()


def test_nsd_without_its_terms_is_refused_with_everything_else_that_is_wrong(fresh):
    (fresh.folder / "results/nsd").write_text("in the way")
    done = fresh.run("preflight", "--cores", "1", "--configfile", NSD)
    (fresh.folder / "results/nsd").unlink()
    assert done.returncode != 0 and "disk, GB" in done.stdout
    log = (fresh.folder / "logs/nsd/preflight.log").read_text()
    for words in ("Data Access Agreement", "results/nsd is no folder"):
        assert words in done.stderr and words in log


def test_nothing_of_a_run_depends_on_it(fresh):
    assert fresh.planned("preflight") == {}
    assert "preflight" not in fresh.planned("all")
