"""What a run is asked beyond its configuration, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..domain.comparison import RegressionResult
from ..domain.errors import BenchmarkError, ExitCode
from ..domain.result import RunResult
from ..domain.schedule import Shard
from ..loadgen.native.spare import WorkerProcess


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, as opposed to what to measure.

    Attributes:
        output: folder that run folders are created in.
        command: the command line that reproduces the run, for the report.
        shard: the part of the schedule this machine sends.
        start_at: epoch ns at which the load starts; None: as soon as ready.
        fail_on: which of slo, regression, invalid make the exit code non-zero.
        baseline: finished runs (folders, or folders that hold some) that this run is judged against; none: it is not.
        worker: a worker of the native generator that was started beforehand, for the first of them to use.
    """

    output: Path = Path("results")
    command: str = ""
    shard: Shard = field(default_factory=Shard)
    start_at: int | None = None
    fail_on: frozenset[str] = frozenset({"invalid", "slo", "regression"})
    baseline: tuple[Path, ...] = ()
    worker: WorkerProcess | None = None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Where a run left its folder, what it found, and how the command should end.

    ``failure`` is why the load ended early although something was measured (interrupt, server or generator died).
    ``regression`` is the verdict against the baseline, where one was given.
    """

    folder: Path
    result: RunResult
    exit_code: ExitCode
    report: Path
    failure: BenchmarkError | None = None
    regression: RegressionResult | None = None
