"""What an analysis is given, whoever has it: a run folder, several of them merged, or records in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.model import BenchmarkConfig
from ..domain.events import Event
from ..domain.records import Records
from ..domain.samples import Samples


@dataclass(frozen=True, slots=True)
class RunInput:
    """One run as an analysis sees it.

    Attributes:
        run_id: id of the run.
        manifest: manifest.json (keys: started, tool_version, target {type, url, model, server, fingerprint, info},
            simulated, config_digest, idle_round_trip_s, sizer {method, error, overhead}, shard {index, count}).
        config: the resolved configuration.
        events: every event of the run, in order.
        parts: iterates over the records in batches of bounded size, in no particular order; may be called again.
        samples: iterates over the time series of the collectors, likewise.
        complete: false when the run was interrupted or its process died (status becomes "partial").
    """

    run_id: str
    manifest: Mapping[str, Any]
    config: BenchmarkConfig
    events: Sequence[Event]
    parts: Callable[[], Iterable[Records]]
    complete: bool = True
    missing_shards: Sequence[int] = ()
    samples: Callable[[], Iterable[Samples]] = tuple
