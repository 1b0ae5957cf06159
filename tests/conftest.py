"""Where everything is installed (NO_SKIP=1, as CI sets it), a skipped test is a failure."""

from __future__ import annotations

import os

import pytest

_skipped = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):  # type: ignore[no-untyped-def]
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        item.config.stash[_skipped].append(item.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("NO_SKIP") and session.config.stash[_skipped] and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:  # type: ignore[no-untyped-def]
    if os.environ.get("NO_SKIP") and config.stash[_skipped]:
        terminalreporter.write_line(f"NO_SKIP is set, and {len(config.stash[_skipped])} tests were skipped:", red=True)
        for nodeid in config.stash[_skipped]:
            terminalreporter.write_line(f"  {nodeid}")
