"""What ``save_pretrained`` of transformers writes: a folder with the files of a model, a tokenizer, a configuration, …

``from_pretrained`` needs no observer of its own: it reads weights with ``torch.load`` or ``safe_open``, and these are observed, the
latter under the name that the module of models has for it.
"""

from __future__ import annotations

import os
from typing import ClassVar

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class PretrainedIntegration(Integration):
    """Wakes with ``transformers.modeling_utils``."""

    requires = "transformers>=4.46"
    captures = (
        Capture(
            "the files that it wrote, named folder/file: content, SHA-256 and step (role output)",
            "save_pretrained of models, configurations, tokenizers and processors",
            "each call",
            "in the background",
        ),
        Capture(
            "weights that from_pretrained reads from a folder or the cache: SHA-256 (role input)",
            "safe_open, torch.load",
            "each file once a run",
            "in the background",
        ),
    )
    #: Module and class; all of them have been imported when the integration wakes.
    where: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]] = (
        ("transformers.modeling_utils", ("PreTrainedModel",)),
        ("transformers.configuration_utils", ("PreTrainedConfig", "PretrainedConfig")),
        ("transformers.generation.configuration_utils", ("GenerationConfig",)),
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        import importlib

        self.record = record
        for module_name, names in self.where:
            module = vars(importlib.import_module(module_name))
            # Some have one name before transformers 5, another from there on, and some both.
            if "safe_open" in module:
                patch.observe(module_name, "safe_open", self.on_read)
            for owner in {id(module[name]): module[name] for name in names if name in module}.values():
                patch.observe(owner, "save_pretrained", self.on_save)

    def on_read(self, call: Call) -> Observation:
        yield
        file = call.args[0] if call.args else call.kwargs.get("filename")
        if call.error is None and isinstance(file, (str, os.PathLike)) and os.path.isfile(file):
            step = self.record.step if self.record.step >= 0 else None
            self.record.file(file, role="input", kind="model", step=step)

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


class PretrainedTokenizerIntegration(PretrainedIntegration):
    """Wakes with ``transformers.tokenization_utils_base``."""

    where = (("transformers.tokenization_utils_base", ("PreTrainedTokenizerBase",)),)


class PretrainedProcessorIntegration(PretrainedIntegration):
    """Wakes with ``transformers.processing_utils``."""

    where = (("transformers.processing_utils", ("ProcessorMixin",)),)


class PretrainedImageProcessorIntegration(PretrainedIntegration):
    """Wakes with ``transformers.image_processing_base``."""

    where = (("transformers.image_processing_base", ("ImageProcessingMixin",)),)


class PretrainedFeatureExtractorIntegration(PretrainedIntegration):
    """Wakes with ``transformers.feature_extraction_utils``."""

    where = (("transformers.feature_extraction_utils", ("FeatureExtractionMixin",)),)


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
