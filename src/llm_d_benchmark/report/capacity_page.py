"""A capacity plan as a self-contained page."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ..domain.capacity import CapacityPlan, Cost, Option, Outlook, Requirement
from ..domain.result import Absent, Measured, Scalar
from .capacity import ROOFLINE, check_words, share, slo_words, usd, wanted
from .format import DASH, digits, quantity
from .page import Page, Section, render_page
from .plot import DASHES, PALETTE, Figure, Json, axis, layout, line, wrapped
from .tables import Html, HtmlTable, Rows
from .verdict import Tone, Verdict

_MARKS = {
    "pass": Markup('<span class="mark good">✓ pass</span>'),
    "fail": Markup('<span class="mark bad">✗ fail</span>'),
    "not_judged": Markup('<span class="mark">not judged</span>'),
}
BEFORE = "before headroom, imbalance and spare replicas"


def render_html(plan: CapacityPlan, command: str = "") -> str:
    """The whole page."""
    sections = [_requirements(plan)]
    if plan.recommendations:
        sections.append(Section("Recommendations", "recommendations", items=plan.recommendations))
    if days := [f for i, r in enumerate(plan.requirements) if (f := _day(r, i)) is not None]:
        sections.append(Section("Over a day", "days", figures=days))
    sections.append(Section("Objectives", "objectives", tables=[_objectives(plan)]))
    if any(r.check for r in plan.requirements):
        sections.append(_checks(plan))
    if wanted(plan, "capacity_matrix") and plan.matrix:
        sections.append(_matrix(plan))
    if wanted(plan, "scaling_curves") and plan.curves:
        sections.append(_curves(plan))
    if wanted(plan, "cost_projections"):
        sections.append(_costs(plan))
    if plan.recovery:
        sections.append(Section("Disaster recovery", "recovery", tables=[_recovery(plan)]))
    sections.append(Section("Replicas that were compared", "options", tables=[_options(plan)], items=_notes(plan)))
    sections.append(Section("What the plan rests on", "assumptions", items=[*plan.assumptions, *_margins(plan)]))
    subtitle = f"{plan.base_rate:.4g} requests/s of {plan.input_tokens:,.0f} + {plan.output_tokens:,.0f} tokens" + (
        f", from {len(plan.runs)} runs" if plan.runs else f", {ROOFLINE}"
    )
    return render_page(Page(f"Capacity plan: {plan.name}", subtitle, sections, verdict=_verdict(plan), command=command))


def _verdict(plan: CapacityPlan) -> Verdict:
    scenarios = list(dict.fromkeys(r.scenario for r in plan.requirements))
    possible = {r.scenario for r in plan.requirements if r.feasible}
    missing = [s for s in scenarios if s not in possible]
    tone: Tone = "bad" if missing else "warning" if plan.warnings else "good"
    word = "INFEASIBLE" if missing else "FEASIBLE"
    sentence = (
        f"No option serves {', '.join(missing)} within the objectives."
        if missing
        else f"{len(scenarios)} scenarios can be served within the objectives."
    )
    return Verdict(word, tone, " ".join([sentence, *(f"{w[:1].upper()}{w[1:]}." for w in plan.warnings)]))


def _requirements(plan: CapacityPlan) -> Section:
    rows: Rows = [
        [
            r.scenario,
            r.option,
            digits(r.rate),
            digits(r.output_tokens_per_second),
            DASH if r.needed is None else str(r.needed),
            check_words(r),
            DASH if r.replicas is None else str(r.replicas),
            DASH if r.gpus is None else str(r.gpus),
            share(r.utilization),
            slo_words(r),
            share(r.score),
        ]
        for r in plan.requirements
    ]
    header: list[Html] = ["Scenario", "Option", "Requests/s", "Tokens/s", "Needed", "Simulated", "Replicas", "GPUs",
                          "Utilisation", "SLOs met", "Score"]  # fmt: skip
    caption = f"At the peak. Needed and simulated: {BEFORE}. Replicas: with them."
    return Section(
        "What each scenario needs",
        "requirements",
        tables=[HtmlTable("Requirements", caption, header, rows, 2)],
        items=_caveats(plan),
    )


def _caveats(plan: CapacityPlan) -> list[str]:
    """Why a requirement is infeasible, and where it rests on an extrapolation."""
    infeasible = [f"{r.scenario} on {r.option} is infeasible: {r.reason}" for r in plan.requirements if not r.feasible]
    outside = {f"{r.option}, extrapolated: {t}": None for r in plan.requirements for t in r.extrapolated}
    return [*infeasible, *outside]


def _day(r: Requirement, number: int) -> Figure | None:
    if not r.hours:
        return None
    hours = [float(h.hour) for h in r.hours]
    bars: Json = {
        "type": "bar", "x": hours, "y": [h.replicas for h in r.hours], "name": "replicas", "marker": {"color": "@c1"},
    }  # fmt: skip
    rate = line(hours, [h.rate for h in r.hours], "requests/s", "@c2", yaxis="y2")
    return Figure(
        f"day-{number}",
        f"{r.scenario} on {r.option} over a day",
        "Replicas that each hour needs, and its load.",
        [bars, rate],
        layout(
            xaxis=axis("hour"),
            yaxis=axis("replicas"),
            yaxis2=axis("requests/s", overlaying="y", side="right", showgrid=False),
        ),
    )


def _objectives(plan: CapacityPlan) -> HtmlTable:
    rows: Rows = [
        [r.scenario, r.option, o.name, o.target, _MARKS[o.verdict], _number(o.value), _number(o.bound), _why(o)]
        for r in plan.requirements
        for o in r.slos
    ]
    header: list[Html] = ["Scenario", "Option", "Objective", "Target", "", "Expected", "95 % bound", ""]
    caption = "With the replicas that remain when the spare ones are down, on the busiest of them."
    return HtmlTable("Service level objectives", caption, header, rows, 4, words=True)


def _number(value: Scalar) -> str:
    if isinstance(value, Absent):
        return DASH
    if value.unit == "USD/token":
        return f"${digits(value.value * 1e6)} for 10⁶ tokens"
    return quantity(value.value, value.unit)


def _why(o: Outlook) -> str:
    return o.message or (o.bound.absent if isinstance(o.bound, Absent) else "")


def _checks(plan: CapacityPlan) -> Section:
    rows: Rows = []
    for r in plan.requirements:
        for tried in r.check.rows if r.check else ():
            assert r.check is not None
            mark = "pass" if tried.holds else "fail"
            values = ", ".join(f"{name} {quantity(v, 's')}" for name, v in tried.values.items())
            chosen = " (the plan's)" if tried.replicas == r.check.planned else ""
            rows.append([r.scenario, r.option, f"{tried.replicas}{chosen}", _MARKS[mark], values])
    header: list[Html] = ["Scenario", "Option", "Replicas", "", "What the simulator saw"]
    seconds = next(r.check.seconds for r in plan.requirements if r.check)
    text = (
        f"The same load on simulated replicas, {seconds / 60:.0f} minutes of the peak in virtual time: with as many as "
        f"the planner needs ({BEFORE}) and one more and one fewer. Requests are spread over the replicas at random."
    )
    differ = [
        f"{r.scenario} on {r.option}: {r.check.message}" for r in plan.requirements if r.check and not r.check.agrees
    ]
    table = HtmlTable("Planner against simulator", "Latencies as simulated.", header, rows, 3, words=True)
    return Section("Cross-check", "check", text=text, items=differ, tables=[table])


def _matrix(plan: CapacityPlan) -> Section:
    options = [o.name for o in plan.options]
    loads = list(dict.fromkeys(c.load for c in plan.matrix))
    at = {(c.load, c.option): c for c in plan.matrix}
    rows: Rows = []
    for load in loads:
        cells: list[Html] = []
        for option in options:
            c = at[load, option]
            cells.append(
                Markup('<span class="mark bad">infeasible</span>')
                if not c.feasible
                else Markup('<span title="{}">{} × · {} GPU · {}</span>').format(
                    f"needed {c.needed}, utilisation {share(c.utilization)}", c.replicas, c.gpus, usd(c.cost_hour)
                )
            )
        rows.append([f"{load:g} ×", digits(plan.base_rate * load), *cells])
    header: list[Html] = ["Load", "Requests/s", *options]
    caption = "Replicas, GPUs and USD an hour, with all margins."
    heat: Json = {
        "type": "heatmap",
        "x": [f"{load:g} ×" for load in loads],
        "y": [wrapped(o) for o in options],
        "z": [[at[load, o].gpus for load in loads] for o in options],
        "colorscale": [[0, "rgb(75,91,214)"], [0.5, "rgb(26,156,140)"], [1, "rgb(217,142,4)"]],
        "colorbar": {"title": {"text": "GPUs"}},
        "hovertemplate": "%{y}, load %{x}: %{z} GPUs<extra></extra>",
    }
    figure = Figure(
        "matrix-heat",
        "GPUs by load and option",
        "Empty: infeasible.",
        [heat],
        layout(
            xaxis=axis("load", rangemode="normal", type="category"),
            yaxis=axis("", rangemode="normal", type="category", autorange="reversed"),
        ),
        height=160 + 50 * len(options),
        wide=True,
    )
    table = HtmlTable("Capacity matrix", caption, header, rows, 1)
    return Section("Capacity matrix", "matrix", figures=[figure], tables=[table])


def _curves(plan: CapacityPlan) -> Section:
    traces: list[Json] = []
    for i, c in enumerate(plan.curves):
        color = PALETTE[i % len(PALETTE)]
        x = [float(r) for r in c.replicas]
        traces.append(line(x, c.within_slos, wrapped(c.option, 32), color))
        traces.append(line(x, c.most, wrapped(f"{c.option}, at most", 32), color, dash=DASHES[2]))
    figure = Figure(
        "scaling",
        "Throughput over replicas",
        "; ".join(["Solid: within the objectives", *dict.fromkeys(f"scaling {c.scaling}" for c in plan.curves)]) + ".",
        traces,
        layout(xaxis=axis("replicas"), yaxis=axis("output tokens/s")),
        height=360,
        wide=True,
    )
    return Section("Scaling", "scaling-curves", figures=[figure])


def _costs(plan: CapacityPlan) -> Section:
    rows: Rows = []
    for r in plan.requirements:
        c = r.cost
        if isinstance(c, Absent) or isinstance(c.hour, Absent):
            why = c.absent if isinstance(c, Absent) else c.hour.absent if isinstance(c.hour, Absent) else ""
            rows.append([r.scenario, r.option, *[DASH] * 5, why])
            continue
        money = [usd(v) for v in (c.hour, c.day, c.month, c.constant_day, c.per_million_tokens)]
        rows.append([r.scenario, r.option, *money, f"{usd(c.per_million_low)} to {usd(c.per_million_high)}"])
    header: list[Html] = ["Scenario", "Option", "An hour at the peak", "A day", "30 days", "A day at the peak's size",
                          "1M output tokens", "Range"]  # fmt: skip
    caption = "GPUs only. Range: without any spare capacity, to one replica more."
    priced = [r for r in plan.requirements if isinstance(r.cost, Cost) and isinstance(r.cost.month, Measured)]
    figures = [_cost_figure(plan, priced)] if priced else []
    return Section(
        "Cost", "cost", figures=figures, tables=[HtmlTable("Cost projections", caption, header, rows, 2, words=True)]
    )


def _cost_figure(plan: CapacityPlan, priced: Sequence[Requirement]) -> Figure:
    traces: list[Json] = []
    for i, option in enumerate(plan.options):
        of = [r for r in priced if r.option == option.name]
        months = [r.cost.month.value for r in of if isinstance(r.cost, Cost) and isinstance(r.cost.month, Measured)]
        color = {"color": PALETTE[i % len(PALETTE)]}
        at = {"x": months, "y": [wrapped(r.scenario) for r in of]}
        traces.append({"type": "bar", "orientation": "h", "name": wrapped(option.name, 32), **at, "marker": color})
    names = axis("", rangemode="normal", type="category", autorange="reversed")
    bars = len({r.scenario for r in priced}) * (10 + 20 * len(traces))
    return Figure(
        "costs", "Cost of 30 days", "USD, by scenario and option.", traces,
        layout(xaxis=axis("USD"), yaxis=names, barmode="group"), height=130 + 20 * len(traces) + bars, wide=True,
    )  # fmt: skip


def _recovery(plan: CapacityPlan) -> HtmlTable:
    rows: Rows = [
        [
            r.scenario,
            r.option,
            f"a {r.loss} ({r.lost})",
            Markup('<span class="mark good">✓ kept</span>')
            if r.survives
            else Markup('<span class="mark bad">✗ missed</span>'),
            share(r.utilization),
            DASH if r.replicas is None else str(r.replicas),
            usd(r.extra_cost_hour),
        ]
        for r in plan.recovery
    ]
    header: list[Html] = ["Scenario", "Option", "Loses", "Objectives", "Utilisation then", "Replicas to keep them",
                          "More an hour"]  # fmt: skip
    caption = f"At the peak, the replicas spread evenly over {plan.margins['zones']:.0f} zones."
    return HtmlTable("After a loss", caption, header, rows, 3)


def _options(plan: CapacityPlan) -> HtmlTable:
    rows: Rows = [
        [
            o.name,
            o.hardware,
            str(o.gpus),
            o.basis,
            str(o.places),
            digits(o.requests_per_second),
            digits(o.output_tokens_per_second),
            _number(o.within_slos),
            o.limited_by,
            usd(o.replica_hour),
            share(o.error),
        ]
        for o in plan.options
    ]
    header: list[Html] = ["Option", "Hardware", "GPUs", "Basis", "In service", "Requests/s", "Tokens/s",
                          "Within objectives", "Limited by", "USD/hour", "Held-out error"]  # fmt: skip
    return HtmlTable("One replica of each", f"roofline: {ROOFLINE}.", header, rows, 2)


def _notes(plan: CapacityPlan) -> list[str]:
    def of(option: Option) -> list[str]:
        return [f"{option.name}: {n}" for n in (option.source, *option.notes)]

    return [n for o in plan.options for n in of(o)]


def _margins(plan: CapacityPlan) -> list[str]:
    m = plan.margins
    return [
        f"margins: at most {m['max_utilization']:.0%} utilisation, the busiest replica has {m['imbalance']:g} times "
        f"the mean load, {m['spare_replicas']:.0f} spare replicas"
    ]
