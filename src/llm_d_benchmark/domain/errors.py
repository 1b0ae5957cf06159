"""Errors that end a command, each with the exit code the command line promises for it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; a contract with scripts and CI jobs."""

    OK = 0
    BUG = 1
    USAGE = 2
    SLO_FAILED = 3
    REGRESSION = 4
    TARGET_FAILED = 5
    GENERATOR_FAILED = 6
    INVALID = 7
    INTERRUPTED = 130


class BenchmarkError(Exception):
    """A failure that is reported as one message and, where there is one, advice; never as a traceback.

    Args:
        message: what happened, in a sentence.
        advice: what the user can do about it.
    """

    exit_code: ExitCode = ExitCode.BUG

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class ConfigError(BenchmarkError):
    """The configuration or the command line is wrong."""

    exit_code = ExitCode.USAGE


class TargetError(BenchmarkError):
    """The server under test could not be started, reached or used."""

    exit_code = ExitCode.TARGET_FAILED


class GeneratorError(BenchmarkError):
    """The load generator failed or produced no data."""

    exit_code = ExitCode.GENERATOR_FAILED


class InvalidError(BenchmarkError):
    """What was measured says nothing of the server, and measuring it again would not change that."""

    exit_code = ExitCode.INVALID


class StoreError(BenchmarkError):
    """A run folder could not be written or read (disk full, damaged file, not a run folder)."""

    exit_code = ExitCode.GENERATOR_FAILED
