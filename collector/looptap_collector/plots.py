"""Series as text: a line of blocks for each, small plots of dots."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from looptap_collector.backend import History
from looptap_collector.printable import number

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: npt.NDArray[np.float64], width: int = 24) -> str:
    """The means of ``width`` equal stretches as blocks; ``·`` where a stretch has no finite value."""
    stretches = np.array_split(values, min(width, len(values))) if len(values) else []
    means = [float(part[np.isfinite(part)].mean()) if np.isfinite(part).any() else math.nan for part in stretches]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return "·" * len(means)
    low, span = min(finite), max(finite) - min(finite)
    if span <= 1e-12 * max(abs(low), abs(max(finite))):  # what is left of rounding in the means is no trend
        span = 0.0
    return "".join(
        "·" if not math.isfinite(mean) else _BLOCKS[round((mean - low) / span * 7) if 0 < span < math.inf else 3]
        for mean in means
    )


# The dots of a braille character: the bit for column 0 or 1 and row 0 to 3 (Unicode, block U+2800).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def _stroke(cells: npt.NDArray[np.int64], column: int, row: int, other: int) -> None:
    for between in range(min(row, other), max(row, other) + 1):
        cells[between // 4, column // 2] |= _DOTS[column % 2][between % 4]


def held(history: History, until: int, count: int) -> History:
    """Of a series that is recorded when it changes: what it was at ``count`` steps, evenly from its first one to ``until``. For
    :func:`sparkline`, which takes points for equally far apart."""
    if not len(history.steps):
        return history
    first, last = int(history.steps[0]), max(int(history.steps[-1]), until)  # Python's integers do not overflow
    steps = np.unique([first + (last - first) * number // max(1, count - 1) for number in range(count)])
    at = np.searchsorted(history.steps, steps, side="right") - 1
    return History(steps, history.times_ns[at], history.values[at])


def plot(history: History, width: int = 64, height: int = 7, *, lasts_until: int | None = None) -> list[str]:
    """Value over step as lines of braille dots, two by four in each character, with scales.

    Each column of dots spans from the least to the greatest value of its stretch of steps, so no spike is
    lost. Values that are not finite are left out and counted below the plot. ``lasts_until``: a step up to which the last value
    holds, of a series that is what it was until its next point; it is drawn as steps, not as slopes.
    """
    finite = np.isfinite(history.values)
    values = history.values[finite]
    steps = history.steps[finite].astype(np.float64)
    skipped = int(len(history.values) - len(values))
    if not len(values):
        return [f"  all {skipped:,} values are NaN or infinite"]
    end = int(history.steps[-1])
    if lasts_until is not None:
        end = max(end, lasts_until)
        # Where it changes it is both what it was and what it is.
        steps, values = np.append(np.repeat(steps, 2)[1:], float(end)), np.repeat(values, 2)
    low, high = float(values.min()), float(values.max())
    first, last = float(steps[0]), float(steps[-1])
    columns = np.zeros(len(steps), np.int64)
    if last > first:
        columns = ((steps - first) / (last - first) * (2 * width - 1)).astype(np.int64)
    # Halved first: the difference of two huge floats overflows.
    span = high / 2 - low / 2
    share = (values / 2 - low / 2) / span if span > 0 else np.full(len(values), 0.5)
    rows = ((1 - share) * (4 * height - 1)).round().astype(np.int64)

    cells = np.zeros((height, width), np.int64)
    at, height_at = int(columns[0]), int(rows[0])
    for column in np.unique(columns).tolist():
        inside = rows[columns == column]
        # A straight line from the last point, joined up in every column that it crosses.
        start, rise = at, (int(inside[0]) - height_at) / max(1, column - at)
        origin = height_at
        for at in range(start + 1, column + 1):
            reached = round(origin + rise * (at - start))
            _stroke(cells, at, height_at, reached)
            height_at = reached
        _stroke(cells, column, int(inside.min()), int(inside.max()))
        height_at = int(inside[-1])
    scale = [number(high), *[""] * (height - 2), number(low)]
    margin = max(len(text) for text in scale)
    lines = [
        f"{text:>{margin}} ┤" + "".join(chr(0x2800 + int(cell)) for cell in line)
        for text, line in zip(scale, cells, strict=True)
    ]
    left, right = f"{int(history.steps[0])}", f"{end}"
    note = f"   ({skipped:,} NaN or infinite)" if skipped else ""
    lines.append(" " * (margin + 2) + left + right.rjust(width - len(left)) + note)
    return lines
