"""Reading and writing YAML."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.config.paths import Path, format_path, parse_path
from llm_d_benchmark.config.source import read_text, read_value, write_text
from llm_d_benchmark.config.tree import merge, put, tree_of

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
DATA = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)
PATHS = st.lists(TEXT.filter(bool) | st.integers(0, 99), min_size=1, max_size=5).map(tuple)


@given(st.dictionaries(TEXT, DATA, max_size=4))
def test_what_is_written_is_read_back(data: dict[str, Any]) -> None:
    assert read_text(write_text(data), "x").plain() == data


@given(PATHS)
def test_a_path_is_read_back(path: Path) -> None:
    assert parse_path(format_path(path)) == path


@pytest.mark.parametrize("text", ["", "a..b", ".a", "a.", 'a."b', "a b"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", "on"), ("no", "no"), ("true", True), ("12:30", "12:30"), ("010", 10), ("1e3", 1000.0),
     ("2024-01-01", "2024-01-01"),
     (".5", 0.5), ("", None), ("null", None), ("[1, a]", [1, "a"]), (">50 tokens/s", ">50 tokens/s"), ("5s", "5s"),
     ("-.inf", -math.inf), ("http://h:80/x", "http://h:80/x"), ("{a: 1}", {"a": 1}), ("'5'", "5")],
)  # fmt: skip
def test_values_are_read_as_people_mean_them(text: str, value: object) -> None:
    assert read_value(text, "--set x") == value


def test_merge_keys_of_yaml_work() -> None:
    node = read_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", "f")
    assert node.plain()["b"] == {"x": 1, "y": 3}


@given(st.dictionaries(TEXT, DATA, max_size=3), st.dictionaries(TEXT, DATA, max_size=3))
def test_merging_keeps_what_the_upper_layer_does_not_say(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(tree_of(base, "b"), tree_of(over, "o")).plain()
    for key in over:
        if not (isinstance(over[key], dict) and isinstance(base.get(key), dict)):
            assert merged[key] == over[key]
    for key in base.keys() - over.keys():
        assert merged[key] == base[key]


def test_put_makes_what_is_missing() -> None:
    node = put(None, ("a", 0, "b"), tree_of(1, "--set"))
    assert node.plain() == {"a": [{"b": 1}]}
    assert node.get("a", 0, "b") is not None
    assert node.get("a", 1) is None
