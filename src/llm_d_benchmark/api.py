"""The public Python API, for notebooks and scripts.

import llm_d_benchmark as bench
config = bench.load_config("benchmark.yaml", sets=["spec.benchmark.duration=30s"])
run = bench.run(config)
run.result.stages[0].metrics.ttft
run.records()            # a polars DataFrame ([notebook] extra)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import layers
from .config.layers import LoadedConfig
from .domain.comparison import Comparison, RegressionResult
from .domain.result import RunResult
from .loadgen.registry import own_file
from .runner.apart import apart
from .runner.bus import Observer
from .runner.options import RunOptions
from .store import frames
from .store.folder import RunFolder

if TYPE_CHECKING:
    import polars

    from .analyze.comparison.study import Side


class Run:
    """A finished run: its folder, its result, its data as DataFrames."""

    def __init__(self, path: str | Path) -> None:
        self._folder = RunFolder.open(Path(path))

    @property
    def path(self) -> Path:
        return self._folder.path

    @property
    def report(self) -> Path:
        """Path of report.html."""
        return self._folder.path / "report.html"

    @property
    def result(self) -> RunResult:
        """The content of result.json."""
        return self._folder.result()

    def records(self, columns: Sequence[str] | None = None) -> polars.DataFrame:
        """One row per request; columns as docs/run-folder.md lists them.

        Raises:
            ConfigError: the [notebook] extra is not installed.
        """
        return frames.records_frame(self._folder, columns=columns)

    def events(self) -> polars.DataFrame:
        """One row per event: time (epoch ns), type, data (JSON text)."""
        return frames.events_frame(self._folder)

    def metrics(self) -> polars.DataFrame:
        """One row per stage, model, metric and statistic."""
        return frames.metrics_frame(self._folder)

    def _repr_html_(self) -> str:
        return f'<a href="{self.report}">{self._folder.run_id}</a>'


def load_config(
    *files: str | Path, sets: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> LoadedConfig:
    """Load configuration files, later ones over earlier ones.

    Args:
        files: YAML files; none for the defaults.
        sets: ``path=value`` assignments as the command line takes them.
        overrides: nested values over everything else, e.g. ``{"spec": {"target": {"type": "local"}}}``.

    Raises:
        ConfigError: with file, line, key and what is allowed.
    """
    return layers.load_config([Path(f) for f in files], sets=sets, overrides=overrides, own_file=own_file)


def run(config: LoadedConfig, output: str | Path = "results", *, observers: Sequence[Observer] = ()) -> Run:
    """Run a configuration and return the finished run; also from a notebook, where an event loop is running.

    An interrupt (Ctrl-C, a notebook's stop button) ends the load early, and what was measured is analysed and written;
    a second one gives up the analysis, too.

    Raises:
        KeyboardInterrupt: it was interrupted; the message has the folder, which ``open_run`` opens.
        ConfigError, TargetError, GeneratorError, StoreError: the run failed; what was measured is in ``output``.
    """
    from .runner.run import run as run_async

    options = RunOptions(output=Path(output), command="llm_d_benchmark.run(...)")
    outcome = apart(
        lambda stop: run_async(config, options, observers=observers, stop=stop), lambda outcome: outcome.folder
    )
    if outcome.failure is not None:
        raise outcome.failure
    return Run(outcome.folder)


def compare(*runs: str | Path) -> Comparison:
    """Compare finished runs with the first, as ``llm-d-benchmark compare`` does.

    Raises:
        ConfigError: fewer than two runs.
        StoreError: a path is no run folder and holds none.
    """
    from .runner.compare import compare as compare_folders

    return compare_folders([Path(r) for r in runs])[0]


def regress(
    config: LoadedConfig,
    output: str | Path = "results",
    *,
    baseline_url: str | None = None,
    test_url: str | None = None,
    observers: Sequence[Observer] = (),
) -> RegressionResult:
    """Run the two versions of ``spec.regression_testing`` in turns and judge the test version.

    Raises:
        KeyboardInterrupt: it was interrupted; what was measured is judged and kept, as ``run`` does.
        ConfigError, TargetError, GeneratorError, StoreError: it did not get to its end; what was measured is in the
            study's folder in ``output``.
    """
    from .runner.regress import RegressOptions
    from .runner.regress import regress as regress_async

    urls: dict[Side, str | None] = {"baseline": baseline_url, "test": test_url}
    options = RegressOptions(Path(output), "llm_d_benchmark.regress(...)", urls)
    outcome = apart(
        lambda stop: regress_async(config, options, observers=observers, stop=stop), lambda outcome: outcome.folder
    )
    if outcome.failure is not None:
        raise outcome.failure
    return outcome.result


def open_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        StoreError: it is not one.
    """
    return Run(path)
