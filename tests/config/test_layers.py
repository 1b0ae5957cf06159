"""Layers, origins and the forms a file may have."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from llm_d_benchmark.config.layers import load_config, load_resolved
from llm_d_benchmark.domain.errors import ConfigError
from tests.config.loading import LOAD, load_text

BASE = """\
spec:
  benchmark:
    duration: 30m
    warmup: 5m
    load_generators:
      - type: native
        config: {concurrent_requests: 10}
"""


def test_flags_win_over_environment_over_later_files_over_earlier_ones(tmp_path: Path) -> None:
    over = "spec: {benchmark: {warmup: 1m, cooldown: 1m, drain: 1m}}"
    env = {
        "LLM_D_BENCHMARK_SPEC__BENCHMARK__COOLDOWN": "2m",
        "LLM_D_BENCHMARK_SPEC__BENCHMARK__DRAIN": "2m",
        "LLM_D_BENCHMARK_SPEC__BENCHMARK__GIVE_UP": "",
    }
    loaded = load_text(tmp_path, BASE, over, env=env, sets=["spec.benchmark.drain=3m"])
    benchmark = loaded.config.spec.benchmark
    assert (benchmark.duration, benchmark.warmup, benchmark.cooldown, benchmark.drain) == (1800, 60, 120, 180)
    origins = loaded.origins
    assert origins["spec.benchmark.duration"] == f"{tmp_path}/a.yaml:3"
    assert origins["spec.benchmark.warmup"] == f"{tmp_path}/b.yaml:1"
    assert origins["spec.benchmark.cooldown"] == "env LLM_D_BENCHMARK_SPEC__BENCHMARK__COOLDOWN"
    assert origins["spec.benchmark.drain"] == "--set"
    assert origins["spec.benchmark.give_up"] == "default"


def test_every_value_has_an_origin(tmp_path: Path) -> None:
    def leaves(data: object, path: tuple[object, ...] = ()) -> int:
        items = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
        return sum(leaves(v) for v in items) if items else 1

    loaded = load_text(tmp_path, BASE)
    assert len(loaded.origins) == leaves(loaded.config.to_dict())


def test_a_list_position_in_set_reaches_into_the_list_and_may_append(tmp_path: Path) -> None:
    loaded = load_text(
        tmp_path, BASE, sets=[f"{LOAD}.concurrency=64", "spec.benchmark.load_generators.1.config.seed=7"]
    )
    first, second = loaded.config.spec.benchmark.load_generators
    assert first.config.concurrency == 64
    assert second.config.seed == 7
    with pytest.raises(ConfigError, match="beyond the list"):
        load_text(tmp_path, BASE, sets=["spec.benchmark.load_generators.5.config.seed=7"])


def test_set_takes_other_spellings_and_yaml_values(tmp_path: Path) -> None:
    sets = [f"{LOAD}.connections=3", f'{LOAD}.parameters={{"ignore_eos": true}}', f'{LOAD}.arrival="poisson"',
            f"{LOAD}.request_rate=1e1"]  # fmt: skip
    load = load_text(tmp_path, BASE, sets=sets).config.spec.benchmark.load_generators[0].config
    assert load.concurrency == 3
    assert load.parameters == {"ignore_eos": True}
    assert load.arrival is not None
    assert load.arrival.type == "poisson"
    assert load.request_rate == 10


def test_a_quoted_key_may_hold_dots(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "models: [{name: m}]", sets=['spec.models.0.resources.requests."nvidia.com/gpu"=4'])
    assert loaded.config.spec.models[0].resources.requests["nvidia.com/gpu"].value == 4


def test_overrides_win_and_the_model_flag_goes_to_the_target_of_the_file(tmp_path: Path) -> None:
    overrides = {"spec": {"target": {"type": "existing", "existing": {"url": "http://h:1"}}}}
    loaded = load_text(tmp_path, "target: {type: local}", overrides=overrides)
    assert loaded.config.spec.target is not None
    assert loaded.config.spec.target.type == "existing"
    assert loaded.origins["spec.target.existing.url"] == "flag"
    model_only = {"spec": {"target": {"existing": {"model": "m"}}}}
    process = load_text(tmp_path, "target: {process: {command: [x]}}", overrides=model_only).config.spec.target
    assert process is not None
    assert process.process is not None
    assert process.process.model == "m"
    existing = load_text(tmp_path, "target: {existing: {url: 'http://h'}}", overrides=model_only).config.spec.target
    assert existing is not None
    assert existing.existing is not None
    assert existing.existing.model == "m"


def test_the_resolved_text_gives_the_same_configuration_and_digest(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, BASE, "metadata: {labels: {a: '1e3', b: 'on', c: '2024-01-01', d: 'x: y'}}")
    assert load_resolved(loaded.to_yaml()) == loaded.config
    again = load_text(tmp_path, loaded.to_yaml())
    assert again.digest == loaded.digest
    assert load_text(tmp_path, BASE).digest != loaded.digest


def test_it_can_be_pickled(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, BASE, "performance_targets: {slos: [{name: p95_latency, target: <2000ms}]}")
    assert pickle.loads(pickle.dumps(loaded)) == loaded


def test_a_load_that_nobody_described_is_filled_in() -> None:
    loaded = load_config([], env={})
    load = loaded.config.spec.benchmark.load_generators[0].config
    assert load.concurrency == 4
    assert load.input_length is not None
    assert load.output_length is not None
    assert (load.input_length.value, load.output_length.value) == (256, 128)
    assert loaded.origins[f"{LOAD}.concurrency"] == "default"


def test_a_stage_with_a_rate_gets_no_cap_by_default(tmp_path: Path) -> None:
    sets = [f"{LOAD}.stages=[{{request_rate: 2}}, {{duration: 5s}}]"]
    load = load_config([], env={}, sets=sets).config.spec.benchmark.load_generators[0].config
    assert load.concurrency is None
    assert [s.concurrency for s in load.stages] == [None, 4]


def test_a_stage_that_names_its_load_does_not_inherit_the_generators(tmp_path: Path) -> None:
    sets = [
        f"{LOAD}.request_rate=2",
        f"{LOAD}.arrival=poisson",
        f"{LOAD}.ramp=0s",
        f"{LOAD}.stages=[{{concurrency: 2}}, {{}}]",
    ]
    load = load_config([], env={}, sets=sets).config.spec.benchmark.load_generators[0].config
    assert [s.concurrency for s in load.stages] == [2, None]
    with pytest.raises(ConfigError, match="stage 0: arrival 'gamma' needs request_rate"):
        load_config([], env={}, sets=[f"{LOAD}.request_rate=2", f"{LOAD}.stages=[{{arrival: gamma}}]"])


def test_a_trace_without_a_load_is_replayed_at_its_own_times() -> None:
    load = load_config([], env={}, sets=[f"{LOAD}.workload={{type: trace, path: t.csv}}"])
    config = load.config.spec.benchmark.load_generators[0].config
    assert config.arrival is not None
    assert config.arrival.type == "trace"
    assert config.concurrency is None
    assert config.input_length is None


TWO = """\
benchmark:
  load_generators:
    - {type: fmperf, config: {concurrency: 3, native: {x: 1}}}
    - {type: native, config: {concurrency: 5}}
