"""The criteria of a regression test beside performance, and the one verdict for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...domain.comparison import Behaviour, CriterionResult, Stability, Verdict
from ...domain.quantities import Threshold
from ...domain.result import Absent, Measured, RunResult, Scalar
from .power import requests_needed
from .regression import Performance
from .stability import success_bounds

MOST_NAMED = 4
UNWATCHED = "stability is not asked for"
NOT_PROBED = "the API was not probed: finished runs hold no trace of it; regress -c F probes both servers"


def stability_of(runs: Sequence[RunResult], outages: tuple[float, float] | None) -> Stability:
    """What the runs of one arm say, whatever became of them.

    Args:
        outages: seconds without a server, and seconds watched (``stability.outages``), over all runs; None where nobody
            looked, which takes the records of every run.
    """
    succeeded = sum(r.requests.succeeded for r in runs)
    finished = succeeded + sum(r.requests.failed for r in runs)
    shares: list[Scalar] = [Absent("no request finished")] * 3
    if finished:
        shares = [Measured(v, "fraction") for v in (succeeded / finished, *success_bounds(succeeded, finished))]
    times: list[Scalar] = [Absent(UNWATCHED if outages is None else "too few requests to tell")] * 2
    down_s, observed_s = outages or (0.0, 0.0)
    if observed_s > 0:
        times = [Measured(1 - down_s / observed_s, "fraction"), Measured(down_s, "s")]
    return Stability(finished, succeeded, *shares, *times)


def judge_stability(found: Stability, limit: Threshold) -> CriterionResult:
    """On the bound of the requests that succeed and, where it says uptime, on the time the server answered as well."""
    verdict, message = _stability(found, limit)
    return CriterionResult("stability", str(limit), verdict, message)


def _stability(found: Stability, limit: Threshold) -> tuple[Verdict, str]:
    lower, upper = (s.value if isinstance(s, Measured) else None for s in (found.success_lower, found.success_upper))
    if lower is None or upper is None:
        return "inconclusive", "no request of the test version finished"
    failed = found.finished - found.succeeded
    said = f"{failed:,} of {found.finished:,} requests failed"
    if limit.subject != "success" and isinstance(found.uptime, Measured) and isinstance(found.downtime, Measured):
        said += f"; the server answered {found.uptime.value:.3%} of the time"
        if not limit.holds(found.uptime.value):
            return "fail", f"{said} ({found.downtime.value:.3g} s without it)"
    if limit.holds(lower):
        return "pass", f"{said}: at least {lower:.3%} succeed (95 % confidence)"
    if not limit.holds(upper):
        return "fail", f"{said}: at most {upper:.3%} succeed (95 % confidence)"
    needed = requests_needed(failed, limit.value) if limit.value < 1 else None
    advice = f"; {needed:,} requests with no more failures would show it" if needed else ""
    return "inconclusive", f"{said}: at least {lower:.3%} succeed (95 % confidence), which is not enough{advice}"


def judge_functionality(behaviours: Sequence[Behaviour], accepted: str) -> CriterionResult:
    """``compatible``: nothing that worked is lost or different. ``none``: nothing changed. ``any``: only shown."""
    if not behaviours:
        return CriterionResult("functionality_changes", accepted, "inconclusive", NOT_PROBED)
    kinds = {"compatible": ("lost", "changed"), "none": ("lost", "changed", "gained"), "any": ()}[accepted]
    changed = [b for b in behaviours if b.change != "none"]
    refused = [b for b in changed if b.change in kinds]
    names = ", ".join(f"{b.name} {b.change}" for b in (refused or changed))
    if refused:
        return CriterionResult("functionality_changes", accepted, "fail", names)
    said = f"{len(behaviours)} behaviours probed, " + (f"accepted changes: {names}" if changed else "none changed")
    return CriterionResult("functionality_changes", accepted, "pass", said)


def judge_performance(found: Performance, limit: Threshold, nothing: str | None = None) -> CriterionResult:
    """The verdict over all deciding metrics, in words.

    Args:
        nothing: why no run can be compared (``usable.nothing_usable``).
    """
    deciding = [m for m in found.metrics if m.decides]
    these = [f"{m.metric} at {m.load}" for m in deciding if m.verdict == found.verdict]
    if not deciding:
        message = nothing or "the two sides share no metric at any load"
    elif found.verdict == "pass":
        message = f"each of {len(deciding)} metrics is surely within the limit"
    else:
        message = "surely slower: " if found.verdict == "fail" else "cannot be told yet: "
        message += ", ".join(these[:MOST_NAMED])
        message += f" and {len(these) - MOST_NAMED} more" if len(these) > MOST_NAMED else ""
        if found.further_runs is not None:
            message += f"; about {found.further_runs} more runs of each side are needed"
        elif found.verdict == "inconclusive" and any(m.effect for m in deciding):
            message += "; too close to the limit for more runs to settle it"
    return CriterionResult("performance_regression", str(limit), found.verdict, message)


def overall(criteria: Sequence[CriterionResult]) -> tuple[Verdict, str]:
    """One verdict and one sentence."""
    by: Mapping[Verdict, list[str]] = {
        v: [c.name.replace("_", " ") for c in criteria if c.verdict == v] for v in _WORDS
    }
    for verdict, words in _WORDS.items():
        if by[verdict]:
            return verdict, words.format(", ".join(by[verdict]))
    return "inconclusive", "No criterion was asked for."


_WORDS: Mapping[Verdict, str] = {
    "fail": "The test version fails: {}.",
    "inconclusive": "No regression was shown, and none was ruled out: {}.",
    "pass": "The test version passes: {}.",
}
