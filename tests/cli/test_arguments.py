"""Command-line values that are more than a word."""

from __future__ import annotations

import time

import pytest

from llm_d_benchmark.cli import arguments
from llm_d_benchmark.cli.app import arguments as with_command
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.schedule import Shard


def test_shards_count_from_zero() -> None:
    assert arguments.shard(None) == Shard(0, 1)
    assert arguments.shard("2/3") == Shard(2, 3)
    for wrong in ("3/3", "x/2", "1", "-1/2", "1/0", "²/3"):
        with pytest.raises(ConfigError, match="0/3, 1/3 and 2/3"):
            arguments.shard(wrong)


def test_start_times() -> None:
    assert arguments.start_time(None) is None
    assert arguments.start_time("2100-01-01T00:00:00Z") == arguments.start_time("2100-01-01T01:00:00+01:00")
    assert arguments.start_time("2100-01-01T00:00:00") == arguments.start_time("4102444800")
    soon = arguments.start_time("+30")
    assert soon is not None
    assert 29e9 < soon - time.time_ns() < 31e9
    for wrong in ("tomorrow", "+x", "nan", "+nan", "1e400", "+1e400", "1e30", "+1e30"):
        with pytest.raises(ConfigError, match="ISO 8601"):
            arguments.start_time(wrong)
    with pytest.raises(ConfigError, match="past"):
        arguments.start_time("2001-01-01T00:00:00")


@pytest.mark.parametrize("wrong", ["yesterday", "1e400d", "9" * 400 + "d", "nan"])
def test_what_is_no_moment_is_said(wrong: str) -> None:
    with pytest.raises(ConfigError, match="ISO 8601"):
        arguments.moment("--since", wrong)


def test_fail_on() -> None:
    assert arguments.fail_on("slo,invalid") == {"slo", "invalid"}
    assert arguments.fail_on("none") == frozenset()
    with pytest.raises(ConfigError, match="slow"):
        arguments.fail_on("slow")
    with pytest.raises(ConfigError, match="alone"):
        arguments.fail_on("none,slo")


def test_target_flags() -> None:
    assert arguments.target_overrides(None, None, None) == {}
    assert arguments.target_overrides("http://h", "m", None) == {
        "spec": {"target": {"type": "existing", "existing": {"url": "http://h", "model": "m"}}}
    }
    assert arguments.target_overrides(None, None, "local") == {"spec": {"target": {"type": "local"}}}
    with pytest.raises(ConfigError, match="already there"):
        arguments.target_overrides("http://h", None, "local")


def test_a_command_line_that_begins_with_an_option_runs() -> None:
    assert with_command(["--config", "f"]) == ["run", "--config", "f"]
    assert with_command(["-c", "f", "--load-generator", "native"])[0] == "run"
    assert with_command(["analyze", "x"]) == ["analyze", "x"]
    assert with_command(["--help"]) == ["--help"]
    assert with_command(["--version"]) == ["--version"]
