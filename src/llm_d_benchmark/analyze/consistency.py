"""Whether a tool's result fits itself: its records, its counts and its own figures. What does not is a finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from ..domain.events import Finding, Severity
from ..domain.records import MISSING, Records
from ..domain.result import Measured, Scalar

RELATIVE, FLOOR_S = 0.05, 0.005
"""Some tools end a request with its last token, others with the end of the response: smaller differences are none."""
ROUNDING_NS = 1_000


def inconsistencies(
    records: Records | None, aggregates: Mapping[str, Scalar], counts: Mapping[str, int], *, where: str
) -> list[Finding]:
    """Findings on what contradicts itself. How the tool's own figures differ from those of its records, the analysis
    says (``own_figures``).

    Args:
        aggregates: figures under our names (``ttft.mean``, ``e2e.p99``) in SI units.
        counts: the tool's own counts: sent, succeeded, failed, cancelled; those it tells.
        where: what it is about, for the message, e.g. ``aiperf, c=8``.
    """
    found = [*_ascending(aggregates), *_means(aggregates)]
    if records is not None:
        found += [*_times(records), *_counts(records, counts)]
    return [Finding("inconsistent_data", Severity.WARNING, f"{where}: {text}", _ADVICE) for text in found]


_ADVICE = "the data are damaged or defined otherwise; do not rely on this metric before it is explained"


def _times(records: Records) -> Iterator[str]:
    """Each request: sent <= first token <= last token <= end."""
    for earlier, later in pairwise(("sent", "first_token", "last_token", "end")):
        a, b = records.ints(earlier), records.ints(later)
        wrong = int(((a != MISSING) & (b != MISSING) & (a > b + ROUNDING_NS)).sum())
        if wrong:
            yield f"{wrong} of {len(records)} requests have {later} before {earlier}"


def _counts(records: Records, counts: Mapping[str, int]) -> Iterator[str]:
    by = records.labels("status").counts()
    mine = {"sent": len(records), "succeeded": by.get("ok", 0), "failed": by.get("failed", 0)}
    for name, number in mine.items():
        if counts.get(name, number) != number:
            yield f"its summary counts {counts[name]} {name}, its records {number}"


def _ascending(aggregates: Mapping[str, Scalar]) -> Iterator[str]:
    """Percentiles ascend, between the minimum and the maximum."""
    for name in sorted({key.split(".")[0] for key in aggregates}):
        levels = {
            _level(key.split(".", 1)[1]): value.value
            for key, value in aggregates.items()
            if isinstance(value, Measured) and key.startswith(f"{name}.")
        }
        ordered = [levels[k] for k in sorted(k for k in levels if k is not None)]
        if any(a > b * (1 + 1e-9) for a, b in pairwise(ordered)):
            yield f"the percentiles of {name} in its summary do not ascend"


def _level(statistic: str) -> float | None:
    if statistic in ("min", "max"):
        return {"min": -1.0, "max": 101.0}[statistic]
    text = statistic.removeprefix("p")
    return float(text) if statistic.startswith("p") and text.replace(".", "", 1).isdigit() else None


def _means(aggregates: Mapping[str, Scalar]) -> Iterator[str]:
    """e2e = ttft + (n - 1) tpot of the means, where every answer has the same length."""
    names = ("e2e.mean", "ttft.mean", "tpot.mean", "output_tokens.mean", "output_tokens.min", "output_tokens.max")
    told = [v.value for v in (aggregates.get(n) for n in names) if isinstance(v, Measured)]
    if len(told) < len(names) or told[4] != told[5]:
        return
    e2e, right = told[0], told[1] + (told[3] - 1) * told[2]
    if abs(e2e - right) > max(FLOOR_S, RELATIVE * e2e):
        yield f"its mean e2e is {e2e:.6g} s, but ttft + (n - 1) tpot is {right:.6g} s"
