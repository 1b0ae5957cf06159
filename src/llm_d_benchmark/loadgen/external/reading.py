"""What any tool left, read by its adapter: what is not as the tool writes it is an error that says so, never a bug."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...domain.errors import GeneratorError
from ...domain.records import MISSING, Records
from .api import NativeResult, NativeStage

LONGEST_S = 31 * 86400
_LATEST_NS = 2**62
_ODD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading raises that meets other types, values or shapes than the tool writes."""

Reader = Callable[[Path], Sequence[NativeResult]]


def read(reader: Reader, tool: str, path: Path) -> list[NativeResult]:
    """Results as the reader gives them.

    Raises:
        GeneratorError: there are none, they are not as ``tool`` writes them, or they say nothing of any request.
    """
    try:
        results = list(reader(path))
        for result in results:
            for stage in result.stages:
                _plausible(stage)
    except OSError as error:
        raise GeneratorError(f"{error.filename or path} cannot be read: {error.strerror or error}") from None
    except _ODD as error:
        raise GeneratorError(
            f"{path} is damaged, or not as {tool} writes it: {type(error).__name__}: {error}",
            advice="if it is as the tool wrote it, please report this with the tool's version",
        ) from error
    if not any(_tells(stage) for result in results for stage in result.stages):
        raise GeneratorError(
            f"{path} is of {tool}, but says nothing of its requests",
            advice=f"give the file or folder that {tool} wrote its latencies to",
        )
    return results


def seen(records: Records) -> tuple[int, int] | None:
    """From the first request sent to the last answer, epoch ns."""
    times = [records.ints(name) for name in ("sent", "end")]
    known = [t[t != MISSING] for t in times]
    if not all(len(t) for t in known):
        return None
    return int(known[0].min()), int(max(known[0].max(), known[1].max())) + 1


def _plausible(stage: NativeStage) -> None:
    """Raises ValueError for times that no run has."""
    spans = [] if stage.window is None else [stage.window]
    if stage.records is not None and (span := seen(stage.records)) is not None:
        spans.append(span)
    for start, end in spans:
        if not (0 <= start <= end <= _LATEST_NS and end - start <= LONGEST_S * 1e9):
            raise ValueError(f"{stage.name} goes from {start} to {end} ns, which is no time of a run")


def _tells(stage: NativeStage) -> bool:
    """Whether there is a request in it. Figures of the tool's own count where it kept no requests."""
    if stage.records is not None:
        return len(stage.records) > 0
    return bool(stage.aggregates) or any(stage.counts.values())
