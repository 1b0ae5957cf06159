"""The tables of a capacity plan as JSON and CSV, and the plan as lines for a terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from ..domain.capacity import CapacityPlan, Cost, Requirement
from ..domain.result import Absent, Measured, Scalar
from .format import DASH, digits

ROOFLINE = "from published figures (a roofline), not measured"
LEGEND = (
    "needed: replicas that keep the objectives, without any margin; simulated: as the simulator finds;\n"
    "replicas: planned, with headroom, imbalance and spare ones; util, SLOs and $: of these"
)
OUTPUTS = ("capacity_matrix", "scaling_curves", "cost_projections")


def wanted(plan: CapacityPlan, output: str) -> bool:
    """Whether an output is asked for: an empty list asks for all."""
    return not plan.outputs or output in plan.outputs


def render_files(plan: CapacityPlan) -> Mapping[str, str]:
    """Name and text of each table: JSON and CSV of each output that is asked for."""
    tables = {"capacity_matrix": _matrix(plan), "scaling_curves": _curves(plan), "cost_projections": _costs(plan)}
    files: dict[str, str] = {}
    for name in OUTPUTS:
        if wanted(plan, name):
            files[f"{name}.json"] = json.dumps(tables[name], indent=2, allow_nan=False) + "\n"
            files[f"{name}.csv"] = _csv(tables[name])
    return files


Row = dict[str, float | int | str | None]


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows([{k: "" if v is None else v for k, v in row.items()} for row in rows])
    return out.getvalue()


def _value(scalar: Scalar) -> float | None:
    return scalar.value if isinstance(scalar, Measured) else None


def _matrix(plan: CapacityPlan) -> list[Row]:
    return [
        {
            "load": c.load,
            "requests_per_second": c.rate,
            "option": c.option,
            "feasible": "yes" if c.feasible else "no",
            "needed": c.needed,
            "replicas": c.replicas,
            "gpus": c.gpus,
            "utilization": _value(c.utilization),
            "usd_per_hour": _value(c.cost_hour),
        }
        for c in plan.matrix
    ]


def _curves(plan: CapacityPlan) -> list[Row]:
    return [
        {
            "option": c.option,
            "replicas": r,
            "most_tokens_per_second": c.most[i],
            "within_slos_tokens_per_second": c.within_slos[i],
            "scaling": c.scaling,
        }
        for c in plan.curves
        for i, r in enumerate(c.replicas)
    ]


def _costs(plan: CapacityPlan) -> list[Row]:
    names = ("hour", "day", "month", "constant_day", "per_million_tokens", "per_million_low", "per_million_high")
    return [
        {
            "scenario": r.scenario,
            "option": r.option,
            "feasible": "yes" if r.feasible else "no",
            "replicas": r.replicas,
            "gpus": r.gpus,
            **{f"usd_{n}": _value(getattr(r.cost, n)) if isinstance(r.cost, Cost) else None for n in names},
            "reason": r.cost.absent if isinstance(r.cost, Absent) else _unpriced(r.cost),
        }
        for r in plan.requirements
    ]


def _unpriced(cost: Cost) -> str:
    return cost.hour.absent if isinstance(cost.hour, Absent) else ""


def usd(scalar: Scalar) -> str:
    return DASH if isinstance(scalar, Absent) else f"${digits(scalar.value)}"


def share(scalar: Scalar) -> str:
    return DASH if isinstance(scalar, Absent) else f"{scalar.value:.0%}"


def slo_words(row: Requirement) -> str:
    """``2 of 3, 1 not judged``."""
    met = sum(o.verdict == "pass" for o in row.slos)
    unknown = sum(o.verdict == "not_judged" for o in row.slos)
    judged = len(row.slos) - unknown
    return f"{met} of {judged}" + (f", {unknown} not judged" if unknown else "") if row.slos else DASH


def check_words(row: Requirement) -> str:
    """The simulator's count beside the planner's."""
    if row.check is None:
        return DASH
    lowest = row.check.rows[0].replicas
    if row.check.simulated is None:
        return f">{row.check.rows[-1].replicas}"
    return f"{'≤' if row.check.simulated == lowest < row.check.planned else ''}{row.check.simulated}"


def lines(plan: CapacityPlan) -> str:
    """For a terminal."""
    out = [
        f"{plan.name}: {plan.base_rate:.4g} requests/s of {plan.input_tokens:,.0f} + {plan.output_tokens:,.0f} tokens",
        "",
    ]
    for option in plan.options:
        basis = ROOFLINE if option.basis == "roofline" else option.basis
        error = f", held-out error {option.error.value:.1%}" if isinstance(option.error, Measured) else ""
        within = (
            f"{option.within_slos.value:.4g} within the objectives ({option.limited_by})"
            if isinstance(option.within_slos, Measured)
            else option.within_slos.absent
        )
        out.append(
            f"{option.name}: {basis}{error}; one replica serves {option.requests_per_second:.4g} req/s, {within}"
        )
    header = ["scenario", "option", "req/s", "tokens/s", "needed", "simulated", "replicas", "GPUs", "util", "SLOs",
              "$/hour", "$/day", "$/month", "$/1M tokens"]  # fmt: skip
    rows = [header, *(_line(r) for r in plan.requirements)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    out += ["", *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)]
    out += ["", LEGEND]
    out += _said("infeasible", [f"{r.scenario} on {r.option}: {r.reason}" for r in plan.requirements if not r.feasible])
    unknown = {
        f"{o.name}: {o.message.removeprefix('cannot be judged: ')}": None
        for r in plan.requirements
        for o in r.slos
        if o.verdict == "not_judged"
    }
    out += _said("not judged", list(unknown))
    outside = {f"{r.option}: {text}" for r in plan.requirements for text in r.extrapolated}
    out += _said("extrapolated", sorted(outside))
    out += _said("recommended", plan.recommendations)
    out += _said("assumed", plan.assumptions)
    out += _said("warning", plan.warnings)
    return "\n".join(out)


def _said(word: str, sentences: Sequence[str]) -> list[str]:
    return ["", *(f"{word}: {s}" for s in sentences)] if sentences else []


def _line(r: Requirement) -> list[str]:
    cost = r.cost if isinstance(r.cost, Cost) else None
    money = [usd(getattr(cost, n)) if cost else DASH for n in ("hour", "day", "month", "per_million_tokens")]
    return [
        r.scenario,
        r.option,
        digits(r.rate),
        digits(r.output_tokens_per_second),
        DASH if r.needed is None else str(r.needed),
        check_words(r),
        "infeasible" if r.replicas is None else f"{r.replicas}{'' if r.feasible else ' !'}",
        DASH if r.gpus is None else str(r.gpus),
        share(r.utilization),
        slo_words(r),
        *money,
    ]
