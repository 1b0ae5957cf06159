"""Where everything is installed (NO_SKIP=1, as CI sets it), a skipped test is a failure."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.support.postgresql import postgresql

__all__ = ["postgresql"]


class NoSkips:
    """Counts skips where the reports come together: in the one process, or in the one that leads several."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.skipped and exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:  # type: ignore[no-untyped-def]
        if self.skipped:
            terminalreporter.write_line(f"NO_SKIP is set, and {len(self.skipped)} tests were skipped:", red=True)
            for nodeid in self.skipped:
                terminalreporter.write_line(f"  {nodeid}")


def pytest_configure(config: pytest.Config) -> None:
    # How long an example takes says how busy the machine is. Where all must pass, examples are the same each time.
    settings.register_profile("here", deadline=None, derandomize="NO_SKIP" in os.environ)
    settings.load_profile("here")
    if os.environ.get("NO_SKIP") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(NoSkips())
