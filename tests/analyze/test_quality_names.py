"""Normalisation: one source per metric, fractions that are fractions, one name per thing."""

from __future__ import annotations

import numpy as np
import pytest

from llm_d_benchmark.analyze.canonical import engine_name, gpu_name, model_name, names, normalise
from llm_d_benchmark.analyze.resources import resources
from llm_d_benchmark.analyze.timeseries import Line, Lines
from llm_d_benchmark.domain.result import Measured, TargetInfo
from llm_d_benchmark.domain.samples import Series

S = 1_000_000_000
TIMES = np.arange(5, dtype=np.int64) * S


def line(source: str, metric: str, value: float, **labels: str) -> Line:
    return Line(Series(source, metric, tuple(sorted(labels.items()))), TIMES, np.full(5, value))


def running(lines: Lines) -> float:
    found = resources(lines, 0, 4 * S).values["server_running"]
    assert isinstance(found, Measured)
    return found.value


def test_a_metric_from_two_sources_is_not_counted_twice() -> None:
    scraped = line("http://a/metrics", "vllm:num_requests_running", 4)
    through = line("prometheus http://p", "vllm:num_requests_running", 4, instance="a")
    other = line("prometheus http://p", "DCGM_FI_DEV_GPU_UTIL", 50)
    lines, said = normalise(Lines([through, scraped, other]))
    assert [f.code for f in said] == ["seen_twice"]
    assert running(lines) == 4
    assert [li.series.source for li in lines.named("vllm:num_requests_running")] == ["http://a/metrics"]
    assert lines.named("DCGM_FI_DEV_GPU_UTIL")


def test_the_source_that_sees_more_replicas_is_taken() -> None:
    scraped = line("http://service/metrics", "vllm:num_requests_running", 4)
    pods = [line("prometheus http://p", "vllm:num_requests_running", 4, pod=p) for p in "abc"]
    lines, said = normalise(Lines([scraped, *pods]))
    assert running(lines) == 12
    assert "1 from Prometheus" in said[0].message


def test_several_pages_of_replicas_add_up() -> None:
    lines, said = normalise(Lines([line(f"http://{p}/metrics", "vllm:num_requests_running", 4) for p in "ab"]))
    assert (running(lines), said) == (8, [])


def test_percent_becomes_a_fraction_and_is_said() -> None:
    lines, said = normalise(Lines([line("a", "vllm:gpu_cache_usage_perc", 80), line("a", "sglang:token_usage", 0.5)]))
    assert lines.named("vllm:gpu_cache_usage_perc")[0].values.tolist() == [0.8] * 5
    assert lines.named("sglang:token_usage")[0].values.tolist() == [0.5] * 5
    assert [f.code for f in said] == ["normalised"]
    assert "sglang" not in said[0].message


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM 80GB"),
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA H100 SXM 80GB"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe 80GB"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM 80GB"),
        ("NVIDIA A100-PCIE-40GB", "NVIDIA A100 PCIe 40GB"),
        ("NVIDIA H200", "NVIDIA H200 SXM 141GB"),
        ("NVIDIA L40S", "NVIDIA L40S 48GB"),
        ("nvidia l4", "NVIDIA L4 24GB"),
        ("Tesla T4", "NVIDIA T4 16GB"),
        ("Tesla V100-SXM2-16GB", "NVIDIA V100 SXM 16GB"),
        ("AMD Instinct MI300X OAM", "AMD Instinct MI300X 192GB"),
        ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090"),
    ],
)
def test_gpus_have_one_name(said: str, name: str) -> None:
    assert gpu_name(said) == name
    assert gpu_name(name) == name  # it is its own name


def test_names_of_gpus_are_those_of_the_simulator_s_hardware() -> None:
    from importlib.resources import files

    import yaml

    known = yaml.safe_load((files("llm_d_benchmark.simulator") / "profiles" / "hardware.yaml").read_text())
    listed = [e["name"] for e in known.values() if isinstance(e, dict) and "name" in e]
    assert len(listed) >= 5
    assert [gpu_name(n) for n in listed] == listed


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("/root/.cache/hub/models--meta-llama--Llama-3.1-8B/snapshots/abc", "meta-llama/Llama-3.1-8B"),
        ("/models/llama.gguf", "llama.gguf"),
        ("/models/llama-3/", "llama-3"),
    ],
)
def test_models_have_one_name(said: str, name: str) -> None:
    assert model_name(said) == name


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("vllm 0.8.4", "vLLM"),
        ("docker.io/vllm/vllm-openai:v0.8.4", "vLLM"),
        ("lmsysorg/sglang:v0.4", "SGLang"),
        ("llama.cpp", "llama.cpp"),
        ("nginx", None),
    ],
)
def test_engines_have_one_name(said: str, name: str | None) -> None:
    assert engine_name(said) == name


def test_names_come_from_the_target_and_the_series() -> None:
    target = TargetInfo("existing", "http://a", "/models/m.gguf", None, "")
    lines = Lines(
        [
            line("prometheus http://p", "DCGM_FI_DEV_GPU_UTIL", 1, modelName="NVIDIA A100-SXM4-80GB"),
            line("a", "vllm:num_requests_running", 1, model_name="m", model="not a GPU"),
        ]
    )
    assert names(target, lines) == {"gpu": "NVIDIA A100 SXM 80GB", "model": "m.gguf", "engine": "vLLM"}
    assert names(TargetInfo("existing", "http://a", None, None, ""), Lines([])) == {}
