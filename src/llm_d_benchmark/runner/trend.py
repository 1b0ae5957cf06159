"""Run folders to the history of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..analyze.comparison.history import METRICS, By, PastRun, history
from ..config.layers import load_resolved
from ..domain.comparison import History
from ..domain.errors import ConfigError, StoreError
from ..domain.result import RunResult
from ..report.format import moment
from ..store.filter import RunFilter
from ..store.folder import RunFolder, runs_at


def trend(
    paths: Sequence[Path],
    wanted: RunFilter,
    metrics: Sequence[str] = METRICS,
    *,
    last: int | None = None,
    by: By = "date",
    magnitude: float = 0.05,
) -> History:
    """The history of the runs at ``paths`` (run folders, or folders that hold some).

    Runs are in the order they started. A run's version is its label ``version``, else what its server says; its commit
    is its label ``commit``.

    Args:
        last: the most runs, the latest ones.

    Raises:
        ConfigError: no run fits the filter, or one has no key of the kind asked for.
        StoreError: a path is no run folder and holds none.
    """
    runs: list[PastRun] = []
    unread = 0
    for path in runs_at(paths):
        folder = RunFolder.open(path)
        try:
            result = folder.result()
        except StoreError:
            unread += 1
            continue
        config = load_resolved(folder.config_text).to_dict()
        labels = config.get("metadata", {}).get("labels", {})
        if wanted.fits(result.name, result.target.model, labels):
            runs.append(PastRun(result, config, _key(result, labels, by)))
    if not runs:
        raise ConfigError(
            "no run fits", advice="give folders that hold run folders, and check --name, --model, --label"
        )
    runs.sort(key=lambda r: r.result.started)
    found = history(runs[-last:] if last else runs, metrics, by=by, magnitude=magnitude)
    notes = [f"{unread} run folders without a readable result are left out"] if unread else []
    return History(found.by, found.trends, [*notes, *found.notes])


def _key(result: RunResult, labels: Mapping[str, str], by: By) -> str:
    if by == "date":
        return moment(result.started).removesuffix(" UTC")
    found = labels.get(by) or (result.target.server if by == "version" else None)
    if not found:
        raise ConfigError(
            f"run {result.run_id} does not say its {by}",
            advice=f"set it when you run: --set metadata.labels.{by}=...; or use --by date",
        )
    return found
