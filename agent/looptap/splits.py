"""What the words of a program say about its data: is this validation, or test?"""

from __future__ import annotations

import re

VALIDATION, TEST, TRAIN = "validation", "test", "train"
#: Of data that may be any.
PREDICT = "predict"
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
#: ``valloader``, ``testset``.
_THINGS = "loader|dataloader|set|dataset|data|dl|ds|iter|iterator|batches|gen"
_IS_TRAIN = re.compile(rf"(train|training|trainer|tr)({_THINGS})?")
_IS_TEST = re.compile(rf"(test|testing)({_THINGS})?")
_IS_VALIDATION = re.compile(rf"(val|valid|validate|validating|validation|dev|holdout)({_THINGS})?")
_IS_EVALUATION = re.compile(rf"(eval|evaluate|evaluating|evaluation)({_THINGS})?")


def words(name: str) -> list[str]:
    """``valLoader_2`` → val, loader, 2."""
    return [word.lower() for word in _WORD.findall(name)]


def split_in(name: str) -> str | None:
    """``validation``, ``test`` or ``train`` as this name says; None when it says nothing, or more than one."""
    found = {
        split
        for word in words(name)
        for split, pattern in ((TRAIN, _IS_TRAIN), (TEST, _IS_TEST), (VALIDATION, _IS_VALIDATION))
        if pattern.fullmatch(word)
    }
    return found.pop() if len(found) == 1 else None


def is_evaluation(name: str) -> bool:
    return any(_IS_EVALUATION.fullmatch(word) for word in words(name)) and split_in(name) is None


def without_split(name: str) -> str:
    """``val_loss`` → ``loss``: the series says the split already. Empty when nothing is left."""
    parts = re.split(r"_+", name.strip("_"))
    kept = [part for part in parts if not (split_in(part) or is_evaluation(part))]
    return "_".join(kept)
