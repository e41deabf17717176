"""The functions of Keras have several names: ``tf.keras`` is a package of its own, in which they are imported again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from looptap.patching import Observer, Patcher

_HOMES = {
    "keras": ("keras", "keras.api", "keras._tf_keras.keras", "keras.api._tf_keras.keras", "tensorflow.keras"),
    "tf_keras": ("tf_keras", "tf_keras.api._v2.keras", "tensorflow.keras"),
}


def observe_functions(patch: Patcher, package: str, module: str, functions: Mapping[str, Observer]) -> None:
    """Observe those functions of ``module`` that there are, under each name of it, now or when the program imports it.

    ``tensorflow.keras`` is either of both packages; what belongs to the other one is left alone.
    """

    def install(found: Any) -> None:
        for name, observer in functions.items():
            function = vars(found).get(name)
            home = getattr(function, "__module__", "")
            if home.partition(".")[0] == package:
                patch.observe(found, name, observer)
                patch.observe(home, name, observer)  # where pickle looks for it

    for above in _HOMES[package]:
        patch.when_imported(f"{above}.{module}", install)
