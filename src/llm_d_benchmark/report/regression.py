"""A regression test in words: for a pull request, for a terminal, and what its page takes from here."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain.comparison import Arm, Effect, MetricComparison, RegressionResult, StudyRun, Verdict
from ..domain.result import Absent, Measured
from .format import DASH, duration, moment, quantity

_SIGNS: dict[Verdict, str] = {"pass": "✅", "fail": "❌", "inconclusive": "⚠️"}


def percent(fraction: float) -> str:
    """A slowdown with its sign: +1.2 %."""
    return f"{fraction * 100:+.1f} %"


def limits(effect: Effect | Absent) -> str:
    """Two-sided 95 % limits of a slowdown."""
    return DASH if isinstance(effect, Absent) else f"{percent(effect.low)} to {percent(effect.high)}"


def slowdown(effect: Effect | Absent) -> str:
    return DASH if isinstance(effect, Absent) else percent(effect.slowdown)


def mean_of(arm: Arm) -> str:
    """The mean over the runs of one side, with how much they vary."""
    if isinstance(arm.mean, Absent):
        return DASH
    varies = f" ±{arm.cv.value * 100:.1f} %" if isinstance(arm.cv, Measured) else ""
    return quantity(arm.mean.value, arm.mean.unit) + varies


def cells(m: MetricComparison) -> list[str]:
    """Load, metric, both means, the slowdown and its limits."""
    return [m.load, m.metric, mean_of(m.baseline), mean_of(m.test), slowdown(m.effect), limits(m.effect)]


def subtitle(result: RegressionResult) -> str:
    """When, how long, how many runs."""
    used = [sum(r.used for r in result.runs if r.arm == side) for side in ("baseline", "test")]
    how = "in interleaved pairs" if any(r.block is not None for r in result.runs) else "each by itself"
    took = duration((result.ended - result.started) / 1e9)
    return (
        f"{used[0]} runs of the baseline and {used[1]} of the test version, {how} · {moment(result.started)} · {took}"
    )


def not_used(runs: Sequence[StudyRun]) -> list[str]:
    """A line for each run that is not used, with its reason."""
    return [f"not used: {r.run or 'a run'} ({r.arm}): {r.reason}" for r in runs if not r.used]


def render_markdown(result: RegressionResult) -> str:
    """For a comment on a pull request."""
    simulated = " (simulated)" if result.simulated else ""
    lines = [
        f"## {_SIGNS[result.verdict]} {result.verdict.upper()}: {_plain(result.test.version)} against "
        f"{_plain(result.baseline.version)}{simulated}",
        "",
        f"{_plain(result.message)} {_plain(subtitle(result))}.",
        "",
        "| criterion | limit | verdict | why |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        _row([c.name.replace("_", " "), c.criterion, f"{_SIGNS[c.verdict]} {c.verdict}", c.message])
        for c in result.criteria
    ]
    for title, metrics in (
        ("", [m for m in result.metrics if m.decides]),
        ("Metrics that do not decide", [m for m in result.metrics if not m.decides]),
    ):
        if metrics:
            lines += ["", *_metric_lines(title, metrics)]
    changed = [b for b in result.behaviours if b.change != "none"]
    if result.behaviours:
        lines += ["", f"{len(result.behaviours)} behaviours of the API probed, {len(changed)} differ."]
        lines += [f"- {_plain(b.name)} **{b.change}**: {_plain(b.message)}" for b in changed]
    lines += [""] + [f"- {_plain(q.run)} is quarantined: {_plain(q.reason)}" for q in result.quarantined]
    lines += [f"- {_plain(line)}" for line in (*not_used(result.runs), *result.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _metric_lines(title: str, metrics: Sequence[MetricComparison]) -> list[str]:
    lines = [
        "| load | metric | baseline | test | slower by | 95 % limits | verdict |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    lines += [_row([*cells(m), f"{_SIGNS[m.verdict]} {m.verdict}" if m.verdict else ""]) for m in metrics]
    return ["<details><summary>" + title + "</summary>", "", *lines, "", "</details>"] if title else lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(c) for c in cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


def render_lines(result: RegressionResult) -> str:
    """For a terminal."""
    lines = []
    deciding = [m for m in result.metrics if m.decides]
    if deciding:
        rows = [["load", "metric", "baseline", "test", "slower by", "95 % limits", "verdict"]]
        rows += [[*cells(m), m.verdict or ""] for m in deciding]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{c.verdict.upper():13}{c.name.replace('_', ' ')} {c.criterion}: {c.message}" for c in result.criteria]
    lines += [f"quarantined: {q.run}: {q.reason}" for q in result.quarantined]
    said = " ".join([result.message, *(c.message for c in result.criteria)])
    lines += not_used([r for r in result.runs if r.reason not in said])
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join([*lines, f"{result.verdict.upper()}  {result.message}"])
