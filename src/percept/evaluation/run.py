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
from percept.targets import pool, store

COMMON = scoring.RULES[0]  # what every method is compared under, besides what was chosen for each
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
    """Rows of the long table, values of items (chosen rules, and cosine), and the answers given."""

    rows: pd.DataFrame
    items: pd.DataFrame
    answers: pd.DataFrame  # unit, stimulus, run, answer: the stimulus ranked first


@dataclass(frozen=True)
class About:
    """What all runs of a subject share: test units, trials, settings, and planted faults of a twin."""

    units: Sequence[str]
    trials: pd.DataFrame
    settings: EvaluationConfig
    faults: Collection[str] = ()


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


def read(
    predictions: str | Path, features: str | Path, units: Sequence[str], trials: pd.DataFrame | None = None
) -> Run:
    """Read one run and choose its scoring rule on validation images; test predictions play no part in that.

    Where runs are left out in turn there are no rows that train or validate and never test: cosine stands.
    Decoders that do not cross-validate have no predictions of training images: no likelihood is calibrated,
    and cosine is centred on their validation predictions. Of the training features only the mean is needed
    then, and they are never in memory whole.

    Parameters
    ----------
    predictions, features : predictions.h5 of the run, and features.h5 of its target
    units : which test predictions to read: "average", "single", "run"
    trials : trials of the subject with their `split`; needed without predictions of training images
    """
    train = read_predictions(predictions, "train", missing_ok=True)
    if train is None and trials is None:
        raise ValueError(f"{predictions} names no training images: the trials have to say which they are")
    test = {unit: read_predictions(predictions, f"test/{unit}") for unit in units}
    in_turn = any((found.fold >= 0).any() for found in test.values())
    if train is None:
        centre = _mean(features, _trained(trials, in_turn))
    else:
        shown = np.unique(train.stimulus)
        known = _features(features, shown)
        centre = known.mean(axis=0, dtype=np.float64)
    candidates = {unit: _candidates(features, found, centre) for unit, found in test.items()}
    if in_turn:
        return Run(test, candidates, scoring.plain())
    validation = _validation(predictions, features)
    if train is None:
        return Run(test, candidates, scoring.choose_cosine(centre, validation, POOL))
    targets = (
        known if np.array_equal(shown, train.stimulus) else known[np.searchsorted(shown, train.stimulus)]
    )
    calibration = scoring.Calibration(train.predicted, targets)
    return Run(test, candidates, scoring.choose(calibration, validation, POOL))


def _trained(trials: pd.DataFrame, in_turn: bool) -> NDArray:
    """Stimuli, ascending, that trained; where runs are left out in turn every trial trains in other folds."""
    rows = trials if in_turn else trials[trials["split"] == "train"]
    return np.unique(rows["stimulus"].to_numpy())


def _mean(path: str | Path, stimuli: NDArray) -> NDArray[np.float64]:
    """Mean features (dim,) of some stimuli, a block of them in memory at a time."""
    with store.open_features(path) as features:
        return pool.mean(pool.FeaturesPool(features, stimuli)).astype(np.float64)


def score_files(
    predictions: str | Path,
    features: str | Path,
    about: About,
    label: Label,
    limits: pd.DataFrame | None = None,
) -> Scored:
    """Read one run, and score it; see `read` and `score`. Nothing of it is held any more afterwards."""
    found = read(predictions, features, about.units, about.trials)
    return score(found, label, about.settings, limits, about.faults)


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
    rows, items, validated = (
        part.assign(chosen=_chosen(part, run.choice.rules)) for part in (rows, items, validated)
    )
    common = (items["scoring"] == COMMON).fillna(False).astype(bool)
    return Scored(
        table.concat([rows, validated]),
        items[items["chosen"].fillna(True).astype(bool) | common].reset_index(drop=True),
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
