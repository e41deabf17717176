"""A served model on a terminal, in 80 columns. What comes from a store goes through :mod:`looptap_collector.printable`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from looptap.sketches.comparing import LEAST_VALUES, SAME, TOO_COARSE, TOO_FEW, Comparison
from looptap_collector.backend import Served
from looptap_collector.printable import brief, local_time, number, percent, printable, took
from looptap_collector.record import sayable
from looptap_collector.serving.examples import ExampleFields, Examples
from looptap_collector.serving.experiment import BETTER, OPEN, WORSE, Experiment, Measured
from looptap_collector.serving.experiment import SAME as SAME_AS
from looptap_collector.serving.of_run import ServedModel
from looptap_collector.serving.shapes import DriftAlert, Held, Origin, Quantiles, Report, StreamFields, VersionFields

_STYLES = {"slight": "yellow", "moderate": "yellow", "large": "red"}
_WORDS = {SAME: "none"}
_VERDICTS = {WORSE: "red", BETTER: "green"}
_OVERALL = {
    WORSE: "worse than",
    BETTER: "better than",
    SAME_AS: "as good as",
    OPEN: "not yet known to be as good as",
}
_ORDER = ("too few", "too coarse", "same", "slight", "moderate", "large")
#: Of classes, errors and shapes, so many are named.
_NAMED = 5
#: Of examples so many are shown, and of each value so many characters.
_SHOWN = 20
_CHARACTERS = 200
_PARTS = ("total", "queue", "before", "model", "after", "first", "between")


def models_table(served: Sequence[Served], now_ns: int | None = None) -> Table:
    """One line for each version of each model."""
    table = _table("model", "version", "requests", "errors", "last window", right=(2, 3))
    for one in served:
        table.add_row(
            Text(printable(one.model) or "no model"),
            Text(version_in_words(one.version)),
            Text(f"{one.requests:,}"),
            Text(f"{one.errors:,}"),
            Text(local_time(one.last_ns, now_ns)),
        )
    return table


def served_models(served: Sequence[ServedModel]) -> Group:
    """One line for each version that a run has served, and how to see more."""
    table = _table("serves", "version", "trained by", "requests", "errors", "p50", "p99", right=(3, 4, 5, 6))
    for one in served:
        table.add_row(
            Text(printable(one.model) or "no model"),
            Text(version_in_words(one.version)),
            Text("–" if one.trained_by is None else printable(one.trained_by)),
            Text(f"{one.requests:,}"),
            Text(_share(one.error_rate)),
            Text(_seconds(one.p50)),
            Text(_seconds(one.p99)),
        )
    names = dict.fromkeys(printable(shlex.quote(one.model)) for one in served)
    return Group(table, Text(f"more: {' · '.join(f'looptap serving {name}' for name in names)}", style="dim"))


def serves_in_words(models: Sequence[str]) -> str:
    """``serves intent and 2 more``; of a process that was asked for no model, ``serves``."""
    more = f" and {len(models) - 1} more" if len(models) > 1 else ""
    return "serves" + (f" {printable(models[0])[:24]}{more}" if models else "")


def picture(told: Report) -> Group:
    """Of all of its versions, the one that was asked last first."""
    return Group(*_lines(told))


def _lines(told: Report) -> Iterator[RenderableType]:
    name = printable(told.model) or "requests without a model"
    span = f"{local_time(told.since_ns)} to {local_time(told.until_ns)}"
    yield Text.assemble((name, "bold"), f" · {span}")
    if not told.complete:
        yield Text("there is more than this in that time: these are its latest windows", style="yellow")
    if not told.versions:
        yield Text("nobody asked it in that time")
        return
    if len(told.versions) > 1:
        yield _overview(told.versions)
    for version in told.versions:
        yield Text()
        yield from _version(version)


def _overview(versions: Sequence[VersionFields]) -> Table:
    table = _table("version", "requests", "per second", "errors", "p50", "p99", "drift", right=(1, 2, 3, 4, 5))
    for one in versions:
        total = one.latency.get("total")
        worst = _worst(one.drift)
        table.add_row(
            Text(version_in_words(one.version)),
            Text(f"{one.requests:,}"),
            Text(_rate(one.per_second)),
            Text(_share(one.error_rate)),
            Text(_seconds(total.p50 if total else None)),
            Text(_seconds(total.p99 if total else None)),
            Text(_WORDS.get(worst, worst), style=_STYLES.get(worst, "")),
        )
    return table


def _version(one: VersionFields) -> Iterator[RenderableType]:
    yield Text.assemble(("version ", "bold"), (version_in_words(one.version), "bold"), " · ", _trained_by(one.origin))
    if one.origin is not None and one.origin.data:
        told = [
            f"{data.role} {data.name}" + (f" ({data.fingerprint[:12]})" if data.fingerprint else "")
            for data in one.origin.data
        ]
        yield _line(f"data  {printable(_some(told))}")
    seconds = 0.0 if one.first_ns is None or one.last_ns is None else (one.last_ns - one.first_ns) / 1e9
    replicas = f"{one.replicas:,} {'replica' if one.replicas == 1 else 'replicas'}"
    requests = f"{one.requests:,} {'request' if one.requests == 1 else 'requests'}"
    yield _line(f"{requests} in {took(seconds)} ({_rate(one.per_second)} per second) · {replicas}")
    if one.errors:
        failed = _some([f"{count:,} {printable(name)}" for name, count in one.errors.items()])
        yield _line(f"errors  {_share(one.error_rate)}: {failed}", style="yellow")
    facts = [f"in flight {number_of(one.in_flight)}, at most {one.in_flight_max:,}"]
    if one.batch is not None:
        facts.append(f"rows at once {number_of(one.batch.p50)}, at most {number_of(one.batch.max)}")
    yield _line(" · ".join(facts))
    if one.shapes:
        yield _line(f"shapes  {_some([f'{printable(shape)} ({count:,})' for shape, count in one.shapes.items()])}")
    if one.latency:
        yield _indented(_latency(one.latency))
    if len(one.endpoints) > 1:
        yield _indented(_endpoints(one))
    for kind in ("predictions", "outcomes", "labels", "features"):
        for name, stream in getattr(one, kind).items():
            yield _line(f"{kind.removesuffix('s')} {printable(name)}: {stream_in_words(stream)}")
    if one.skipped:
        yield _line(f"not looked at: {_some([f'{count:,} {printable(name)}' for name, count in one.skipped.items()])}")
    if one.drift:
        yield _indented(_drift(one.drift))
    for alert in one.alerts:
        yield _indented(_alert(alert))
    for missing in one.missing:
        yield _indented(Text(f"not compared: {printable(missing)}", style="dim"))


def _latency(latency: Mapping[str, Quantiles]) -> Table:
    table = _table("latency", "p50", "p90", "p99", "p99.9", "max", right=(1, 2, 3, 4, 5))
    known = [part for part in _PARTS if part in latency]
    for part in [*known, *sorted(latency.keys() - set(known))]:
        found = latency[part]
        quantiles = (found.p50, found.p90, found.p99, found.p999, found.max)
        table.add_row(Text(printable(part)), *(Text(_seconds(value)) for value in quantiles))
    return table


def _drift(drift: Sequence[Held]) -> Table:
    table = _table("stream", "drift", "PSI", "KS", "against", right=(2, 3))
    for held in drift:
        found = held.comparison
        told = held.reference
        if found.verdict == TOO_FEW:
            told += f": {found.count:,} values and {found.reference_count:,}, {LEAST_VALUES} of each are needed"
        elif found.verdict == TOO_COARSE:
            told += ": numbers are counted around different centers"
        table.add_row(Text(printable(held.stream)), *_comparison(found), Text(printable(told)))
    return table


def _comparison(found: Comparison) -> tuple[Text, Text, Text]:
    """The verdict, the PSI with its interval, and the KS distance."""
    return (
        Text(_WORDS.get(found.verdict, found.verdict), style=_STYLES.get(found.verdict, "")),
        Text("–" if found.psi is None else f"{found.psi.value:.2g} ({found.psi.low:.2g} to {found.psi.high:.2g})"),
        Text("–" if found.ks is None else f"{found.ks.value:.2g}"),
    )


def _endpoints(one: VersionFields) -> Table:
    table = _table("endpoint", "requests", "errors", "p50", "p99", right=(1, 2, 3, 4))
    for name, endpoint in sorted(one.endpoints.items(), key=lambda item: -item[1].requests):
        counts = (f"{endpoint.requests:,}", f"{endpoint.errors:,}")
        quantiles = (_seconds(endpoint.latency.p50), _seconds(endpoint.latency.p99))
        table.add_row(Text(printable(name) or "calls"), *map(Text, (*counts, *quantiles)))
    return table


def comparison_picture(told: Experiment) -> Group:
    """Two versions side by side, what differs, and what that comes to."""
    return Group(*_compared(told))


def _compared(told: Experiment) -> Iterator[RenderableType]:
    first, second = version_in_words(told.first.version), version_in_words(told.second.version)
    span = f"{local_time(told.since_ns)} to {local_time(told.until_ns)}"
    when = "asked at the same time" if told.at_once else "one after the other, which may explain any difference"
    yield Text.assemble((printable(told.model), "bold"), f" · {first} and {second} · {span}, {when}")
    arms = [
        f"{version_in_words(arm.version)}: {arm.requests:,} requests ({percent(arm.share)})"
        for arm in (told.first, told.second)
    ]
    yield Text(" · ".join(arms))
    table = _table("measure", first, second, "difference (99 %)", "", right=(1, 2, 3))
    for one in told.measured:
        table.add_row(
            Text(printable(one.name)),
            Text(_amount(one.unit, one.first.value)),
            Text(_amount(one.unit, one.second.value)),
            Text(_difference(one)),
            Text(one.verdict, style=_VERDICTS.get(one.verdict, "")),
        )
    yield table
    if told.streams:
        streams = _table("stream", "drift", "PSI", "KS", right=(2, 3))
        for compared in told.streams:
            streams.add_row(Text(printable(compared.stream)), *_comparison(compared.comparison))
        yield streams
    style = _VERDICTS.get(told.verdict, "")
    yield Text.assemble(f"{second} is ", (_OVERALL[told.verdict], style), f" {first}")


def examples_picture(told: Examples) -> Group:
    """A block for each call, the latest first."""
    return Group(*_examples(told))


def _examples(told: Examples) -> Iterator[RenderableType]:
    for example in told.examples[:_SHOWN]:
        yield from _example(example)
    if (more := len(told.examples) - _SHOWN) > 0:
        yield Text(f"{'' if told.complete else 'at least '}{more:,} more: --json", style="dim")


def _example(one: ExampleFields) -> Iterator[RenderableType]:
    where = f"{version_in_words(one.version)} · {printable(one.endpoint) or 'calls'} · {printable(one.journal)}"
    yield Text.assemble((local_time(one.time_ns), "bold"), f" · version {where}")
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for name, value in one.asked.items():
        table.add_row(Text(printable(name)), Text(_value(value)))
    answered = _value(one.answer) if one.error is None else printable(one.error)
    table.add_row(Text("→", style="bold"), Text(answered, style="" if one.error is None else "yellow"))
    for id in one.ids:
        table.add_row(Text("id", style="dim"), Text(printable(id), style="dim"))
    yield _indented(table)
    yield Text()


def _value(value: object) -> str:
    """As JSON, in the letters of its writer."""
    text = printable(json.dumps(sayable(value), ensure_ascii=False))
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"


def _amount(unit: str, value: float) -> str:
    return _seconds(value) if unit == "seconds" else percent(value) if unit == "share" else number_of(value)


def _difference(one: Measured) -> str:
    found = one.difference
    if one.is_relative or one.unit == "share":
        value, low, high = (_points(100 * part) for part in found)
        return f"{value} ({low} to {high}) {'%' if one.is_relative else 'points'}"
    return f"{found.value:+.3g} ({found.low:+.3g} to {found.high:+.3g})"


def _points(value: float) -> str:
    """Two digits, and never a power of ten."""
    return f"{value:+,.0f}" if abs(value) >= 10 else f"{value:+.2g}" if abs(value) >= 0.01 else "0"


def stream_in_words(stream: StreamFields) -> str:
    """``cat 61 %, dog 39 %``, or ``median 0.93 (0.11 to 1), 99 % up to 0.999``; and what is no number."""
    told: list[str] = []
    if (numbers := stream.numbers) is not None:
        between = f"{number_of(numbers.min)} to {number_of(numbers.max)}"
        told.append(f"median {number_of(numbers.p50)} ({between}), mean {number_of(numbers.mean)}")
    if stream.classes:
        told.append(
            _some([f"{printable(name)} {percent(count / stream.count)}" for name, count in stream.classes.items()])
        )
    if stream.other:
        told.append(f"other classes {percent(stream.other / stream.count)}")
    strange = {"NaN": stream.nan, "+Inf": stream.above, "-Inf": stream.below, "missing": stream.null}
    told += [f"{name} {percent(count / stream.count)}" for name, count in strange.items() if count]
    if stream.apart:
        told.append(f"{stream.apart:,} more came before their reference was known, and are not compared")
    return "; ".join([f"{stream.count:,} values", *told])


def version_in_words(version: str | None) -> str:
    return "unknown" if version is None else printable(version)[:12]


def number_of(value: float | None) -> str:
    """Four digits are enough for a glance."""
    return number(None if value is None else float(f"{value:.4g}"))


def _trained_by(origin: Origin | None) -> Text:
    if origin is None:
        return Text("training not known", style="dim")
    at_step = "" if origin.step is None else f" at step {origin.step:,}"
    code = ""
    if origin.git_commit:
        code = f", git {origin.git_commit[:10]}{', uncommitted changes' if origin.git_dirty else ''}"
    return Text.assemble("trained by ", (printable(origin.name), "bold"), printable(f"{at_step}{code}"))


def _worst(drift: Sequence[Held]) -> str:
    return max((held.comparison.verdict for held in drift), key=_ORDER.index, default="–")


def _seconds(value: float | None) -> str:
    return "–" if value is None else brief(value)


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value < 1_000 else f"{value:,.0f}"


def _alert(one: DriftAlert) -> Text:
    by = f" · told by {one.replicas} replicas" if one.replicas > 1 else ""
    line = Text(f"alert  {local_time(one.since_ns)}: {printable(one.message)}{by}")
    if one.until_ns is not None:
        return line.append(f" · over {local_time(one.until_ns)}", style="dim")
    line.stylize("red" if one.severity == "critical" else "yellow")
    return line


def _line(told: str, style: str = "") -> Padding:
    return _indented(Text(told, style=style))


def _indented(inner: RenderableType) -> Padding:
    return Padding(inner, (0, 0, 0, 2), expand=False)


def _some(told: Sequence[str]) -> str:
    return ", ".join([*told[:_NAMED], *([f"and {len(told) - _NAMED:,} more"] if len(told) > _NAMED else [])])


def _table(*columns: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    for at, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="right" if at in right else "left", no_wrap=at in right)
    return table
