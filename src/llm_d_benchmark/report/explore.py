"""A study in words for a terminal, and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from ..domain.result import Absent, Scalar
from ..domain.study import Finalist, Gain, Recommendation, Settings, StudyResult, Trial
from .format import DASH, digits, duration, moment, quantity
from .hypotheses import HOW, hypothesis_lines, hypothesis_table, next_search
from .page import Page, Section, render_page
from .study_figures import effect_figures, front_figures, gain_figure, progress_figures
from .tables import Html, HtmlTable, Rows
from .verdict import Verdict

_MARKS = {
    "feasible": Markup('<span class="mark good">✓ feasible</span>'),
    "infeasible": Markup('<span class="mark warning">breaks a limit</span>'),
    "failed": Markup('<span class="mark bad">✗ failed</span>'),
    "matters": Markup('<span class="mark good">matters</span>'),
    "inert": Markup('<span class="mark">inert</span>'),
    "unclear": Markup('<span class="mark warning">? unclear</span>'),
}
MOST_TRIALS = 50
"""Rows of the table of configurations before the others are folded."""


def value(found: Scalar | None) -> str:
    return DASH if found is None or isinstance(found, Absent) else quantity(found.value, found.unit)


def settings_text(settings: Settings) -> str:
    return ", ".join(f"{k}={v}" for k, v in settings.items()) or "the present configuration"


def limits_text(low: float, high: float, relative: bool) -> str:
    if relative:
        return f"{_percent(low)} to {_percent(high)}"
    return f"{digits(low)} to {digits(high)}"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:+.1f} %" if abs(fraction) < 10 else f"x{fraction + 1:.3g}"


def gains_text(gains: Sequence[Gain]) -> str:
    """Of several objectives each with its name."""
    said = [f"{_percent(g.gain)} ({limits_text(g.low, g.high, True)})" for g in gains]
    if len(said) > 1:
        said = [f"{g.metric} {text}" for g, text in zip(gains, said, strict=True)]
    return "; ".join(said) or DASH


def subtitle(s: StudyResult) -> str:
    ran = sum(r.state != "interrupted" for r in s.runs)
    took = duration((s.ended - s.started) / 1e9)
    state = "" if s.status == "done" else f"{s.status} · "
    return f"{state}{len(s.trials)} configurations, {ran} runs · {moment(s.started)} · {took}"


def render_lines(s: StudyResult) -> str:
    """For a terminal."""
    r = s.recommendation
    lines = [f"{s.name}: {subtitle(s)}{'  (simulated)' if s.simulated else ''}", "", f"RECOMMENDATION: {r.message}"]
    lines += [f"  why: {w}" for w in r.why]
    lines += [f"  runner-up: {r.runner_up}"] if r.runner_up else []
    lines += [f"  binding: {r.binding}"] if r.binding else []
    lines += [f"  rests on runs: {', '.join(r.evidence)}"] if r.evidence else []
    lines += [f"  measure next: {m}" for m in r.measure_next]
    if s.hypotheses:
        lines += ["", *hypothesis_lines(s.hypotheses)]
    lines += [
        "",
        "methods:",
        *(f"  {m.method}: {m.trials} configurations, {m.runs} new runs; {m.message}" for m in s.methods),
    ]
    if len(s.objectives) > 1:
        lines += [
            "",
            "Pareto front:",
            *(f"  {n}. {settings_text(t.settings)}: {_values(t.values)}" for n, t in _best(s)),
        ]
    lines += ["", f"drift: {s.drift.message}"]
    lines += [f"note: {n}" for n in s.notes]
    return "\n".join(lines)


def _best(s: StudyResult) -> Iterator[tuple[int, Trial]]:
    yield from ((t.number, t) for t in s.trials if t.best)


def _values(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{m} {value(v)}" for m, v in values.items())


def render_study(s: StudyResult, command: str = "") -> str:
    """The whole page."""
    sections = [
        Section("Why", "why", items=_why(s.recommendation)),
        Section("Finalists", "finalists", text=_finals_text(s), figures=gain_figure(s), tables=_finalists(s)),
        Section("Search", "search", figures=[*progress_figures(s), *front_figures(s)], tables=[_methods(s)]),
        Section(
            "Effects of the factors",
            "effects",
            text="Averaged over the other factors' levels; limits are 95 %, simultaneous over a factor's levels.",
            figures=effect_figures(s),
            tables=_effects(s),
        ),
        Section("What to test next", "next", text=_next_text(s), items=s.recommendation.measure_next,
                tables=[hypothesis_table(s.hypotheses)] if s.hypotheses else [], code=next_search(s.hypotheses)),
        _trials(s),
        Section("Conditions", "conditions", tables=[_factors(s), *_limits(s)], items=[s.drift.message, *s.notes]),
    ]  # fmt: skip
    return render_page(
        Page(
            title=f"{s.name}: which configuration",
            subtitle=subtitle(s),
            sections=[x for x in sections if x.tables or x.figures or x.items],
            verdict=_verdict(s.recommendation),
            badge="simulated" if s.simulated else "",
            command=command,
        )
    )


def _verdict(r: Recommendation) -> Verdict:
    if r.trial is None:
        kept, unclear = "keep the present" in r.message, r.message.startswith("inconclusive")
        return Verdict("KEEP" if kept else "INCONCLUSIVE" if unclear else "NOTHING FOUND", "warning", r.message)
    return Verdict("RECOMMENDED" if r.sure else "BEST SO FAR", "good" if r.sure else "warning", r.message)


def _why(r: Recommendation) -> list[str]:
    found = list(r.why)
    found += [f"Runner-up: {r.runner_up}"] if r.runner_up else []
    found += [f"Binding limit: {r.binding}"] if r.binding else []
    found += [f"Rests on {len(r.evidence)} runs, {r.evidence[0]} first; each is linked below"] if r.evidence else []
    return found


def _finals_text(s: StudyResult) -> str:
    if not s.finalists:
        return ""
    return "Fresh runs with seeds that the search did not see, in rounds of alternating order."


def _finalists(s: StudyResult) -> list[HtmlTable]:
    if not s.finalists:
        return []
    metrics = list(s.finalists[0].values)
    header: list[Html] = ["Configuration", *metrics, "Keeps limits", "Runs", "Better by"]
    rows: Rows = [
        [settings_text(f.settings), *(value(f.values[m]) for m in metrics),
         _MARKS["feasible"] if f.feasible else _MARKS["infeasible"], _links(f.runs), gains_text(f.gains)]
        for f in s.finalists
    ]  # fmt: skip
    caption = "Means over the rounds, best first; better than the present one by, with limits simultaneous over all."
    return [HtmlTable("The last comparison", caption, header, rows, words=True)]


def _links(runs: object) -> Markup:
    assert isinstance(runs, list | tuple)
    links = [Markup('<a href="runs/{}/report.html">{}</a>').format(r, i + 1) for i, r in enumerate(runs) if r]
    return Markup(" ").join(links) or Markup(DASH)


def _methods(s: StudyResult) -> HtmlTable:
    rows: Rows = [[m.method, str(m.trials), str(m.runs), m.message] for m in s.methods]
    caption = "A configuration that an earlier method measured is not measured again."
    return HtmlTable("Methods", caption, ["Method", "Configurations", "New runs", "Found"], rows, 1, words=True)


def _effects(s: StudyResult) -> list[HtmlTable]:
    rows: Rows = [
        [e.metric, e.factor, _MARKS[e.verdict], _change(e.change, e.relative), limits_text(e.low, e.high, e.relative),
         e.message]
        for e in s.effects
    ]  # fmt: skip
    crossed: Rows = [
        [e.metric, " × ".join(e.factors), _MARKS[e.verdict], _change(e.change, e.relative),
         limits_text(e.low, e.high, e.relative), e.message]
        for e in s.interactions
    ]  # fmt: skip
    header: list[Html] = ["Metric", "Factor", "Verdict", "Last level against the first", "95 % limits", "In words"]
    found = []
    if rows:
        found.append(HtmlTable("Main effects", "Inert: surely less than what matters.", header, rows, 3, words=True))
    if crossed:
        caption = "How much more one factor changes the metric at the other's last level than at its first."
        header = ["Metric", "Factors", "Verdict", "Change", "95 % limits", "In words"]
        found.append(HtmlTable("Interactions of two factors", caption, header, crossed, 3, words=True))
    return found


def _change(change: float, relative: bool) -> str:
    return _percent(change) if relative else digits(change)


def _next_text(s: StudyResult) -> str:
    if not s.hypotheses:
        return ""
    how = f" The search that tests them stands below the table; {HOW}" if next_search(s.hypotheses) else ""
    return f"Hypotheses from the diagnosis of the runs: to be tested, not believed.{how}"


def _trials(s: StudyResult) -> Section:
    metrics = list(s.trials[0].values) if s.trials else []
    header: list[Html] = ["Trial", "Configuration", "State", *metrics, "Method", "Runs", "Remark"]

    def row(t: Trial) -> list[Html]:
        remark = "; ".join(x for x in ("on the front" if t.best else "", t.reason, t.stopped_early) if x)
        return [str(t.number), settings_text(t.settings), _MARKS[t.state], *(value(t.values[m]) for m in metrics),
                ", ".join(t.methods), _links(t.runs), remark or DASH]  # fmt: skip

    def table(trials: list[Trial]) -> HtmlTable:
        caption = "Means over the runs of the search, in the order they were first measured."
        return HtmlTable("Configurations", caption, header, [row(t) for t in trials], 3, words=True)

    trials = list(s.trials)
    if not trials:
        return Section("Configurations", "trials")
    folded = [table(trials[MOST_TRIALS:])] if len(trials) > MOST_TRIALS else []
    return Section("Configurations", "trials", tables=[table(trials[:MOST_TRIALS])], folded=folded,
                   folded_title=f"{len(trials) - MOST_TRIALS} more configurations")  # fmt: skip


def _factors(s: StudyResult) -> HtmlTable:
    rows: Rows = [
        [
            f.name,
            f.key,
            ", ".join(map(str, f.values)) if f.values else f"{f.low} to {f.high}{' by ratio' if f.log else ''}",
            DASH if f.present is None else str(f.present),
        ]
        for f in s.factors
    ]
    header: list[Html] = ["Factor", "Configuration key", "Values", "At present"]
    return HtmlTable("Factors", "What was varied.", header, rows, 4)


def _limits(s: StudyResult) -> list[HtmlTable]:
    rows: Rows = [["objective", o.metric, o.direction] for o in s.objectives]
    rows = [*rows, *([c.name, c.metric, c.text] for c in s.limits)]
    caption = "A limit whose metric is missing is broken."
    return [HtmlTable("Objectives and limits", caption, ["Name", "Metric", "Wanted"], rows, 3)]


__all__ = ["Finalist", "render_lines", "render_study"]
