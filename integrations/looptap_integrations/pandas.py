"""Files that the program reads with pandas, as inputs of the run; and tables that it is fed with, by their columns."""

from __future__ import annotations

from typing import Any

from looptap.describing import Description
from looptap.fingerprints import SAMPLED, Fingerprint, digest
from looptap.inputs import read
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

_READERS = {
    "read_csv": "filepath_or_buffer",
    "read_table": "filepath_or_buffer",
    "read_parquet": "path",
    "read_json": "path_or_buf",
    "read_feather": "path",
    "read_excel": "io",
    "read_pickle": "filepath_or_buffer",
    "read_orc": "path",
    "read_hdf": "path_or_buf",
}
_MOST_COLUMNS = 1_000
_ROWS = 16
_PLAIN = (bool, int, float, str, bytes, type(None))


class PandasIntegration(Integration):
    requires = "pandas>=1.5"
    captures = (
        Capture(
            "files that were read, by their SHA-256, as inputs",
            "read_csv, read_parquet, read_json, read_feather, read_excel, …",
            "each call",
            "in the background",
        ),
        Capture("tables: columns, types, rows, values at a few places", "log_dataset, fit of Keras", "each call"),
    )
    not_captured = (
        "what is read from an open file, from memory, from an address, or from a folder of files",
        "calls of a reader that was imported by its name before autolog()",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        import pandas

        self.record = record
        self._table: Any = pandas.DataFrame
        self._column: Any = pandas.Series
        for name, argument in _READERS.items():
            if hasattr(pandas, name):
                patch.observe("pandas", name, self._reading(argument))
        patch.hook(record.describers.register, self.describe)

    def _reading(self, argument: str) -> Any:
        def on_read(call: Call) -> Observation:
            yield
            if call.error is None and not self.record.is_suppressed():
                read(self.record, call.args[0] if call.args else call.kwargs.get(argument))

        return on_read

    def describe(self, thing: Any) -> Description | None:
        if type(thing) is self._column:
            found = self._described(thing.to_frame())  # of the same memory
            found.name, found.class_name = "Series", "pandas.Series"
            return found
        return self._described(thing) if type(thing) is self._table else None

    def _described(self, thing: Any) -> Description:
        rows, width = thing.shape
        types = {str(name): str(kind) for name, kind in zip(thing.columns[:_MOST_COLUMNS], thing.dtypes, strict=False)}
        found = Description("DataFrame", "table", "pandas.DataFrame", rows, schema=types)
        found.details = {"columns": width}
        places = sorted({number * (rows - 1) // (_ROWS - 1) for number in range(_ROWS)}) if rows else []
        sample = thing.iloc[places, :_MOST_COLUMNS].itertuples(index=False, name=None) if places else ()
        told = [[repr(value) if isinstance(value, _PLAIN) else type(value).__name__ for value in row] for row in sample]
        names = repr([(str(name), kind) for name, kind in types.items()])
        found.parts = [Fingerprint(digest(f"{rows} {width} {names}".encode(), repr(told).encode()), SAMPLED)]
        return found
