"""Run folders to the history of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..analyze.comparison.history import METRICS, By, PastRun, history
from ..config.layers import load_resolved
from ..domain.comparison import History
from ..domain.errors import ConfigError, StoreError
from ..domain.result import RunResult
from ..report.format import moment
from ..store.folder import RunFolder
from .study import run_folders


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are looked at; what is empty does not restrict. ``last``: the most runs, the latest ones."""

    name: str = ""
    model: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    last: int | None = None


def trend(
    paths: Sequence[Path], wanted: Filter, metrics: Sequence[str] = METRICS, *, by: By = "date", magnitude: float = 0.05
) -> History:
    """The history of the runs at ``paths`` (run folders, or folders that hold some).

    Runs are in the order they started. A run's version is its label ``version``, else what its server says; its commit
    is its label ``commit``.

    Raises:
        ConfigError: no run fits the filter, or one has no key of the kind asked for.
        StoreError: a path is no run folder and holds none.
    """
    runs: list[PastRun] = []
    unread = 0
    for path in run_folders(paths):
        folder = RunFolder.open(path)
        try:
            result = folder.result()
        except StoreError:
            unread += 1
            continue
        config = load_resolved(folder.config_text).to_dict()
        labels = config.get("metadata", {}).get("labels", {})
        if _fits(result, labels, wanted):
            runs.append(PastRun(result, config, _key(result, labels, by)))
    if not runs:
        raise ConfigError(
            "no run fits", advice="give folders that hold run folders, and check --name, --model, --label"
        )
    runs.sort(key=lambda r: r.result.started)
    found = history(runs[-wanted.last :] if wanted.last else runs, metrics, by=by, magnitude=magnitude)
    notes = [f"{unread} run folders without a readable result are left out"] if unread else []
    return History(found.by, found.trends, [*notes, *found.notes])


def _fits(result: RunResult, labels: Mapping[str, str], wanted: Filter) -> bool:
    return (
        (not wanted.name or result.name == wanted.name)
        and (not wanted.model or result.target.model == wanted.model)
        and all(labels.get(k) == v for k, v in wanted.labels.items())
    )


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
