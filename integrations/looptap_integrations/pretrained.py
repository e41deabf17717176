"""What ``save_pretrained`` of transformers writes: a folder with the files of a model, a tokenizer, a configuration, …

``from_pretrained`` reads weights with ``torch.load`` or ``safe_open``, and these are observed, the latter under the name that the
module of models has for it. It is observed itself for the model that comes of it: whose weights these are can be told where all of
them came out of one file.
"""

from __future__ import annotations

import inspect
import os
import threading
from typing import Any, ClassVar, NamedTuple

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class PretrainedFilesIntegration(Integration):
    """Of what is no model."""

    requires = "transformers>=4.46"
    captures: ClassVar[tuple[Capture, ...]] = (
        Capture(
            "the files that it wrote, named folder/file: content, SHA-256 and step (role output)",
            "save_pretrained of models, configurations, tokenizers and processors",
            "each call",
            "in the background",
        ),
    )
    #: Module and class; all of them have been imported when the integration wakes.
    where: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]]

    def install(self, patch: Patcher, record: Recorder) -> None:
        import importlib

        self.record = record
        for module_name, names in self.where:
            module = vars(importlib.import_module(module_name))
            # Some have one name before transformers 5, another from there on, and some both.
            for owner in {id(module[name]): module[name] for name in names if name in module}.values():
                patch.observe(owner, "save_pretrained", self.on_save)

    def on_save(self, call: Call) -> Observation:
        folder = _folder(call)
        if folder is None or self.record.is_suppressed():
            return
        before = _files(folder)
        # What it calls (save_pretrained of the configuration, safetensors, torch.save) writes into the same folder.
        with self.record.suppress():
            yield
        if call.error is not None:
            return
        step = self.record.step if self.record.step >= 0 else None
        place = os.path.basename(os.path.abspath(folder))
        for path, facts in _files(folder).items():
            if before.get(path) != facts:
                name = f"{place}/{os.path.basename(path)}"
                self.record.file(path, name=name, kind="model", step=step)


class PretrainedIntegration(PretrainedFilesIntegration):
    """Wakes with ``transformers.modeling_utils``."""

    captures = (
        *PretrainedFilesIntegration.captures,
        Capture(
            "weights that from_pretrained reads from a folder or the cache: SHA-256 (role input)",
            "safe_open, torch.load",
            "each file once a run",
            "in the background",
        ),
        Capture("of a served model, the file that its weights came from", "from_pretrained", "each call"),
    )
    not_captured = (
        "that file, where weights are in several, where an adapter is added to them, or where some are new (a head)",
    )
    where = (
        ("transformers.modeling_utils", ("PreTrainedModel",)),
        ("transformers.configuration_utils", ("PreTrainedConfig", "PretrainedConfig")),
        ("transformers.generation.configuration_utils", ("GenerationConfig",)),
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        import importlib

        super().install(patch, record)
        modeling = importlib.import_module("transformers.modeling_utils")
        patch.observe(modeling, "safe_open", self.on_read)
        models = modeling.PreTrainedModel
        loads = inspect.getattr_static(models, "_load_pretrained_model", None)
        patch.observe(models, "_load_pretrained_model", self.on_weights)
        if loads is not None:
            self.signature = inspect.signature(loads.__func__)
            #: What was read for the models that each thread loads.
            self.under_way = threading.local()
            patch.observe(models, "from_pretrained", self.on_load)

    def on_read(self, call: Call) -> Observation:
        yield
        file = call.args[0] if call.args else call.kwargs.get("filename")
        if call.error is None and isinstance(file, (str, os.PathLike)) and os.path.isfile(file):
            step = self.record.step if self.record.step >= 0 else None
            self.record.file(file, role="input", kind="model", step=step)

    def on_load(self, call: Call) -> Observation:
        """One model may load others, which it is made of."""
        outer = getattr(self.under_way, "read", None)
        read: list[_Weights] = []
        self.under_way.read = read
        yield
        self.under_way.read = outer
        if call.error is None and len(read) == 1 and call.kwargs.get("state_dict") is None:
            (weights,) = read
            # Asked only now: what is tied to another array is no longer missing.
            if not (weights.missing or weights.mismatched or vars(weights.model).get("_hf_peft_config_loaded")):
                self.record.loaded(weights.model, weights.file)

    def on_weights(self, call: Call) -> Observation:
        yield
        if call.error is not None:
            return
        weights = _weights(self.signature.bind(*call.args, **call.kwargs).arguments, call.result)
        read = getattr(self.under_way, "read", None)
        if read is not None:
            read.append(weights)
        else:
            self.record.copied((), weights.model)  # an adapter, into a model that is there


class PretrainedTokenizerIntegration(PretrainedFilesIntegration):
    """Wakes with ``transformers.tokenization_utils_base``."""

    where = (("transformers.tokenization_utils_base", ("PreTrainedTokenizerBase",)),)


class PretrainedProcessorIntegration(PretrainedFilesIntegration):
    """Wakes with ``transformers.processing_utils``."""

    where = (("transformers.processing_utils", ("ProcessorMixin",)),)


class PretrainedImageProcessorIntegration(PretrainedFilesIntegration):
    """Wakes with ``transformers.image_processing_base``."""

    where = (("transformers.image_processing_base", ("ImageProcessingMixin",)),)


class PretrainedFeatureExtractorIntegration(PretrainedFilesIntegration):
    """Wakes with ``transformers.feature_extraction_utils``."""

    where = (("transformers.feature_extraction_utils", ("FeatureExtractionMixin",)),)


class _Weights(NamedTuple):
    """What was read for a model: from which file (None: several, or none), and which of its arrays were not in it."""

    model: Any
    file: Any
    missing: Any
    mismatched: Any


def _weights(asked: dict[str, Any], result: Any) -> _Weights:
    # The one name is that of transformers 4.46, the other is newer.
    files = asked.get("checkpoint_files", asked.get("resolved_archive_file"))
    if isinstance(files, list):
        files = files[0] if len(files) == 1 else None
    info = result[0]
    if hasattr(info, "mismatched_keys"):  # from transformers 5 on
        return _Weights(asked["model"], files, info.missing_keys, info.mismatched_keys)
    return _Weights(asked["model"], files, result[1], result[3])


def _folder(call: Call) -> str | None:
    given = call.args[1] if len(call.args) > 1 else call.kwargs.get("save_directory")
    folder = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    return folder if isinstance(folder, str) else None


def _files(folder: str) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of every file in it, by path. What is in folders below it is code or a template."""
    found: dict[str, tuple[int, int, int]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    facts = entry.stat()
                    found[entry.path] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    except OSError:
        pass  # it does not exist yet, or is a file: the caller is about to hear of that
    return found
