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
        "parameters": {"ignore_eos": True},
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
        "parameters": {"ignore_eos": True},
        "input_length": {"distribution": "normal", "mean": 64.0, "std_dev": 8.0},
        "stages": [{"concurrency": n} for n in (1, 4, 16)],
    }  # fmt: skip
    assert target(loaded) == ("http://localhost:8000", "my-model")


def test_guidellm_flat_form(tmp_path: Path) -> None:
    text = "target: http://h:1\nrate_type: constant\nrate: [2, 4]\nmax_seconds: 20\nprocessor: /tok\n"
    loaded = load_text(tmp_path, text + "data: prompt_tokens=64,output_tokens=16\n", load_generator="guidellm")
    assert said(loaded) == {
        "duration": 20.0, "input_length": fixed(64), "output_length": fixed(16), "parameters": {"ignore_eos": True},
        "stages": [{"request_rate": r, "arrival": {}} for r in (2.0, 4.0)], "native": {"tokenizer": {"model": "/tok"}},
    }  # fmt: skip


def test_guidellm_s_ramp_warm_up_and_cool_down(tmp_path: Path) -> None:
    """They are parts of its max_duration, in seconds or as a fraction; ours are beside the duration."""
    text = "constraints: [{kind: max_duration, seconds: 40}]\nprofile: {kind: concurrent, streams: 8, "
    text += "rampup_duration: 10, warmup: 5, cooldown: {mode: duration, percent: 0.1}}\n"
    assert said(load_text(tmp_path, text, load_generator="guidellm")) == {
        "concurrency": 8, "ramp": 10.0, "duration": 31.0, "warmup": 5.0, "cooldown": 4.0,
        "parameters": {"ignore_eos": True},
        **{k: said(load_text(tmp_path, text, load_generator="guidellm"))[k] for k in ("input_length", "output_length")},
    }  # fmt: skip
    flat = "target: http://h:1\nprofile: constant\nrate: 2\nmax_seconds: 20\nwarmup_percent: 0.1\n"
    shape = said(load_text(tmp_path, flat, load_generator="guidellm"))
    assert (shape["duration"], shape["warmup"]) == (18.0, 2.0)
    none = said(load_text(tmp_path, "profile: {kind: synchronous, warmup: 0}\n", load_generator="guidellm"))
    assert (none["concurrency"], none["warmup"]) == (1, 0.0)


def test_what_only_guidellm_knows_goes_to_it(tmp_path: Path) -> None:
    text = "spec:\n  profile: {kind: poisson, rate: 10, rampup_duration: 3, initial_burst: false}\n"
    text += "  data: {kind: json_file, path: /p.jsonl}\n  data-column-mapper: {kind: mine}\n"
    assert said(load_text(tmp_path, text, load_generator="guidellm"))["native"] == {
        "profile": {"rampup_duration": 3, "initial_burst": False},
        "data": [{"kind": "json_file", "path": "/p.jsonl"}],
        "data_column_mapper": {"kind": "mine"},
    }
    flat = "profile: concurrent\nrate: 2\nmax_seconds: 20\ndata: {kind: json_file, path: /p.jsonl}\n"
    assert said(load_text(tmp_path, flat, load_generator="guidellm"))["native"] == {
        "data": [{"kind": "json_file", "path": "/p.jsonl"}]
    }


def test_guidellm_s_data_as_json_and_loads_beside_it(tmp_path: Path) -> None:
    text = 'max_seconds: 20\nconcurrency: 3\ndata: \'{"prompt_tokens": 64, "output_tokens": 16}\'\n'
    found = said(load_text(tmp_path, text, load_generator="guidellm"))
    assert (found["concurrency"], found["input_length"], found["output_length"]) == (3, fixed(64), fixed(16))


