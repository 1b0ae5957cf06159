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
from ..store.folder import MARK, RunFolder
from ..store.index import RunIndex

NO_RESULT = ("running", "no result")
"""How the index calls runs that have none."""


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
        StoreError: a path is not there, or the index of a folder cannot be used.
    """
    runs: list[PastRun] = []
    found, unread = _fitting(paths, wanted, last)
    for path in found:
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
    past = history(runs[-last:] if last else runs, metrics, by=by, magnitude=magnitude)
    notes = [f"{unread} run folders without a readable result are left out"] if unread else []
    return History(past.by, past.trends, [*notes, *past.notes])


def _fitting(paths: Sequence[Path], wanted: RunFilter, last: int | None) -> tuple[list[Path], int]:
    """Run folders that may fit: those given, and of a folder that holds some the latest that its index knows to fit, so
    that of thousands only these are read. And how many there have no result."""
    found: list[Path] = []
    without = 0
    for path in paths:
        if (path / MARK).is_file() or not path.is_dir():
            found.append(RunFolder.open(path).path)
            continue
        with RunIndex(path) as index:
            index.sync()
            runs = index.runs(wanted)
        ended = [run.path for run in runs if run.status not in NO_RESULT]
        without += len(runs) - len(ended)
        found += ended[:last]
    return found, without


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
