"""From a result to the exit code of the command."""

from __future__ import annotations

from collections.abc import Collection

from ..domain.comparison import RegressionResult
from ..domain.errors import ExitCode
from ..domain.records import ErrorClass
from ..domain.result import RunResult

# Failures that say the server was not there or refused to work, as opposed to a generator that produced nothing.
_TARGET_FAILURES = frozenset(ErrorClass) - {ErrorClass.PROTOCOL}


def exit_code(result: RunResult, fail_on: Collection[str], regression: RegressionResult | None = None) -> ExitCode:
    """The exit code of a finished run; of several reasons the first of 7, 4, 3."""
    if result.status == "failed":
        blamed = set(result.requests.errors) & {str(e) for e in _TARGET_FAILURES}
        return ExitCode.TARGET_FAILED if blamed else ExitCode.GENERATOR_FAILED
    if "invalid" in fail_on and not result.validity.valid:
        return ExitCode.INVALID
    if "regression" in fail_on and regression is not None and regression.verdict == "fail":
        return ExitCode.REGRESSION
    if "slo" in fail_on and any(s.verdict == "fail" for s in result.slos):
        return ExitCode.SLO_FAILED
    return ExitCode.OK
