import pandas as pd
import pytest

from .tables import DECODERS, evaluation, reconstruction


@pytest.fixture(scope="session")
def long():
    """Two subjects, four decoders, two units, one reconstruction."""
    tables = [
        evaluation(subject, name, unit=unit)
        for subject in ("subj01", "subj02")
        for name in DECODERS
        for unit in ("average", "single")
    ]
    return pd.concat([*tables, *(reconstruction(subject) for subject in ("subj01", "subj02"))])


@pytest.fixture(scope="session")
def audit():
    """An audit with passes and a warning, as `evaluation.audit.audit` writes it."""
    rows = [
        ("disjoint_stimuli", "subj01", "ridge", True, "pass", "0 of 150 test images were trained on."),
        ("disjoint_stimuli", "subj01", "ridge_clip", True, "pass", "0 of 150 test images were trained on."),
        ("training_statistics", "subj02", "ridge", True, "warning", "`session` uses test trials as well."),
        ("directions_differ", "subj02", "ridge", True, "pass", "Differ on an asymmetric case."),
    ]
    return pd.DataFrame(rows, columns=["check", "subject", "decoder", "passed", "level", "detail"])


@pytest.fixture(scope="session")
def manifest():
    """What `percept.provenance.manifest` records."""
    return {
        "config": {
            "dataset": {"kind": "twin", "name": "twin", "subjects": ["subj01", "subj02"], "bits": 9.0},
            "split": {"protocol": "shared1000", "validation_fraction": 0.1},
            "decoders": {"ridge": {"kind": "ridge", "target": "pixels", "roi": "nsdgeneral"}},
            "evaluation": {"bootstrap": 1000, "confidence": 0.95},
        },
        "config_hash": "0123456789ab",
        "git": {"commit": "18572f7a9c3b0e1d2f4a5b6c7d8e9f0a1b2c3d4e", "modified": True},
        "versions": {"python": "3.11.2", "percept": "0.1.0", "numpy": "2.3.0", "himalaya": "0.4.6"},
        "machine": {"system": "Linux-6.1-x86_64", "processor": "x86_64"},
        "command": "snakemake",
        "inputs": {"results/twin/evaluation/subj01/ridge.parquet": "a" * 64},
    }
