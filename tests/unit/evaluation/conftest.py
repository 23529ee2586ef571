"""Fixtures of the evaluation's tests."""

import numpy as np
import pytest

from percept.config import EvaluationConfig, RetrievalConfig
from percept.evaluation.table import Label


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture(scope="session")
def settings():
    return EvaluationConfig(retrieval=RetrievalConfig(pools=(5, 20, 300)), bootstrap=200, permutations=200)


@pytest.fixture(scope="session")
def label():
    return Label(
        "small", "shared1000", "subj01", "decoder", "ridge", "pixels", "early", 0, "average", "cosine"
    )
