"""scikit-learn's metrics, against what the same calls return."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

from integrations.recording import Recording, recorded
from looptap_integrations.sklearn import METRICS, SklearnIntegration

TRUTH = numpy.array([0, 1, 1, 0, 1, 0])
GUESS = numpy.array([0, 1, 0, 0, 1, 1])
SCORE = numpy.array([0.1, 0.9, 0.4, 0.2, 0.8, 0.6])


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(SklearnIntegration) as recording:
        yield recording


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("accuracy_score", GUESS),
        ("f1_score", GUESS),
        ("precision_score", GUESS),
        ("recall_score", GUESS),
        ("roc_auc_score", SCORE),
        ("average_precision_score", SCORE),
        ("mean_squared_error", SCORE),
        ("root_mean_squared_error", SCORE),
        ("mean_absolute_error", SCORE),
        ("r2_score", SCORE),
        ("log_loss", SCORE),
        ("balanced_accuracy_score", GUESS),
        ("matthews_corrcoef", GUESS),
        ("cohen_kappa_score", GUESS),
    ],
)
def test_each_metric(record: Recording, name: str, guess: numpy.ndarray) -> None:
    """Under the function's name where there is no variable, once; what it calls itself is not told."""
    results = [getattr(metrics, name)(TRUTH, guess)]
    assert record.points == [(name, 0, float(results[0]), {})]


def test_names_and_splits(record: Recording) -> None:
    """The variable's, with its split."""
    from sklearn.metrics import accuracy_score, f1_score

    val_acc = accuracy_score(TRUTH, GUESS)
    test_f1 = f1_score(TRUTH, GUESS)
    score = f1_score(TRUTH, GUESS, average="macro")
    assert record.points == [
        ("validation/acc", 0, val_acc, {}),
        ("test/f1", 0, test_f1, {}),
        ("f1_score", 0, score, {}),
    ]


def test_one_series_per_class(record: Recording) -> None:
    recall = metrics.recall_score(TRUTH, GUESS, average=None)
    assert record.points == [("recall", 0, value, {"class": str(index)}) for index, value in enumerate(recall.tolist())]


def test_what_sklearn_computes_itself(record: Recording) -> None:
    """In a cross-validation, a search, a report, a model's score."""
    x = numpy.stack([SCORE, -SCORE], axis=1)
    model = LogisticRegression().fit(x, TRUTH)
    model.score(x, TRUTH)
    cross_val_score(model, x, TRUTH, cv=2, scoring="f1")
    cross_val_score(model, x, TRUTH, cv=2, scoring=metrics.make_scorer(metrics.fbeta_score, beta=2), n_jobs=1)
    GridSearchCV(model, {"C": [1.0]}, cv=2, scoring=("accuracy", "roc_auc"), refit=False).fit(x, TRUTH)
    metrics.classification_report(TRUTH, GUESS)
    metrics.confusion_matrix(TRUTH, GUESS)
    assert record.points == []


def test_functions_stay_what_they_are(record: Recording) -> None:
    """They pickle, raise as before, and all of the list exist."""
    for name in METRICS:
        function = getattr(metrics, name, None)
        assert function is None or pickle.loads(pickle.dumps(function)) is function
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metrics.accuracy_score([0, 1], [1])
    assert sum(hasattr(metrics, name) for name in METRICS) >= 45
    assert record.points == []
