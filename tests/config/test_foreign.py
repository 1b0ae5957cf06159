"""Other generators' own files with --load-generator: common keys, target, native keys; mistakes with their line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.config.layers import LoadedConfig, load_config, load_resolved
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.loadgen.registry import own_file

from .loading import load_text

EXAMPLES = Path(__file__).parents[2] / "examples" / "generators"
TOOLS = {
    "fmperf-config": "fmperf", "fmperf-env": "fmperf", "inference-perf-config": "inference-perf",
    "guidellm-config": "guidellm", "aiperf-config": "aiperf", "vllm-bench-config": "vllm-bench",
    "native-config": "native",
}  # fmt: skip


def example(name: str) -> LoadedConfig:
    return load_config([EXAMPLES / f"{name}.yaml"], env={}, load_generator=TOOLS[name], own_file=own_file)


def said(loaded: LoadedConfig) -> dict[str, Any]:
    """What the only generator's configuration says beyond the defaults."""
    (generator,) = loaded.config.spec.benchmark.load_generators
    return generator.config.model_dump(exclude_defaults=True, exclude_none=True)


def fixed(tokens: int) -> dict[str, Any]:
    return {"value": tokens}


def target(loaded: LoadedConfig) -> tuple[str, str | None]:
    found = loaded.config.spec.target
    assert found is not None
    assert found.existing is not None
    return found.existing.url, found.existing.model


@pytest.mark.parametrize("name", TOOLS)
def test_every_example_loads_and_is_read_back(name: str) -> None:
    loaded = example(name)
    assert [g.type for g in loaded.config.spec.benchmark.load_generators] == [TOOLS[name]]
    assert load_resolved(loaded.to_yaml()) == loaded.config
    assert name in {p.stem for p in EXAMPLES.glob("*.yaml")}
    assert len(TOOLS) == len(list(EXAMPLES.glob("*.yaml")))


def test_the_keys_of_the_mission() -> None:
    assert said(example("fmperf-config")) == {
        "concurrency": 10, "input_length": fixed(512), "output_length": fixed(256), "duration": 60.0,
        "native": {"sample_size": 20},
    }  # fmt: skip


def test_fmperf_variables() -> None:
    loaded = example("fmperf-env")
    assert said(loaded) == {
        "input_length": {"distribution": "uniform", "min": 64, "max": 128},
        "output_length": fixed(16),
        "duration": 30.0,
        "stages": [{"concurrency": n} for n in (1, 4, 16)],
        "native": {"frac_greedy": 1.0, "sample_size": 20, "backoff": "1s", "grace_period": "5s"},
    }
    assert target(loaded) == ("http://localhost:8000", None)
    assert [w.code for w in loaded.warnings] == ["native_key_dropped"]
    assert "fmperf-env.yaml:14: fmperf's 'REQUESTS_FILENAME'" in loaded.warnings[0].message


def test_inference_perf_config() -> None:
    loaded = example("inference-perf-config")
    assert said(loaded) == {
        "endpoint": "completions", "workers": 2, "seed": 42, "parameters": {"ignore_eos": True},
        "input_length": {"distribution": "normal", "mean": 64.0, "std_dev": 10.0, "min": 32, "max": 96},
        "output_length": fixed(16),
        "stages": [{"request_rate": r, "duration": 30.0, "arrival": {"type": "poisson"}} for r in (5.0, 10.0)],
    }  # fmt: skip
    assert target(loaded) == ("http://localhost:8000", "my-model")


def test_guidellm_scenario() -> None:
    loaded = example("guidellm-config")
    assert said(loaded) == {
        "endpoint": "completions", "seed": 42, "duration": 30.0, "output_length": fixed(16),
        "input_length": {"distribution": "normal", "mean": 64.0, "std_dev": 8.0},
        "stages": [{"concurrency": n} for n in (1, 4, 16)],
    }  # fmt: skip
    assert target(loaded) == ("http://localhost:8000", "my-model")


def test_guidellm_flat_form(tmp_path: Path) -> None:
    text = "target: http://h:1\nrate_type: constant\nrate: [2, 4]\nmax_seconds: 20\nprocessor: /tok\n"
    loaded = load_text(tmp_path, text + "data: prompt_tokens=64,output_tokens=16\n", load_generator="guidellm")
    assert said(loaded) == {
        "duration": 20.0, "input_length": fixed(64), "output_length": fixed(16),
        "stages": [{"request_rate": r, "arrival": {}} for r in (2.0, 4.0)], "native": {"tokenizer": {"model": "/tok"}},
    }  # fmt: skip