def test_an_aiperf_configuration_of_benchmark_alone(tmp_path: Path) -> None:
    text = "benchmark:\n  models: m\n  endpoint: {urls: ['http://h:1'], type: completions}\n"
    text += "  datasets: [{name: main, type: synthetic, prompts: {isl: 64}}]\n"
    text += "  phases: [{name: profiling, type: concurrency, concurrency: 8, requests: 9, concurrencyRamp: 5s}]\n"
    loaded = load_text(tmp_path, text, load_generator="aiperf")
    assert said(loaded) == {
        "concurrency": 8, "num_requests": 9, "ramp": 5.0, "input_length": fixed(64), "output_length": fixed(128),
        "streaming": False, "endpoint": "completions",
    }  # fmt: skip
    assert [w.code for w in loaded.warnings] == ["own_file_differs"]
    assert target(loaded) == ("http://h:1", "m")


@pytest.mark.parametrize(
    ("tool", "text", "expected"),
    [
        ("aiperf", "url: http://h:1\nrequest-rate: 10\n", {
            "request_rate": 10.0, "arrival": {"type": "poisson"}, "num_requests": 10, "streaming": False,
            "input_length": fixed(550),
        }),
        ("aiperf", "url: http://h:1\nrequest_rate: 10\narrival_smoothness: 2\nstreaming: true\n", {
            "arrival": {"type": "gamma", "burstiness": 2.0}, "request_rate": 10.0,
        }),
        ("aiperf", "url: http://h:1\n", {"concurrency": 1, "num_requests": 10, "streaming": False}),
        ("inference-perf", "load: {stages: [{rate: 5, duration: 30}]}\ndata: {input_distribution: {}}\n", {
            "request_rate": 5.0, "arrival": {}, "streaming": False,
            "input_length": {"distribution": "normal", "mean": 512.0, "std_dev": 200.0, "min": 10, "max": 1024},
        }),
        ("inference-perf", "data: {input_distribution: {type: lognormal, mean: 64, std_dev: 9, min: 8, max: 99}}\n", {
            "input_length": {"distribution": "lognormal", "mean": 64.0, "std_dev": 9.0, "min": 8, "max": 99},
        }),
        ("inference-perf", "load: {stages: [{rate: 5, duration: 30}]}\nserver: {ignore_eos: false}\n", {
            "parameters": {"ignore_eos": False},
        }),
        ("inference-perf", "load: {stages: [{rate: 5, duration: 30}]}\n", {"parameters": {"ignore_eos": True}}),
        ("guidellm", "profile: {kind: synchronous}\n", {"parameters": {"ignore_eos": True}}),
        ("guidellm", "profile: {kind: synchronous}\nparameters: {temperature: 0}\n", {
            "parameters": {"ignore_eos": True, "temperature": 0},
        }),
        ("vllm-bench", "host: h\nmax-concurrency: 8\n", {
            "concurrency": 8, "num_requests": 1000, "input_length": fixed(1024), "output_length": fixed(128),
        }),
        ("vllm-bench", "request-rate: 3\ninput-len: 64\n", {"request_rate": 3.0, "input_length": fixed(64)}),
        ("vllm-bench", "tokenizer: t\nstages: [{concurrency: 2}]\nduration: 9s\n", {"stages": [{"concurrency": 2}]}),
    ],
)  # fmt: skip
def test_what_the_file_does_not_say_is_as_the_tool_has_it(
    tmp_path: Path, tool: str, text: str, expected: dict[str, Any]
) -> None:
    found = said(load_text(tmp_path, text, load_generator=tool))
    assert {k: found.get(k) for k in expected} == expected


def test_common_keys_alone_have_our_defaults(tmp_path: Path) -> None:
    for tool in ("aiperf", "inference-perf", "vllm-bench", "guidellm"):
        found = said(load_text(tmp_path, "seed: 3\n", load_generator=tool))
        assert found == {"concurrency": 4, "seed": 3, "input_length": fixed(256), "output_length": fixed(128)}


@pytest.mark.parametrize(("text", "url"), [("host: h\n", "http://h:8000"), ("port: 8001\n", "http://127.0.0.1:8001")])
def test_vllm_s_host_and_port_complete_each_other(tmp_path: Path, text: str, url: str) -> None:
    assert target(load_text(tmp_path, text + "max-concurrency: 8\n", load_generator="vllm-bench")) == (url, None)


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
        "output_length": fixed(16), "streaming": False,
    }  # fmt: skip
    assert loaded.origins["spec.benchmark.load_generators.0.config.streaming"] == "aiperf's default"


