"""One trained decoder as evaluation sees it: its predictions, the features they predict, its scoring rule."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import EvaluationConfig
from percept.datasets.twin.faults import SWAP
from percept.decoders.predictions import Predictions, read_predictions
from percept.evaluation import scoring, table
from percept.evaluation.decoder import Candidates, score_decoder
from percept.evaluation.retrieval import Scorer
from percept.evaluation.table import Label
from percept.targets import store

POOL = 300  # images among which validation chooses a scoring rule; all of them where there are fewer


@dataclass(frozen=True)
class Run:
    """Predictions of one training, with the true features.

    Attributes
    ----------
    test : unit -> predictions of the test images
    candidates : unit -> true features of the images that are ranked
    choice : the scoring rule of each direction, and the best scorer of every rule
    """

    test: Mapping[str, Predictions]
    candidates: Mapping[str, Candidates]
    choice: scoring.Choice


class Scored(NamedTuple):
    """Rows of the long table, values of the items under the chosen rules, and the answers given."""

    rows: pd.DataFrame
    items: pd.DataFrame
    answers: pd.DataFrame  # unit, stimulus, run, answer: the stimulus ranked first


@dataclass(frozen=True)
class Swapped:
    """A planted fault: a scorer whose two directions are exchanged, as in published code."""

    scorer: Scorer

    def image_from_brain(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """What the other direction scores, (brain, image), where there are as many brains as images."""
        if len(predicted) != len(candidates):
            return self.scorer.image_from_brain(predicted, candidates)
        return self.scorer.brain_from_image(predicted, candidates)

    def brain_from_image(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """What the other direction scores, (image, brain)."""
        if len(predicted) != len(candidates):
            return self.scorer.brain_from_image(predicted, candidates)
        return self.scorer.image_from_brain(predicted, candidates)


def read(predictions: str | Path, features: str | Path, units: Sequence[str]) -> Run:
    """Read one run and choose its scoring rule on validation images; test predictions play no part in that.

    Where runs are left out in turn there are no rows that train or validate and never test: cosine stands.

    Parameters
    ----------
    predictions, features : predictions.h5 of the run, and features.h5 of its target
    units : which test predictions to read: "average", "single", "run"
    """
    train = read_predictions(predictions, "train")
    shown = np.unique(train.stimulus)
    known = _features(features, shown)
    centre = known.mean(axis=0, dtype=np.float64)
    test = {unit: read_predictions(predictions, f"test/{unit}") for unit in units}
    candidates = {unit: _candidates(features, found, centre) for unit, found in test.items()}
    if (train.fold >= 0).any():
        return Run(test, candidates, scoring.plain())
    targets = (
        known if np.array_equal(shown, train.stimulus) else known[np.searchsorted(shown, train.stimulus)]
    )
    calibration = scoring.Calibration(train.predicted, targets)
    return Run(test, candidates, scoring.choose(calibration, _validation(predictions, features), POOL))


def _features(path: str | Path, stimuli: NDArray) -> NDArray:
    return store.read(path, stimuli).reshape(len(stimuli), -1)


def _candidates(path: str | Path, found: Predictions, centre: NDArray) -> Candidates:
    stimuli = np.unique(found.stimulus)
    return Candidates(_features(path, stimuli), stimuli, centre)


def _validation(predictions: str | Path, features: str | Path) -> scoring.Validation | None:
    """Validation predictions, or None where the split carves none out."""
    found = read_predictions(predictions, "validation", missing_ok=True)
    if found is None:
        return None
    stimuli = np.unique(found.stimulus)
    return scoring.Validation(found.predicted, found.stimulus, _features(features, stimuli), stimuli)


def score(
    run: Run,
    label: Label,
    settings: EvaluationConfig,
    limits: pd.DataFrame | None = None,
    faults: Collection[str] = (),
) -> Scored:
    """Every unit of a run under every scoring rule, and what the rules scored on validation images.

    Parameters
    ----------
    label : what the run is; its unit and scoring are filled in here
    limits : Bayes limits of this subject and ROI set, see `controls.join_limits`
    faults : planted faults of a twin
    """
    scores, answers = [], []
    single = run.test.get("single")
    for unit, found in run.test.items():
        for rule, scorer in run.choice.by_rule.items():
            named = replace(label, unit=unit, scoring=rule)
            planted = Swapped(scorer) if SWAP in faults else scorer
            pair = (found, run.candidates[unit], planted)
            scores.append(score_decoder(*pair, named, settings, single=single, limits=limits))
        answers.append(_answers(found, run.candidates[unit], run.choice).assign(unit=unit))
    rows = table.concat([one.rows for one in scores]).drop_duplicates(ignore_index=True)
    items = table.concat([one.items for one in scores], table.ITEM_SCHEMA).drop_duplicates(ignore_index=True)
    validated = table.rows(replace(label, unit="average", control="validation"), _validated(run.choice))
    chosen = [_chosen(part, run.choice.rules) for part in (rows, validated)]
    own = _chosen(items, run.choice.rules)
    return Scored(
        table.concat([rows.assign(chosen=chosen[0]), validated.assign(chosen=chosen[1])]),
        items[own.fillna(True)].reset_index(drop=True),
        pd.concat(answers, ignore_index=True),
    )


def _chosen(rows: pd.DataFrame, rules: Mapping[str, str]) -> pd.Series:
    """Whether validation chose the scoring rule of a row; missing where nothing is ranked."""
    picked = rows["direction"].map(dict(rules)) == rows["scoring"]
    return picked.astype("boolean").where(rows["scoring"].notna(), pd.NA)


def _validated(choice: scoring.Choice) -> Iterator[dict[str, object]]:
    """What each rule scored on validation images, at its best rank."""
    best = choice.table.sort_values("top1", ascending=False, kind="stable")
    for row in best.drop_duplicates(["direction", "scoring"]).itertuples():
        yield {
            "metric": "top1",
            "direction": row.direction,
            "pool": row.pool,
            "scoring": row.scoring,
            "value": row.top1,
        }


def _answers(found: Predictions, candidates: Candidates, scorer: Scorer) -> pd.DataFrame:
    """Which candidate each brain was taken for, under the chosen rule."""
    features = candidates.features.reshape(len(candidates.stimulus), -1)
    best = scorer.image_from_brain(found.predicted, features).argmax(axis=1)
    return pd.DataFrame({"stimulus": found.stimulus, "run": found.run, "answer": candidates.stimulus[best]})
