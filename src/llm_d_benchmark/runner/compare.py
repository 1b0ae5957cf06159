"""Run folders to a comparison with what its page overlays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..analyze.comparison.compare import METRICS, Compared, compare_runs
from ..analyze.comparison.levels import levels
from ..analyze.comparison.within import stage_limits
from ..analyze.curves import curves_of
from ..analyze.gather import gather
from ..config.layers import load_resolved
from ..domain.comparison import Comparison
from ..domain.errors import ConfigError
from ..report.comparison_page import Overlay
from ..store.folder import RunFolder, run_input, runs_at


@dataclass(frozen=True, slots=True)
class Side:
    """One run with the quantiles of its latencies: stage index -> metric -> values at even levels."""

    compared: Compared
    quantiles: dict[int, dict[str, Sequence[float]]]


def compare(paths: Sequence[Path], metrics: Sequence[str] = METRICS) -> tuple[Comparison, Overlay]:
    """Compare the runs at ``paths`` (run folders, or folders that hold some) with the first.

    Raises:
        ConfigError: fewer than two runs.
        StoreError: a folder is no run folder, or has no result.
    """
    folders = runs_at(paths)
    if len(folders) < 2:
        raise ConfigError("a comparison needs two runs or more", advice="llm-d-benchmark compare RUN RUN ...")
    sides = [_read(folder) for folder in folders]
    comparison = compare_runs([s.compared for s in sides], metrics)
    return comparison, _overlay(comparison, sides)


def _read(path: Path) -> Side:
    folder = RunFolder.open(path)
    config = load_resolved(folder.config_text)
    stages = gather(run_input(folder, config))
    limits = {data.window.index: stage_limits(data) for data in stages}
    quantiles = {data.window.index: dict(curves_of(data).quantiles) for data in stages}
    return Side(Compared(folder.result(), config.to_dict(), limits), quantiles)


def _overlay(comparison: Comparison, sides: Sequence[Side]) -> Overlay:
    """Of a column with several runs, the quantiles of its first: distributions of runs are not averaged."""
    results = [s.compared.result for s in sides]
    ids = [r.run_id for r in results]
    found: dict[str, dict[str, list[Sequence[float]]]] = {}
    for load, stages in levels(results).items():
        by_metric: dict[str, list[Sequence[float]]] = {}
        for runs in comparison.runs:
            at = next((i for i in map(ids.index, runs) if stages[i] is not None), None)
            stage = None if at is None else stages[at]
            own = {} if at is None or stage is None else sides[at].quantiles.get(stage.index, {})
            for name in ("ttft", "itl", "tpot", "e2e"):
                by_metric.setdefault(name, []).append(own.get(name, ()))
        found[load] = {k: list(v) for k, v in by_metric.items()}
    return found