@pytest.mark.parametrize(
    ("extra", "sent"),
    [
        ('["min_tokens:5", "temperature:0.5", "stop:null", "seed:-3"]',
         {"min_tokens": 5, "temperature": 0.5, "stop": None, "seed": -3}),
        ('"ignore_eos:True, user:007,best_of:1e3"', {"ignore_eos": True, "user": "007", "best_of": "1e3"}),
        ("""'{"top_k": 5, "stop": ["a:b"]}'""", {"top_k": 5, "stop": ["a:b"]}),
        ('{top_k: 5, user: "5"}', {"top_k": 5, "user": "5"}),
        ("[guided_choice:a:b, {top_p: 0.5}]", {"guided_choice": "a:b", "top_p": 0.5}),
    ],
)  # fmt: skip
def test_extra_inputs_have_the_kinds_that_aiperf_gives_them(tmp_path: Path, extra: str, sent: dict[str, Any]) -> None:
    loaded = load_text(tmp_path, f"url: http://h:1\nextra-inputs: {extra}\n", load_generator="aiperf")
    assert said(loaded)["parameters"] == sent


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
        "concurrency": 2, "num_requests": 8, "streaming": False, "parameters": {"ignore_eos": True},
        "native": {"load": {"interval": 2}, "metrics": {"a": 1}},
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
        (
            "guidellm",
            "spec:\n  profile: {kind: synchronous}\n  constrants: []\n",
            r"a\.yaml:3: unknown key 'constrants'; did",
        ),
        ("guidellm", "spec:\n  seed: 1\n", r"a\.yaml:1: guidellm needs a profile"),
        ("guidellm", "target: http://h:1\nrate: 10\n", r"a\.yaml:2: 'rate' has no effect without a profile"),
        ("guidellm", "rate: 10\nprofile: constant\nmax_errors: 5\n", r"a\.yaml:3: 'max_errors' of guidellm"),
        ("guidellm", "rate: 10\nprofile: constant\ndata: org/set\n", r"a\.yaml:3: data 'org/set' is a source"),
        (
            "guidellm",
            "rate: 10\nprofile: constant\ndata: prompt_tokens=64,turns=3\n",
            r"a\.yaml:3: 'turns' of guidellm's synthetic text",
        ),
        (
            "guidellm",
            "rate: 10\nprofile: constant\nmax_seconds: 9\nwarmup_percent: 10\n",
            r"a\.yaml:4: warmup: 10 is no part of the whole",
        ),
        (
            "guidellm",
            "profile:\n  kind: concurrent\n  streams: 4\n  warmup: 5\n",
            r"a\.yaml:4: without a max_duration guidellm counts the warm-up in requests",
        ),
        (
            "aiperf",
            "benchmark:\n  phases:\n  - {type: poisson, rate: 2, concurrencyRamp: 3}\n",
            r"a\.yaml:3: 'concurrencyRamp' of a phase",
        ),
        ("aiperf", "benchmark:\n  phases:\n  - {type: fixed_schedule}\n", r"a\.yaml:3: 'fixed_schedule' is no arrival"),
        (
            "inference-perf",
            "data:\n  input_distribution: {type: skew_normal}\n",
            r"a\.yaml:2: input_distribution is not a fixed, uniform, normal or lognormal",
        ),
        ("vllm-bench", "model: m\nnum-prompts: 9\n", r"a\.yaml:1: an endless request rate \(what vllm takes"),
        ("vllm-bench", "model: m\nramp-up-strategy: linear\n", r"a\.yaml:2: vllm's ramp-up"),
        ("inference-perf", "load:\n  type: trace_replay\n  stages: []\n", r"a\.yaml:2: load\.type 'trace_replay'"),
        ("inference-perf", "server:\n  api_key: abc\n", r"a\.yaml:2: server\.api_key must not be written"),
        ("inference-perf", "load: 3\n", r"a\.yaml:1: 'load' is a mapping"),
        ("fmperf", "NUM_USERS: many\n", r"a\.yaml:1: users: 'many' is no number"),
        ("fmperf", "DURATION: 3s\nNUM_USER: 3\n", r"a\.yaml:2: unknown key 'NUM_USER'; did you mean 'NUM_USERS'"),
        ("aiperf", "extra-inputs: temperature\n", r"a\.yaml:1: extra_inputs: 'temperature' is no key:value"),
        ("aiperf", "extra-inputs: '{a'\n", r"a\.yaml:1: extra_inputs: '\{a' is no JSON"),
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


