"""A mistake is answered with file, line, key, what is allowed and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.errors import ConfigError, ExitCode
from tests.config.loading import LOAD, load_text


def message(tmp_path: Path, text: str, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text, **options)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value.message


def test_an_unknown_key_names_line_path_alternatives_and_the_nearest_spelling(tmp_path: Path) -> None:
    said = message(tmp_path, "spec:\n  benchmark:\n    duraton: 5s\n")
    assert said.startswith(f"{tmp_path}/a.yaml:3: spec.benchmark.duraton: unknown key 'duraton'")
    assert "did you mean 'duration'?" in said
    assert "allowed: duration, warmup" in said


def test_a_key_in_the_wrong_place_is_found_where_it_belongs(tmp_path: Path) -> None:
    said = message(tmp_path, "spec: {benchmark: {prometheus_url: x}}")
    assert "it exists as spec.cluster.monitoring.prometheus_url" in said


def test_several_mistakes_are_all_listed(tmp_path: Path) -> None:
    said = message(
        tmp_path,
        "kind: BenchmarkConfi\nspec:\n  benchmark:\n    warmup: 5 apples\n    load_generators:\n"
        "      - config:\n          arrival: poison\n          num_requests: true\n",
    )
    lines = said.splitlines()
    assert len(lines) == 4
    assert "a.yaml:2: kind" not in said
    assert "a.yaml:1: kind: 'BenchmarkConfi' is not allowed; did you mean 'BenchmarkConfig'?" in said
    assert "a.yaml:4: spec.benchmark.warmup: '5 apples' is not a duration" in said
    assert (
        "a.yaml:7: spec.benchmark.load_generators.0.config.arrival: 'poison' is not allowed; did you mean 'poiss"
        in said
    )
    assert "num_requests: this should be a whole number, not True" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a.yaml: the file is empty"),
        ("# nothing\n", "a.yaml: the file is empty"),
        ("- 1\n", "a.yaml:1: a configuration is a mapping of keys, this is a list"),
        ("5", "this is a single value"),
        ("spec: 1\nspec: 2\n", "a.yaml:2: 'spec' is given twice; first at"),
        ("spec:\n  benchmark: {duration: 1,\n    duration: 2}", "a.yaml:3: 'duration' is given twice"),
        ("a: [\n", "a.yaml:2: not valid YAML"),
        ("spec:\n\tx: 1", "a.yaml:2: not valid YAML"),
        ("spec: {}\n---\nspec: {}\n", "not valid YAML"),
        ("spec: !!python/object/apply:os.system [x]", "the tag tag:yaml.org,2002:python/object/apply:os.system is not"),
        ("spec: &a {x: *a}", "contains itself"),
        (f"spec: {'[' * 3000}{']' * 3000}", "nested too deeply"),
        ("spec:\n", "a.yaml:1: spec: there is no value"),
        ("monitorng: {}", "did you mean 'monitoring'?"),
        ("target: {existing: {url: 'http://h', headers: {X T: a}}}", "'X T' is no name of a header"),
        ("target: {existing: {url: 'http://h', headers: {X-T: 日本}}}", "X-T: a header holds one line of printable"),
        ("target: {existing: {url: 'http://h', headers: {content-length: '5'}}}", "content-length follows from"),
        ("apiVersion: v1\nkind: Job", "a.yaml:2: kind: 'Job' is not allowed"),
        ("load_generator: fmperf\nload_generators: []", "the load generators are also given at"),
        ("benchmark: {load_generators: []}", "at least 1 item"),
        ("target: {}", "spec.target.type: this key is missing"),
        ("target: {type: existing}", "a target of type 'existing' needs existing.url"),
        ("target: {existing: {url: 'localhost:8000'}}", "write for example http://localhost:8000"),
        ("target: {existing: {url: 'http://u:pw@h'}}", "must not hold a user name or password"),
        ("target: {existing: {url: 'http://h/?key=1'}}", "no part behind '?'"),
        ("target: {type: existin, existing: {url: 'http://h'}}", "did you mean 'existing'?"),
        ("target: {existing: {url: 'http://h', api_key: {}}}", "give either 'env: NAME' or 'file: PATH'"),
        ("models: [{name: m, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]", "request of cpu (2) is greater"),
        ("models: [{name: m, resources: {requests: {memory: lots}}}]", "'lots' is not a resource quantity"),
        ("performance_targets: {slos: [{name: p95_latncy, target: <1s}]}", "did you mean 'p95_latency'?"),
        ("performance_targets: {slos: [{name: latency, target: <1s}]}", "say which value of it"),
        ("performance_targets: {slos: [{name: p95_ttft, target: '>5 tokens/s'}]}", "is in tokens/s, but ttft.p95"),
        ("performance_targets: {slos: [{name: p95_ttft, target: 5s}]}", "'5s' has no comparison"),
        ("performance_targets: {slos: [{name: p95_ttft, target: <1s}, {name: ttft.p95, target: <2s}]}", "more than"),
        ("monitoring: {alerts: [{a: p95_latency}]}", "'p95_latency' is not an alert"),
        ("monitoring: {alerts: [{a: error_rate > 5s}]}", "is in s, but error_rate is measured in fraction"),
        ("monitoring: {alerts: [{a: error_rate > 1%, b: error_rate > 2%}]}", "each alert is one"),
        ("capacity_planning: {scenarios: [{name: x}]}", "either 'multiplier' or 'target_throughput'"),
        ("capacity_planning: {outputs: [capacity_matrx]}", "did you mean 'capacity_matrix'?"),
        ("experiment_design: {type: factorial, factors: [{name: slots, values: [1]}]}", "mean 'factorial_design'?"),
        ("experiment_design: {type: grid_search, factors: [{name: batchsize, values: [1]}]}", "mean 'batch_size'?"),
        ("experiment_design: {type: grid_search, factors: [{name: batch_size, values: []}]}", "at least 1 item"),
        ("configuration_optimization: {search_space: {batch_sizes: [1]}, constraints: {max_latency: 5%}}", "needs s"),
        ("regression_testing: {baseline_version: a, test_version: b, pass_criteria: {stability: <5%}}", "a percentage"),
        ("workflow: {phases: [{setup: [cluster_confg]}]}", "did you mean 'cluster_config'?"),
        ("workflow: {phases: [{setup: [], cleanup: []}]}", "a phase has one name"),
        ("load_generators: {custom: {sdk_language: 'python,ruby'}}", "no kit for ruby"),
    ],
)  # fmt: skip
def test_mistakes_in_files(tmp_path: Path, text: str, said: str) -> None:
    assert said in message(tmp_path, text)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("{connections: 1, concurrency: 2}", "concurrency is given twice, as 'connections' and as 'concurrency'"),
        ("{arrival: poisson}", "arrival 'poisson' needs request_rate"),
        ("{arrival: {type: spikes, peak: 5, every: 10s, length: 1s}}", "arrival 'spikes' needs request_rate"),
        ("{arrival: ramp}", "arrival 'ramp' needs from, to"),
        ("{arrival: {type: ramp, from: 1, to: 2}, request_rate: 1}", "leave out request_rate"),
        ("{arrival: {type: constant, peak: 5}, request_rate: 1}", "does not use 'peak'"),
        ("{arrival: {type: poisson, burstiness: 0.5}, request_rate: 1}", "does not use 'burstiness'"),
        ("{request_rate: 1, ramp: 5s}", "'ramp' starts the users of a closed loop"),
        ("{request_rate: .inf}", "this should be a finite number"),
        ("{sweep: {}, stages: [{}]}", "not both"),
        ("{sweep: {}, request_rate: 3}", "chooses the load itself"),
        ("{stages: [{request_rate: 1}, {arrival: gamma}]}", "stage 1: arrival 'gamma' needs request_rate"),
        ("{input_length: {distribution: normal, mean: 5}}", "distribution 'normal' needs std_dev"),
        ("{input_length: {value: 5, mean: 6}}", "does not use 'mean'"),
        ("{input_length: {distribution: uniform, min: 5, max: 4}}", "min (5) is greater than max (4)"),
        ("{input_length: 0}", "greater than or equal to 1"),
        ("{parameters: {stream: false}}", "'stream' cannot be passed through; 'streaming' sets it"),
        ("{parameters: {temperature: 0, model: x}}", "'model' cannot be passed through; 'models' sets it"),
        ("{parameters: {max_tokens: 4}}", "a.yaml:1: spec.benchmark.load_generators.0.config.parameters: 'max_tokens'"),
        ("{parameters: {max_completion_tokens: 4}, output_length: 5}", "set 'output_length'"),
        ("{parameters: {max_tokens: 4}, workload: {type: dataset, output_length: 5}}", "set 'output_length'"),
        ("{concurency: 3}", "did you mean 'concurrency'?"),
        ("{timeouts: {conect: 3}}", "did you mean 'connect'?"),
        ("[1]", "this should be keys of LoadConfig"),
    ],
)
def test_mistakes_in_the_load(tmp_path: Path, load: str, said: str) -> None:
    assert said in message(tmp_path, f"benchmark: {{load_generators: [{{config: {load}}}]}}")


@pytest.mark.parametrize(
    "load",
    [
        "{parameters: {max_tokens: 4}, workload: {type: dataset}}",  # a cap on what the server decides
        "{parameters: {max_tokens: null, max_completion_tokens: 4}, output_length: 4}",  # of a chat that wants it so
    ],
)
def test_a_limit_that_contradicts_nothing_is_passed_through(tmp_path: Path, load: str) -> None:
    loaded = load_text(tmp_path, f"benchmark: {{load_generators: [{{config: {load}}}]}}")
    assert loaded.config.spec.benchmark.load_generators[0].config.parameters


def test_mistakes_in_several_files_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([tmp_path / "none.yaml", tmp_path], env={})
    assert "none.yaml: there is no such file" in caught.value.message
    assert "cannot be read" in caught.value.message


def test_a_file_that_is_no_text_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config([tmp_path / "x.yaml"], env={})


@pytest.mark.parametrize(
    ("set_", "said"),
    [
        ("x", "--set x: write PATH=VALUE"),
        ("=5", "is not a path of keys"),
        ("benchmark.duration=5", "--set benchmark.duration: a path starts with spec."),
        ("spec.benchmark.duration=5 apples", "--set: spec.benchmark.duration: '5 apples' is not a duration"),
        ("spec.benchmark.duratio=5", "did you mean 'duration'?"),
        ("spec.benchmark=[a", "--set spec.benchmark: not valid YAML"),
        (f"{LOAD}.concurrency.x=1", "is below 3, which has no keys"),
        ("spec.benchmark.load_generators.x=1", "'x' is a key, but there is a list here"),
    ],
)
def test_mistakes_in_set_name_the_flag(tmp_path: Path, set_: str, said: str) -> None:
    text = "benchmark: {load_generators: [{config: {concurrency: 3}}]}"
    assert said in message(tmp_path, text, sets=[set_])


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    name = "LLM_D_BENCHMARK_SPEC__BENCHMARK__DURATION"
    assert message(tmp_path, "spec: {}", env={name: "soon"}).startswith(f"env {name}: spec.benchmark.duration: 'soon'")


def test_unquoted_limits_get_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, "performance_targets:\n  slos:\n  - name: throughput\n    target: >50 tokens/s\n")
    assert "quotes" in str(caught.value.advice)
