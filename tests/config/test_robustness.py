"""Whatever stands in a file, loading it gives a configuration or a ConfigError, never a traceback."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.loadgen.registry import own_file

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCUMENTS = [yaml.safe_load(p.read_text()) for p in sorted(EXAMPLES.glob("**/*.yaml"))]
JUNK: list[Any] = [
    None,
    5,
    -1,
    True,
    "x",
    "",
    [],
    [1],
    {},
    {"x": 1},
    [[]],
    [{}],
    "<5s",
    1.5,
    "5m",
    {"type": 3},
    float("nan"),
]


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(p for key, value in items for p in places(value, (*path, key)))]


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_document_is_a_config_error_at_worst(tmp_path: Path, data: st.DataObject) -> None:
    document = data.draw(st.sampled_from(DOCUMENTS))
    for _ in range(data.draw(st.integers(1, 3))):
        document = replaced(document, data.draw(st.sampled_from(places(document))), data.draw(st.sampled_from(JUNK)))
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(document))
    picked = data.draw(st.sampled_from([None, "native", "fmperf"]))
    sets = data.draw(
        st.sampled_from([[], ["spec.benchmark.load_generators.0.config.concurrency=5"], ["spec.target=local"]])
    )
    overrides = data.draw(st.sampled_from([None, {"spec": {"target": {"existing": {"model": "m"}}}}]))
    with contextlib.suppress(ConfigError):
        load_config([path], env={}, load_generator=picked, sets=sets, overrides=overrides, own_file=own_file)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("ab: -[]{}\n\"'&*!|>%#?,5.<\t"), max_size=40))
def test_any_text_is_a_config_error_at_worst(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with contextlib.suppress(ConfigError):
        load_config([path], env={}, load_generator="native", sets=[f"spec.x={text}"])


@pytest.mark.parametrize("text", ["target: local", "spec: {target: local}"])
def test_a_word_for_a_target_still_takes_options(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    target = load_config([tmp_path / "x.yaml"], env={}, sets=["spec.target.local.slots=8"]).config.spec.target
    assert target is not None
    assert target.local is not None
    assert target.local.slots == 8
