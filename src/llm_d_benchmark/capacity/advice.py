"""What follows from a plan, in sentences; each rests on numbers that stand in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..domain.capacity import CapacityPlan, Cost, Option, Recovery, Requirement
from ..domain.result import Measured


def recommendations(plan: CapacityPlan) -> list[str]:
    """Of the kinds that ``analysis`` and ``use_cases`` ask for; all of them where these are empty."""
    found: list[str] = []
    for scenario, rows in _by_scenario(plan).items():
        found += _scenario(plan, scenario, rows)
    if _asks(plan.use_cases, "disaster_recovery"):
        found += _recovery(plan)
    return found


def _by_scenario(plan: CapacityPlan) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for row in plan.requirements:
        found.setdefault(row.scenario, []).append(row)
    return found


def _best(rows: Sequence[Requirement]) -> Requirement | None:
    """The cheapest that is feasible; of those without a price the one with the fewest GPUs."""
    return min((r for r in rows if r.feasible), key=_price, default=None)


def _asks(asked: Sequence[str], what: str) -> bool:
    return not asked or what in asked


def _scenario(plan: CapacityPlan, scenario: str, rows: Sequence[Requirement]) -> Iterator[str]:
    best = _best(rows)
    if best is None:
        yield f"{scenario}: infeasible on every option. {rows[0].option}: {rows[0].reason}."
        return
    option = next(o for o in plan.options if o.name == best.option)
    if _asks(plan.analysis, "scaling_recommendations"):
        yield _size(scenario, best, option)
    if _asks(plan.analysis, "cost_benefit_analysis") and isinstance(best.cost, Cost):
        yield from _money(scenario, best, option, [r for r in rows if r.feasible])


def _price(r: Requirement) -> tuple[float, int]:
    priced = isinstance(r.cost, Cost) and isinstance(r.cost.day, Measured)
    return (r.cost.day.value if priced else float("inf"), r.gpus or 0)  # type: ignore[union-attr]


def _size(scenario: str, best: Requirement, option: Option) -> str:
    text = f"{scenario}: {best.replicas} replicas of {best.option} ({best.gpus} GPUs) for {best.rate:.3g} requests/s"
    used = f" at {best.utilization.value:.0%} utilisation" if isinstance(best.utilization, Measured) else ""
    return f"{text}{used}; what limits a replica is {option.limited_by}."


def _money(scenario: str, best: Requirement, option: Option, feasible: Sequence[Requirement]) -> Iterator[str]:
    assert isinstance(best.cost, Cost)
    day, constant = best.cost.day, best.cost.constant_day
    if isinstance(day, Measured) and isinstance(constant, Measured) and day.value < constant.value:
        yield (
            f"{scenario}: following the hourly profile costs ${day.value:,.2f} a day instead of "
            f"${constant.value:,.2f} with the peak's replicas all day."
        )
    dearer = [r for r in feasible if r is not best and isinstance(r.cost, Cost) and isinstance(r.cost.day, Measured)]
    if isinstance(day, Measured) and dearer:
        second = min(dearer, key=_price)
        more = second.cost.day.value / day.value - 1  # type: ignore[union-attr]
        yield f"{scenario}: {best.option} is the cheapest option; {second.option} costs {more:.0%} more."
    if isinstance(option.replica_hour, Measured) and best.replicas and best.needed and best.replicas > best.needed:
        margin = (best.replicas - best.needed) * option.replica_hour.value
        yield (
            f"{scenario}: headroom, imbalance and spare replicas are {best.replicas - best.needed} of "
            f"{best.replicas} replicas, ${margin:,.2f} an hour."
        )


def _recovery(plan: CapacityPlan) -> Iterator[str]:
    """Of the option that is recommended for each scenario; the plan's table has all of them."""
    for scenario, rows in _by_scenario(plan).items():
        best = _best(rows)
        losses = [r for r in plan.recovery if r.scenario == scenario and best is not None and r.option == best.option]
        if losses and all(r.survives for r in losses):
            lost = " and of ".join(f"a {r.loss}" for r in losses)
            yield f"{scenario}: the objectives are kept after the loss of {lost}."
        for row in losses:
            if not row.survives:
                yield _loss(row)


def _loss(row: Recovery) -> str:
    price = f", ${row.extra_cost_hour.value:,.2f} an hour more" if isinstance(row.extra_cost_hour, Measured) else ""
    return (
        f"{row.scenario}: losing a {row.loss} ({row.lost} replicas of {row.option}) at the peak misses the "
        f"objectives; {row.replicas} replicas would keep them{price}."
    )