def test_the_server_that_config_files_name_is_measured(tmp_path: Path) -> None:
    (tmp_path / "ip.yml").write_text("server: {model_name: m, base_url: 'http://h:1'}\nload: {stages: []}\n")
    (tmp_path / "vllm.yml").write_text("base-url: http://h:1\nmax-concurrency: 3\n")
    text = "load_generators: {inference-perf: {config_file: ip.yml}, vllm-bench: {config_file: vllm.yml}}\n"
    text += "benchmark: {load_generators: [{type: inference-perf, config: {concurrency: 3}}, {type: vllm-bench}]}\n"
    assert target(load_text(tmp_path, text)) == ("http://h:1", "m")
    (tmp_path / "vllm.yml").write_text("base-url: http://h:2\nmax-concurrency: 3\n")
    with pytest.raises(
        ConfigError, match=r"vllm\.yml:1: the server http://h:2 is not the one of .*ip\.yml:1, http://h:1"
    ):
        load_text(tmp_path, text)
    assert target(load_text(tmp_path, "target: {existing: {url: 'http://h:3'}}\n" + text)) == ("http://h:3", None)


def test_files_that_a_tool_is_given_are_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the file that names them, else in the current folder; the tool itself runs in the run folder."""
    here = tmp_path / "here"
    for folder, name in ((tmp_path, "p.jsonl"), (here, "q.jsonl"), (tmp_path / "tok", "t.json"), (here / "v1.0", "x")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (here / "v1.0").rename(here.parent / "v1.0")
    monkeypatch.chdir(here)
    text = "profile: {kind: concurrent, streams: 2}\ntokenizer: {model: ./tok, kind: m}\n"
    text += f"data_loader: {{kind: v1.0, why: {'x/' * 4000}}}\n"
    text += "data: [{path: p.jsonl}, {path: q.jsonl}, {path: none.jsonl}]\n"
    native = said(load_text(tmp_path, text, load_generator="guidellm"))["native"]
    assert [d["path"] for d in native["data"]] == [str(tmp_path / "p.jsonl"), str(here / "q.jsonl"), "none.jsonl"]
    assert native["tokenizer"] == {"model": str(tmp_path / "tok"), "kind": "m"}
    assert native["data_loader"]["kind"] == "v1.0"
    document = "benchmark: {load_generators: [{type: vllm-bench, config: {native: {dataset-path: ./p.jsonl}}}]}\n"
    assert said(load_text(tmp_path, document))["native"] == {"dataset-path": str(tmp_path / "p.jsonl")}


def test_what_is_said_elsewhere_goes_before_a_tool_s_defaults(tmp_path: Path) -> None:
    """Of a tool's own files the later wins, key by key, over a document's keys; only then its defaults count."""
    ours = "benchmark: {load_generators: [{type: aiperf, config: {connections: 8, streaming: true}}]}\n"
    own = "random-seed: 7\nsynthetic-input-tokens-mean: 64\n"
    found = said(load_text(tmp_path, ours, own, "output-tokens-mean: 16\n", load_generator="aiperf"))
    assert found == {
        "concurrency": 8, "num_requests": 10, "seed": 7, "input_length": fixed(64), "output_length": fixed(16),
    }  # fmt: skip
    load = "benchmark: {load_generators: [{type: native, config: {concurrency: 3}}]}\n"
    found = said(load_text(tmp_path, load, "random-input-len: 64\n", load_generator="vllm-bench"))
    assert (found["concurrency"], found["input_length"]) == (3, fixed(64))