def test_aiperf_configuration_and_options(tmp_path: Path) -> None:
    loaded = example("aiperf-config")
    assert said(loaded) == {
        "endpoint": "completions", "seed": 42, "parameters": {"ignore_eos": True}, "output_length": fixed(16),
        "input_length": {"distribution": "normal", "mean": 64.0, "std_dev": 8.0},
        "request_rate": 10.0, "duration": 30.0, "arrival": {"type": "poisson"},
    }  # fmt: skip
    text = "url: http://h:1\nconcurrency: 4\nrequest-count: 50\nsynthetic-input-tokens-mean: 64\nrandom-seed: 7\n"
    loaded = load_text(tmp_path, text + "endpoint-type: chat\noutput-tokens-mean: 16\n", load_generator="aiperf")
    assert said(loaded) == {
        "concurrency": 4, "num_requests": 50, "seed": 7, "endpoint": "chat", "input_length": fixed(64),
        "output_length": fixed(16),
    }  # fmt: skip


def test_vllm_bench_options() -> None:
    assert said(example("vllm-bench-config")) == {
        "endpoint": "completions", "seed": 42, "parameters": {"ignore_eos": True}, "output_length": fixed(16),
        "input_length": fixed(64), "num_requests": 200, "request_rate": 10.0,
        "arrival": {"type": "gamma", "burstiness": 0.5},
    }  # fmt: skip


def test_other_keys_of_the_tool_are_passed_on(tmp_path: Path) -> None:
    text = "load: {type: concurrent, interval: 2, stages: [{num_requests: 8, concurrency_level: 2}]}\nmetrics: {a: 1}\n"
    loaded = load_text(tmp_path, text, load_generator="inference-perf")
    assert said(loaded) == {
        "concurrency": 2, "num_requests": 8, "native": {"load": {"interval": 2}, "metrics": {"a": 1}},
        **{k: said(loaded)[k] for k in ("input_length", "output_length")},
    }  # fmt: skip


def test_an_unknown_tool_has_its_keys_passed_on(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "concurrency: 3\nfancy: {a: [1]}\n", load_generator="mine")
    assert said(loaded)["native"] == {"fancy": {"a": [1]}}
    assert said(loaded)["concurrency"] == 3


def test_a_flag_wins_over_the_server_of_the_file(tmp_path: Path) -> None:
    flag = {"spec": {"target": {"type": "existing", "existing": {"url": "http://other:2"}}}}
    loaded = load_text(tmp_path, "URL: h:1\nNUM_USERS: 2\n", load_generator="fmperf", overrides=flag)
    assert target(loaded) == ("http://other:2", None)
    local = {"spec": {"target": {"type": "local"}}}
    loaded = load_text(tmp_path, "URL: h:1\nNUM_USERS: 2\n", load_generator="fmperf", overrides=local)
    assert loaded.config.spec.target is not None
    assert loaded.config.spec.target.type == "local"


@pytest.mark.parametrize(
    ("tool", "text", "message"),
    [
        ("guidellm", "seed: 1\nprofile: {kind: sweep}\n", r"a\.yaml:2: guidellm's profile 'sweep'"),
        (
            "guidellm",
            "spec:\n  constraints:\n  - {kind: max_errors, count: 3}\n",
            r"a\.yaml:3: constraint 'max_errors'",
        ),
        ("inference-perf", "load:\n  type: trace_replay\n  stages: []\n", r"a\.yaml:2: load\.type 'trace_replay'"),
        ("inference-perf", "server:\n  api_key: abc\n", r"a\.yaml:2: server\.api_key must not be written"),
        ("inference-perf", "load: 3\n", r"a\.yaml:1: 'load' is a mapping"),
        ("fmperf", "NUM_USERS: many\n", r"a\.yaml:1: users: 'many' is no number"),
        ("fmperf", "DURATION: 3s\nNUM_USER: 3\n", r"a\.yaml:2: unknown key 'NUM_USER'; did you mean 'NUM_USERS'"),
        ("aiperf", "request-count: 2.5\n", r"a\.yaml:1: num_requests: 2\.5 is no whole number"),
        ("vllm-bench", "model: m\nrequest-rate: inf\n", r"a\.yaml:2: an endless request rate"),
        ("vllm-bench", "concurency: 4\n", r"a\.yaml:1: unknown key 'concurency'; did you mean 'concurrency'"),
        ("native", "concurrency: 4\nfancy: 1\n", r"a\.yaml:2: .*unknown key 'fancy'"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, tool: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_text(tmp_path, text, load_generator=tool)


def test_a_document_of_ours_is_not_taken_for_a_tool_s_file(tmp_path: Path) -> None:
    text = "target: {type: existing, existing: {url: 'http://h:1'}}\nbenchmark: {duration: 7s}\n"
    loaded = load_text(tmp_path, text, load_generator="guidellm")
    assert loaded.config.spec.benchmark.duration == 7
    loaded = load_text(tmp_path, "concurrency: 4\nendpoint: chat\n", load_generator="aiperf")
    assert said(loaded)["endpoint"] == "chat"


def test_config_file_of_a_generator_is_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "ip.yml").write_text("load: {type: concurrent, stages: [{num_requests: 8, concurrency_level: 2}]}\n")
    text = "load_generators: {inference-perf: {config_file: ip.yml}}\n"
    text += "benchmark: {load_generators: [{type: inference-perf}]}\n"
    assert said(load_text(tmp_path, text))["concurrency"] == 2
