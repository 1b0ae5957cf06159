"""A regression test as a page."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ..domain.comparison import Behaviour, Effect, MetricComparison, RegressionResult, Stability
from ..domain.comparison import Verdict as Answer
from ..domain.result import Absent, Scalar
from .format import DASH, count, digits, quantity, scale_of
from .page import Page, Section, render_page
from .plot import Figure, Json, axis, layout
from .regression import cells, limits, percent, slowdown, subtitle
from .tables import Html, HtmlTable, Rows
from .verdict import Tone, Verdict

_TONES: dict[Answer, Tone] = {"pass": "good", "fail": "bad", "inconclusive": "warning"}
_MARKS: dict[Answer | None, Markup] = {
    "pass": Markup('<span class="mark good">✓ pass</span>'),
    "fail": Markup('<span class="mark bad">✗ fail</span>'),
    "inconclusive": Markup('<span class="mark warning">? inconclusive</span>'),
    None: Markup('<span class="mark">shown only</span>'),
}
SLOWER = "Slower by"
MEANS = (
    "Slower by: how much more time a unit of work takes with the test version, so that a positive number is worse, for "
    "latencies and for rates alike."
)


def render_html(result: RegressionResult, command: str = "") -> str:
    """The whole page."""
    deciding = [m for m in result.metrics if m.decides]
    shown = [m for m in result.metrics if not m.decides]
    sections = [Section("Criteria", "criteria", tables=[_criteria(result)])]
    if deciding:
        sections.append(
            Section(
                "Performance",
                "performance",
                text=MEANS,
                figures=[f for f in (_forest(deciding, result), *_history(deciding)) if f is not None],
                tables=[_metrics("Metrics that decide", deciding)],
                folded=[_metrics("Metrics set beside them", shown), _details(deciding)]
                if shown
                else [_details(deciding)],
                folded_title="More metrics, and the statistics behind the verdict",
            )
        )
    if result.behaviours:
        sections.append(_behaviour_section(result))
    sections.append(Section("Stability", "stability", tables=[_stability(result)]))
    sections.append(Section("Runs", "runs", tables=[_runs(result), *_quarantined(result)]))
    if result.notes:
        sections.append(Section("Notes", "notes", items=result.notes))
    return render_page(
        Page(
            title=f"{result.name}: {result.test.version} against {result.baseline.version}",
            subtitle=subtitle(result),
            sections=sections,
            verdict=_verdict(result),
            badge="simulated" if result.simulated else "",
            command=command,
        )
    )


def _verdict(result: RegressionResult) -> Verdict:
    return Verdict(result.verdict.upper(), _TONES[result.verdict], result.message)


def _criteria(result: RegressionResult) -> HtmlTable:
    rows: Rows = [[c.name.replace("_", " "), _MARKS[c.verdict], c.criterion, c.message] for c in result.criteria]
    caption = "PASS and FAIL rest on confidence bounds; where the data allow neither, the verdict is inconclusive."
    return HtmlTable("What was asked", caption, ["Criterion", "Verdict", "Limit", "Why"], rows, 3, words=True)


def _metrics(title: str, metrics: Sequence[MetricComparison]) -> HtmlTable:
    rows: Rows = [[*cells(m), _MARKS[m.verdict]] for m in metrics]
    header: list[Html] = ["Load", "Metric", "Baseline", "Test", SLOWER, "95 % limits", "Verdict"]
    caption = "Means over runs, ± the coefficient of variation between runs; loads are never averaged together."
    return HtmlTable(title, caption, header, rows, 2)


def _details(metrics: Sequence[MetricComparison]) -> HtmlTable:
    rows: Rows = []
    for m in metrics:
        if isinstance(m.effect, Absent):
            continue
        e = m.effect
        boot = DASH if e.bca_low is None or e.bca_high is None else f"{percent(e.bca_low)} to {percent(e.bca_high)}"
        without = (
            DASH if m.without_outliers is None else f"{slowdown(m.without_outliers)} ({limits(m.without_outliers)})"
        )
        rows.append(
            [m.load, m.metric, e.method, DASH if e.degrees is None else digits(e.degrees), f"{percent(e.lower)}",
             f"{percent(e.upper)}", f"{e.level:.1%}", boot, DASH if m.p_value is None else f"{m.p_value:.3g}", without]
        )  # fmt: skip
    header: list[Html] = ["Load", "Metric", "Method", "Degrees of freedom", "Lower bound", "Upper bound", "Level",
                          "BCa 95 % limits", "p (Holm)", "Without quarantined runs"]  # fmt: skip
    caption = "One-sided bounds decide: PASS needs the upper one under the limit, FAIL the lower one over it."
    return HtmlTable("Statistics", caption, header, rows, 3)


def _behaviour_section(result: RegressionResult) -> Section:
    changed = [b for b in result.behaviours if b.change != "none"]
    same = [b for b in result.behaviours if b.change == "none"]
    return Section(
        "Behaviours of the API",
        "behaviours",
        text="Asked of both servers before the load, one short request or two for each."
        + ("" if changed else " None differs."),
        tables=[_behaviours("What differs", changed)] if changed else [],
        folded=[_behaviours("What is the same", same)] if same else [],
        folded_title=f"{len(same)} behaviours that are the same",
    )


def _behaviours(title: str, behaviours: Sequence[Behaviour]) -> HtmlTable:
    marks = {
        "none": Markup('<span class="mark">same</span>'),
        "gained": Markup('<span class="mark good">gained</span>'),
        "lost": Markup('<span class="mark bad">lost</span>'),
        "changed": Markup('<span class="mark warning">changed</span>'),
    }
    rows: Rows = [[b.name, marks[b.change], b.baseline, b.test] for b in behaviours]
    return HtmlTable(title, "How each server behaved.", ["Behaviour", "Change", "Baseline", "Test"], rows, 4)


def _share(value: Scalar) -> str:
    return DASH if isinstance(value, Absent) else f"{value.value * 100:.3f} %"


def _stability(result: RegressionResult) -> HtmlTable:
    rows: Rows = [[side, *_stability_cells(s)] for side, s in result.stability.items()]
    header: list[Html] = ["Side", "Finished", "Succeeded", "Success", "95 % lower bound", "95 % upper bound", "Uptime",
                          "Downtime"]  # fmt: skip
    caption = (
        "Requests of all runs. Uptime is the share of time not between the first of several failures in a row and the "
        "next success; it is a figure of its own and has no bound."
    )
    return HtmlTable("Requests and uptime", caption, header, rows)


def _stability_cells(s: Stability) -> list[Html]:
    down = DASH if isinstance(s.downtime, Absent) else quantity(s.downtime.value, "s")
    return [count(s.finished), count(s.succeeded), _share(s.success), _share(s.success_lower), _share(s.success_upper),
            _share(s.uptime), down]  # fmt: skip


def _runs(result: RegressionResult) -> HtmlTable:
    rows: Rows = [
        [
            _link(r.path, r.run),
            r.arm,
            DASH if r.block is None else str(r.block + 1),
            ", ".join(map(str, r.seeds)),
            r.status,
            "used" if r.used else f"not used: {r.reason}",
        ]
        for r in result.runs
    ]
    return HtmlTable("Runs", "In the order they ran.", ["Run", "Side", "Pair", "Seeds", "Status", "Use"], rows, 6)


def _link(path: str, run: str) -> Html:
    if not run:
        return DASH
    inside = path.startswith("runs/")
    return Markup('<a href="{}/report.html">{}</a>').format(path, run) if inside else run


def _quarantined(result: RegressionResult) -> list[HtmlTable]:
    if not result.quarantined:
        return []
    rows: Rows = [[q.run, q.arm, q.load, q.metric, q.reason] for q in result.quarantined]
    caption = "They are in every number above; the statistics show the effect without them, and both must agree."
    return [HtmlTable("Quarantined runs", caption, ["Run", "Side", "Load", "Metric", "Why"], rows, 4, words=True)]


def _forest(metrics: Sequence[MetricComparison], result: RegressionResult) -> Figure | None:
    """Every deciding slowdown with its limits on one axis."""
    drawn = [(m, m.effect) for m in metrics if isinstance(m.effect, Effect)][::-1]
    if not drawn:
        return None
    colors = {"pass": "@good", "fail": "@bad", "inconclusive": "@warning", None: "@c1"}
    names = [f"{m.metric} · {m.load}" for m, _ in drawn]
    points: Json = {
        "type": "scatter",
        "mode": "markers",
        "x": [e.slowdown * 100 for _, e in drawn],
        "y": names,
        "marker": {"size": 9, "color": [colors[m.verdict] for m, _ in drawn]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [(e.high - e.slowdown) * 100 for _, e in drawn],
            "arrayminus": [(e.slowdown - e.low) * 100 for _, e in drawn],
            "color": "@soft",
            "thickness": 1.5,
        },
        "hovertemplate": "%{y}: %{x:+.2f} %<extra></extra>",
    }
    limit = next((c.criterion for c in result.criteria if c.name == "performance_regression"), None)
    lines = [(0.0, "@line")] + ([(float(limit.strip("<=% ")), "@bad")] if limit else [])
    shapes = [
        {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": color, "dash": "dot"}}
        for x, color in lines
    ]
    return Figure(
        "slowdowns",
        "Slowdowns",
        "Of the test version, with two-sided 95 % limits; the dotted lines are no change and the limit.",
        [points],
        layout(
            xaxis=axis("slower by, %", rangemode="normal"),
            yaxis=axis("", type="category"),
            shapes=shapes,
            showlegend=False,
        ),
        height=110 + 34 * len(drawn),
        wide=True,
    )


def _history(metrics: Sequence[MetricComparison]) -> list[Figure]:
    """The value of every run, in the order of the runs."""
    found: list[Figure] = []
    for i, m in enumerate(metrics):
        values = [*m.baseline.values, *m.test.values]
        if not values or len(found) == 8:
            continue
        scale = scale_of(m.unit, values)
        traces = [
            {
                "type": "scatter",
                "mode": "markers+lines",
                "name": name,
                "x": list(range(1, len(arm.values) + 1)),
                "y": [v * scale.factor for v in arm.values],
                "line": {"color": color, "width": 1, "dash": "dot"},
                "marker": {"color": color, "size": 7},
                "text": list(arm.runs),
                "hovertemplate": "%{y:.4g} " + scale.symbol + " %{text}<extra>%{fullData.name}</extra>",
            }
            for name, arm, color in (("baseline", m.baseline, "@c1"), ("test", m.test, "@c2"))
        ]
        found.append(
            Figure(
                f"runs-{i}",
                f"{m.metric} at {m.load}",
                "One point for each run, in order.",
                traces,
                layout(
                    xaxis=axis("run", rangemode="normal", dtick=max(1, len(m.baseline.values) // 10)),
                    yaxis=axis(scale.symbol, rangemode="normal"),
                ),
                height=250,
            )
        )
    return found
