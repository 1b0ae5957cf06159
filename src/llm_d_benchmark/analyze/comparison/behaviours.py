"""What changed between the behaviours of two servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ...domain.comparison import Behaviour, Outcome

UNKNOWN = Outcome(False, "not probed")


def compare_behaviours(baseline: Mapping[str, Outcome], test: Mapping[str, Outcome]) -> list[Behaviour]:
    """Every probed behaviour in order, with its change from baseline to test."""
    names = list(dict.fromkeys([*baseline, *test]))
    return [_compare(name, baseline.get(name, UNKNOWN), test.get(name, UNKNOWN)) for name in names]


def _compare(name: str, old: Outcome, new: Outcome) -> Behaviour:
    change: Literal["none", "gained", "lost", "changed"] = "none"
    if old.works != new.works:
        change = "gained" if new.works else "lost"
    elif old.works and old.said != new.said:
        change = "changed"
    message = "" if change == "none" else f"was: {old.said}; is: {new.said}"
    return Behaviour(name, _word(old), _word(new), change, message)


def _word(outcome: Outcome) -> str:
    return outcome.said if outcome.works else f"no: {outcome.said}"
