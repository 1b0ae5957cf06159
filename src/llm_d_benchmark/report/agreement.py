"""Load generators side by side: what they measured at the same load, where they differ beyond noise, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from markupsafe import Markup

from ..domain.result import Agreement, Difference, Measured, MetricAgreement, RunResult, StageResult
from .format import DASH, Scale, digits, quantity, scale_of
from .numbers import Numbers
from .plot import PALETTE, Figure, Json, axis, layout
from .tables import Html, HtmlTable, Rows

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "output_tokens_per_second": "Output tokens/s",
        "requests_per_second": "Requests/s",
        "error_rate": "Errors",
        "input_length": "Input tokens",
        "output_length": "Output tokens",
        "input_tokens.mean": "Input tokens",
        "output_tokens.mean": "Output tokens",
    }
)
UNEXPLAINED = "unexplained: nothing in the data shows why"
_WORDS = {"differ": "differ", "agree": "agree", "inconclusive": "inconclusive", "": "not compared"}
_MARKS = {
    "differ": Markup('<span class="mark bad">✗ differ</span>'),
    "agree": Markup('<span class="mark good">✓ agree</span>'),
    "inconclusive": Markup('<span class="mark">? inconclusive</span>'),
    "": Markup('<span class="mark">not compared</span>'),
}


def title_of(metric: str) -> str:
    """``ttft.p50`` as TTFT p50."""
    base, _, level = metric.partition(".")
    return TITLES.get(metric, f"{base.upper()} {level}".strip())


@dataclass(frozen=True, slots=True)
class Section:
    """One group of stages as the HTML report shows it."""

    title: str
    sentence: str
    differences: Sequence[str]
    tables: Sequence[HtmlTable]
    figure: Figure | None


def sections(result: RunResult, n: Numbers) -> list[Section]:
    """A section for each group, in order."""
    return [_section(result, i, n) for i in range(len(result.agreement))]


def _section(result: RunResult, i: int, n: Numbers) -> Section:
    group = result.agreement[i]
    tables = [_table(result, i, n)] if group.metrics else []
    own = _own_table(result, i, n)
    drawn = _figure(result, i, group) if group.metrics else None
    return Section(heading(result, group), sentence(result, group), differences(result, group), [*tables, *own], drawn)


def heading(result: RunResult, group: Agreement) -> str:
    names = ", ".join(dict.fromkeys(_names(result, group).values()))
    return f"{names} at {group.load}" if group.metrics else f"{names}'s own figures at {group.load}"


def verdict_of(metric: MetricAgreement) -> str:
    """differ where any pair does, agree where all do; empty where nothing was compared."""
    found = {d.verdict for d in metric.differences}
    return next((v for v in ("differ", "inconclusive", "agree") if v in found), "")


def sentence(result: RunResult, group: Agreement) -> str:
    """How many metrics differ, agree and are not decided; who has nothing to compare."""
    if not group.metrics:
        return ""
    by = {v: [title_of(m.metric) for m in group.metrics if verdict_of(m) == v] for v in _WORDS}
    silent = [f"{name} has no data" for name in _without_data(result, group)]
    if len(by[""]) == len(group.metrics):
        return f"Nothing could be compared: {', '.join(silent) or 'no two have the same metric'}."
    parts = ["no metric differs beyond noise"]
    if by["differ"]:
        parts = [f"{len(by['differ'])} of {len(group.metrics)} metrics {_verb(by['differ'], 'differ')} beyond noise"]
    if by["agree"]:
        parts.append(f"{len(by['agree'])} {_verb(by['agree'], 'agree')} within the margin")
    if by["inconclusive"]:
        parts.append(f"{len(by['inconclusive'])} inconclusive: run longer to decide")
    if by[""]:
        parts.append(f"{len(by[''])} could not be compared")
    parts[0] = parts[0].capitalize()
    return "; ".join(parts + silent) + "."


def _without_data(result: RunResult, group: Agreement) -> list[str]:
    """The generators of which no metric of the group is known."""
    known = {r.stage for m in group.metrics for r in m.readings if isinstance(r.value, Measured)}
    return [name for stage, name in _names(result, group).items() if stage not in known]


def _verb(subjects: Sequence[str], verb: str) -> str:
    return f"{verb}s" if len(subjects) == 1 else verb


def differences(result: RunResult, group: Agreement) -> list[str]:
    """What differs beyond noise, and why: a line for every pair of generators and set of causes."""
    names = _names(result, group)
    lines: dict[tuple[int, int, str], list[str]] = {}
    for metric in group.metrics:
        for d in told(group, metric):
            cause = f"Why: {why(d)}" if d.whys else UNEXPLAINED.capitalize()
            lines.setdefault((d.first, d.second, cause), []).append(f"{title_of(metric.metric)} {_amount(metric, d)}")
    ordered = sorted(lines.items(), key=lambda item: item[0][:2])
    return [
        f"{names[second]} against {names[first]}: {', '.join(amounts)}. {cause}."
        for (first, second, cause), amounts in ordered
    ]


def told(group: Agreement, metric: MetricAgreement) -> list[Difference]:
    """The differences beyond noise that are worth a word: those from the first generator, which imply most of the
    others, and the others only where there are none."""
    found = [d for d in metric.differences if d.verdict == "differ"]
    return [d for d in found if d.first == group.stages[0]] or found


def _amount(metric: MetricAgreement, d: Difference) -> str:
    """``+20 %``, of fractions in percentage points."""
    return _signed(100 * d.difference, "%" if metric.relative else "points")


def _signed(value: float, unit: str = "") -> str:
    """With a sign that is a minus, not a hyphen."""
    shown = f"{value:+.3g}".replace("-", "−") if math.isfinite(value) else "∞"
    return f"{shown} {unit}".rstrip()


def amount(metric: MetricAgreement, d: Difference, names: Mapping[int, str]) -> str:
    """``guidellm +20 % (+15 to +25)``, against the first of the group; against another, that is named."""
    against = "" if d.first == next(iter(names)) else f" against {names[d.first]}"
    text = f"{names[d.second]} {_amount(metric, d)}{against}"
    if d.low is None or d.high is None:
        return text
    low, high = (_signed(100 * v) for v in (d.low, d.high))
    return f"{text} ({low} to {high})"


def why(d: Difference) -> str:
    return "; ".join(w.message for w in d.whys) or UNEXPLAINED


def _names(result: RunResult, group: Agreement) -> dict[int, str]:
    """Each stage by its generator, numbered where a generator has several here."""
    stages = [_stage(result, index) for index in group.stages]
    all_names = [s.load_generator for s in stages]
    names = {}
    for position, stage in enumerate(stages):
        name = stage.load_generator
        number = all_names[: position + 1].count(name)
        names[stage.index] = f"{name} #{number}" if all_names.count(name) > 1 else name
    return names


def _stage(result: RunResult, index: int) -> StageResult:
    return next(s for s in result.stages if s.index == index)


def _table(result: RunResult, i: int, n: Numbers) -> HtmlTable:
    group = result.agreement[i]
    names = _names(result, group)
    rows: Rows = []
    for k, metric in enumerate(group.metrics):
        base = f"/agreement/{i}/metrics/{k}"
        scale = _scale(metric)
        cells: list[Html] = [_reading(n, f"{base}/readings/{r}", scale) for r in range(len(metric.readings))]
        unit = (
            Markup(' <span class="unit">{}</span>').format(scale.symbol)
            if scale.symbol in ("µs", "ms", "s", "%")
            else ""
        )
        said = Markup("<br>").join(amount(metric, d, names) for d in told(group, metric))
        margin = f"{100 * metric.margin:g} {'%' if metric.relative else 'point'}"
        rows.append(
            [Markup("{}{}").format(title_of(metric.metric), unit), *cells, margin, _MARKS[verdict_of(metric)], said]
        )
    header = ["Metric", *names.values(), "Margin", "Verdict", f"Against {names[group.stages[0]]} (limits)"]
    caption = (
        f"Under each value: its 95 % limits. A difference counts when it is beyond the margin and its limits, "
        f"{group.confidence:.0%} for all differences of the table together, exclude 0."
    )
    return HtmlTable("Side by side", caption, header, rows, 1, words=True)


def _scale(metric: MetricAgreement) -> Scale:
    return scale_of(metric.unit, [r.value.value for r in metric.readings if isinstance(r.value, Measured)])


def _reading(n: Numbers, base: str, scale: Scale) -> Markup:
    shown = n.show(f"{base}/value", scale, symbol=False)
    if n.get(f"{base}/low") is None:
        return shown
    low, high = (n.show(f"{base}/{end}", scale, symbol=False) for end in ("low", "high"))
    return shown + Markup('<small class="limits">{} – {}</small>').format(low, high)


def _own_table(result: RunResult, i: int, n: Numbers) -> list[HtmlTable]:
    group = result.agreement[i]
    if not group.own_figures:
        return []
    names = _names(result, group)
    rows: Rows = []
    for k, f in enumerate(group.own_figures):
        base = f"/agreement/{i}/own_figures/{k}"
        scale = scale_of(f.ours.unit, [f.ours.value])
        own, ours = (n.show(f"{base}/{side}", scale) for side in ("own", "ours"))
        said = "; ".join(w.message for w in f.whys) or UNEXPLAINED
        rows.append([names[f.stage], title_of(f.metric), own, ours, _signed(100 * f.difference, "%"), said])
    header = ["Generator", "Metric", "It says", "Its requests give", "Difference", "Why"]
    caption = "Figures of the tools themselves that are not what their own requests give under our definitions."
    return [HtmlTable("The tools' own figures", caption, header, rows, 2, words=True)]


def own_lines(result: RunResult, group: Agreement) -> list[str]:
    """The own figures in sentences, one for each tool and reason."""
    names = _names(result, group)
    lines: dict[tuple[str, str], list[str]] = {}
    for f in group.own_figures:
        said = f"{title_of(f.metric)} {quantity(f.own.value, f.own.unit)} for {quantity(f.ours.value, f.ours.unit)}"
        lines.setdefault((names[f.stage], "; ".join(w.message for w in f.whys) or UNEXPLAINED), []).append(said)
    return [f"{name} itself says {', '.join(said)}: {cause}." for (name, cause), said in lines.items()]


def figures(result: RunResult) -> list[Figure]:
    """Each group as one figure: every metric of every generator around their common middle, with its limits."""
    return [_figure(result, i, group) for i, group in enumerate(result.agreement) if group.metrics]


def _figure(result: RunResult, i: int, group: Agreement) -> Figure:
    names = _names(result, group)
    shown = [m for m in group.metrics if m.relative and _middle(m) and not m.metric.endswith("_length")]
    traces: list[Json] = []
    for position, stage in enumerate(group.stages):
        color = PALETTE[position % len(PALETTE)]
        traces.append(_points(shown, stage, names[stage], color, position, len(group.stages)))
    rows = list(range(len(shown)))
    y_axis = axis("", tickvals=rows, ticktext=[title_of(m.metric) for m in shown], rangemode="normal")
    y_axis |= {"range": [len(shown) - 0.5, -0.5]}
    margin = {"type": "rect", "yref": "y", "line": {"width": 0}, "fillcolor": "@shade", "layer": "below"}
    bands = [
        {**margin, "x0": -100 * m.margin / 2, "x1": 100 * m.margin / 2, "y0": k - 0.5, "y1": k + 0.5}
        for k, m in enumerate(shown)
    ]
    zero = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
    zero |= {"line": {"color": "@line", "width": 1}}
    return Figure(
        f"agreement-{i}",
        f"Generators side by side at {group.load}",
        "Each value against the middle of all generators, with its 95 % limits; the band is the margin.",
        traces,
        layout(
            xaxis=axis("% from the middle", rangemode="normal"), yaxis=y_axis, shapes=[*bands, zero],
            legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
            margin={"l": 110, "r": 14, "t": 34, "b": 40},
        ),
        height=90 + 34 * max(1, len(shown)),
        wide=True,
    )  # fmt: skip


def _middle(metric: MetricAgreement) -> float | None:
    """The geometric mean of what the generators measured; None where fewer than two measured anything."""
    values = [r.value.value for r in metric.readings if isinstance(r.value, Measured) and r.value.value > 0]
    return math.exp(sum(map(math.log, values)) / len(values)) if len(values) > 1 else None


def _points(metrics: Sequence[MetricAgreement], stage: int, name: str, color: str, position: int, stages: int) -> Json:
    x: list[float] = []
    y: list[float] = []
    up: list[float] = []
    down: list[float] = []
    text: list[str] = []
    for row, metric in enumerate(metrics):
        reading = next((r for r in metric.readings if r.stage == stage), None)
        middle = _middle(metric)
        if reading is None or middle is None or not isinstance(reading.value, Measured) or reading.value.value <= 0:
            continue
        value = reading.value.value
        x.append(100 * (value / middle - 1))
        y.append(row + (position - (stages - 1) / 2) * min(0.22, 0.7 / stages))
        up.append(100 * (reading.high - value) / middle if reading.high is not None else 0.0)
        down.append(100 * (value - reading.low) / middle if reading.low is not None else 0.0)
        text.append(f"{title_of(metric.metric)}: {quantity(value, metric.unit)}")
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.5, "width": 4}
    symbols = ("circle", "diamond", "square", "triangle-up", "cross", "x")
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        "text": text,
        "hovertemplate": "%{text}, %{x:+.3g} %<extra>" + name.replace("<", "&lt;") + "</extra>",
        "marker": {"color": color, "size": 8, "symbol": symbols[position % len(symbols)]},
        "error_x": {**bars, "color": color},
    }


def text_rows(result: RunResult, group: Agreement) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text: metric, each generator's value, verdict."""
    names = _names(result, group)
    rows = []
    for metric in group.metrics:
        scale = _scale(metric)
        cells = [
            digits(r.value.value * scale.factor) if isinstance(r.value, Measured) else DASH for r in metric.readings
        ]
        symbol = scale.symbol if metric.unit in ("s", "fraction") else ""
        rows.append([f"{title_of(metric.metric)} {symbol}".strip(), *cells, _WORDS[verdict_of(metric)]])
    return ["metric", *names.values(), "verdict"], rows


def not_compared(result: RunResult) -> str | None:
    """Said where several generators ran and no two of them had the same load."""
    several = len({s.load_generator for s in result.stages}) > 1
    if several and not any(group.metrics for group in result.agreement):
        return "No two load generators ran the same load, so nothing is set side by side."
    return None
