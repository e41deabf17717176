"""scikit-learn: the metrics that the program computes."""

from __future__ import annotations

import sys
from types import FrameType

from looptap.frames import caller, package_of
from looptap.integration import Capture, Integration
from looptap.measuring import log_measured
from looptap.patching import Call, Observation, Observer, Patcher
from looptap.recorder import Recorder

SOURCE = "sklearn"
#: Those whose result is one number, or one per class.
METRICS = (
    "accuracy_score",
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "auc",
    "average_precision_score",
    "balanced_accuracy_score",
    "brier_score_loss",
    "calinski_harabasz_score",
    "cohen_kappa_score",
    "d2_absolute_error_score",
    "d2_brier_score",
    "d2_log_loss_score",
    "d2_pinball_score",
    "d2_tweedie_score",
    "davies_bouldin_score",
    "dcg_score",
    "explained_variance_score",
    "f1_score",
    "fbeta_score",
    "fowlkes_mallows_score",
    "hamming_loss",
    "hinge_loss",
    "jaccard_score",
    "log_loss",
    "matthews_corrcoef",
    "max_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_gamma_deviance",
    "mean_pinball_loss",
    "mean_poisson_deviance",
    "mean_squared_error",
    "mean_squared_log_error",
    "mean_tweedie_deviance",
    "median_absolute_error",
    "mutual_info_score",
    "ndcg_score",
    "normalized_mutual_info_score",
    "precision_score",
    "r2_score",
    "rand_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
    "root_mean_squared_log_error",
    "silhouette_score",
    "top_k_accuracy_score",
    "v_measure_score",
    "zero_one_loss",
)


class SklearnIntegration(Integration):
    requires = "scikit-learn>=1.0"
    captures = (
        Capture(
            "accuracy_score, f1_score, roc_auc_score, mean_squared_error, r2_score, log_loss and the other metrics that are"
            " numbers, named by the variable or the function; one series per class where average=None",
            "the functions of sklearn.metrics, called by the program",
            "each call",
        ),
    )
    not_captured = (
        "metrics that the program imported by name before autolog()",
        "those that scikit-learn computes itself: cross_val_score, GridSearchCV, score(), classification_report",
        "confusion matrices and curves",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        from sklearn import metrics

        for name in METRICS:
            function = getattr(metrics, name, None)
            if function is None:  # some came later than others
                continue
            observer = self.observer(name)
            # In the module that it is from as well, or it could not be pickled.
            for module in {function.__module__: None, metrics.__name__: None}:
                if vars(sys.modules[module]).get(name) is function:
                    patch.observe(module, name, observer)

    def observer(self, name: str) -> Observer:
        def on_metric(call: Call) -> Observation:
            frame = caller(sys._getframe(1))
            if _is_theirs(frame):
                return
            with self.record.tee() as is_ours:
                yield
            if is_ours and call.error is None:
                log_measured(self.record, call.result, name, frame, SOURCE)

        return on_metric


def _is_theirs(frame: FrameType | None) -> bool:
    return package_of(frame) in ("", "sklearn", "joblib")
