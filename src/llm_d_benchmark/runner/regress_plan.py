"""``regress --dry-run``: what a regression test would do, without touching a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..analyze.comparison import plan as plan_ahead
from ..analyze.comparison.study import SIDES, Criteria, Side, criteria_of, question_of
from ..config.blocks import RegressionTesting
from ..config.layers import LoadedConfig
from ..config.resolve import resolve_target
from ..domain.schedule import Shard
from .arms import ArmPlan, arms_of, same_server
from .dryrun import Plan, plan
from .virtual import simulated_in

WHOLE = Shard(0, 1)


@dataclass(frozen=True, slots=True)
class PlannedArm:
    """One side: its version, and one run of it as it would be."""

    side: Side
    version: str
    run: Plan


@dataclass(frozen=True, slots=True)
class RegressionPlan:
    """What ``--dry-run`` shows.

    Attributes:
        least_pairs, most_pairs: runs of each side; the number between them is chosen from the noise of the first ones.
        pair_s: seconds of load of one pair; None where the servers' speed decides. Starting servers comes on top.
        budget_s: after which no further pair starts.
        criteria: name -> limit, of those that are judged.
        deciding, shown: metrics that the verdict rests on, and those set beside them.
    """

    arms: Sequence[PlannedArm]
    least_pairs: int
    most_pairs: int
    pair_s: float | None
    budget_s: float | None
    criteria: Mapping[str, str]
    deciding: Sequence[str]
    shown: Sequence[str]
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        seconds = None if self.pair_s is None else [n * self.pair_s for n in (self.least_pairs, self.most_pairs)]
        return {
            "arms": {a.side: {"version": a.version, "run": a.run.to_dict()} for a in self.arms},
            "pairs": {"least": self.least_pairs, "most": self.most_pairs},
            "expected_seconds_of_load": seconds,
            "time_budget": self.budget_s,
            "criteria": dict(self.criteria),
            "metrics_that_decide": list(self.deciding),
            "metrics_shown": list(self.shown),
            "notes": list(self.notes),
        }


def plan_regression(loaded: LoadedConfig, urls: Mapping[Side, str | None]) -> RegressionPlan:
    """The plan of a regression test.

    Raises:
        ConfigError: the versions cannot be resolved to targets, or a run of one cannot be made.
    """
    block = loaded.config.spec.regression_testing or RegressionTesting()
    arms = arms_of(loaded, urls)
    asked = criteria_of(block, probed=True)
    question, notes = question_of(loaded.config, asked, alpha=plan_ahead.ALPHA)
    planned = [PlannedArm(side, arm.version, plan(arm.config, WHOLE)) for side, arm in zip(SIDES, arms, strict=True)]
    seconds = [a.run.seconds for a in planned]
    notes = [*notes, *_notes(arms, planned, asked)]
    judged = asked.performance is not None
    deciding = [r.path for r in question.deciding] if judged else []
    return RegressionPlan(
        arms=planned,
        least_pairs=block.min_runs,
        most_pairs=block.max_runs,
        pair_s=None if None in seconds else sum(s for s in seconds if s is not None),
        budget_s=block.time_budget,
        criteria=_criteria(asked),
        deciding=deciding,
        shown=[r.path for r in question.shown if r.path not in deciding],
        notes=notes,
    )


def _notes(arms: Sequence[ArmPlan], planned: Sequence[PlannedArm], asked: Criteria) -> Iterator[str]:
    if same_server(*arms):
        yield "both sides are one and the same server: this shows its noise, not a difference"
    configs = [arm.config.config for arm in arms]
    if any(simulated_in(config, resolve_target(config)) is not None for config in configs):
        yield "the load is simulated in virtual time, which passes in a small part of these seconds"
    requests = planned[1].run.requests
    if asked.stability is not None and requests:
        pairs = plan_ahead.pairs_for_stability(requests, asked.stability.value)
        yield f"stability {asked.stability} takes {pairs} pairs of so many requests to show, were none to fail"


def _criteria(asked: Criteria) -> dict[str, str]:
    found = {
        "performance_regression": asked.performance,
        "functionality_changes": asked.functionality,
        "stability": asked.stability,
    }
    return {name: str(limit) for name, limit in found.items() if limit is not None}
