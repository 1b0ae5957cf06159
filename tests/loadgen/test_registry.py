"""Generators are found by name."""

from __future__ import annotations

import pytest

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.events import Severity
from llm_d_benchmark.loadgen.registry import available, load_generator


def test_native_is_built_in_and_does_everything() -> None:
    assert "native" in available()
    generator = load_generator("native")
    assert generator.name == "native"
    assert generator.check(LoadConfig()) == []


def test_keys_that_would_be_ignored_are_errors() -> None:
    [finding] = load_generator("native").check(LoadConfig(native={"turbo": True}))
    assert finding.severity is Severity.ERROR
    assert "turbo" in finding.message


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match="natve") as caught:
        load_generator("natve")
    assert "native" in (caught.value.advice or "")