"""


def test_one_of_several_generators_is_picked(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, TWO, load_generator="native", sets=[f"{LOAD}.seed=9"])
    (only,) = loaded.config.spec.benchmark.load_generators
    assert (only.type, only.config.concurrency, only.config.seed) == ("native", 5, 9)


def test_a_generator_that_is_not_listed_takes_the_load_of_the_first(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, TWO, load_generator="guidellm")
    (only,) = loaded.config.spec.benchmark.load_generators
    assert (only.type, only.config.concurrency, only.config.native) == ("guidellm", 3, {})
    assert [w.code for w in loaded.warnings] == ["generator_borrowed"]


def test_a_file_without_kind_is_the_picked_generators_own_configuration(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, TWO, "connections: 7\nseed: 2\n", load_generator="fmperf")
    (only,) = loaded.config.spec.benchmark.load_generators
    assert (only.config.concurrency, only.config.seed, only.config.native) == (7, 2, {"x": 1})
    assert loaded.origins[f"{LOAD}.concurrency"] == f"{tmp_path}/b.yaml:1"
    with pytest.raises(ConfigError, match="no 'kind") as caught:
        load_text(tmp_path, "connections: 7")
    assert "--load-generator" in str(caught.value.advice)


def test_the_config_file_of_a_generator_is_below_its_entry(tmp_path: Path) -> None:
    (tmp_path / "native.yaml").write_text("threads: 2\nconcurrency: 9\n")
    block = "load_generators: {native: {features: [x], config_file: native.yaml}}"
    load = load_text(tmp_path, BASE, block).config.spec.benchmark.load_generators[0].config
    assert (load.workers, load.concurrency) == (2, 10)
    missing = load_text(tmp_path, BASE, block.replace("native.yaml", "no.yaml"))
    assert [w.code for w in missing.warnings] == ["config_file_missing"]


def test_a_variable_that_names_no_key_is_reported() -> None:
    loaded = load_config([], env={"LLM_D_BENCHMARK_DURATION": "5s", "OTHER": "x"})
    assert [w.code for w in loaded.warnings] == ["environment_unknown"]


@pytest.mark.parametrize("where", ["{}", "spec: {{{}}}", "spec: {{benchmark: {{{}}}}}"])
def test_the_old_spelling_loads_with_a_warning(tmp_path: Path, where: str) -> None:
    loaded = load_text(tmp_path, where.format("load_generator: fmperf"))
    assert [g.type for g in loaded.config.spec.benchmark.load_generators] == ["fmperf"]
    (warning,) = loaded.warnings
    assert warning.code == "deprecated_load_generator"
    assert "migrate" in str(warning.advice)


def test_advanced_config_is_found_under_spec_too(tmp_path: Path) -> None:
    text = "spec: {advanced_config: {performance_targets: {slos: [{name: error_rate, target: <1%}]}}}"
    (slo,) = load_text(tmp_path, text).config.spec.performance_targets.slos
    assert (slo.target.value, slo.metric.path) == (0.01, "error_rate")
