"""Whether the numbers of a run say anything of the server, and why they do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...domain.comparison import StudyRun
from ...domain.result import RunResult

BUSY_CLIENT = frozenset({"schedule_delay", "loop_lag"})
"""Reasons of an invalid run that the next one may not have."""
OTHER_OF_PAIR = "the other run of its pair cannot be used"
MOST_NAMED = 2


def unusable(result: RunResult) -> str | None:
    """Why a run cannot be compared, with what to do about it; None of a run that can."""
    if result.status == "failed":
        return f"it failed: {_errors(result)}"
    if result.status == "partial":
        return "it ended early"
    if result.validity.valid:
        return None
    reasons = result.validity.reasons
    what = "the client was the bottleneck" if all(r.code in BUSY_CLIENT for r in reasons) else "it is invalid"
    remedies = _some(r.remedy for r in reasons if r.remedy)
    return f"{what}: {_some(r.message for r in reasons)}" + (f" ({remedies})" if remedies else "")


def stays(result: RunResult) -> bool:
    """Whether another run of the same configuration would be as invalid: its lengths are not those asked for."""
    return result.status == "invalid" and any(r.code not in BUSY_CLIENT for r in result.validity.reasons)


def nothing_usable(runs: Sequence[StudyRun]) -> str | None:
    """Why the two sides cannot be compared, by the first run that is not used; None where both have a usable one."""
    if {r.arm for r in runs if r.used} == {"baseline", "test"}:
        return None
    left_out = [r for r in runs if not r.used and r.reason != OTHER_OF_PAIR]
    if not left_out:
        return "nothing was measured of one side" if runs else "nothing was measured"
    first, more = left_out[0], len(left_out) - 1
    text = f"there is nothing to compare: {first.run or 'a run'} ({first.arm}) cannot be used: {first.reason}"
    return text + (f" ({more} more likewise: see the runs)" if more else "")


def _errors(result: RunResult) -> str:
    return ", ".join(f"{n} requests {kind}" for kind, n in result.requests.errors.items()) or "no request was answered"


def _some(texts: Iterable[str]) -> str:
    """The first few, each once."""
    different = list(dict.fromkeys(texts))
    more = len(different) - MOST_NAMED
    return "; ".join(different[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
