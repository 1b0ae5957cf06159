"""Profiles: published figures, what follows from them, plausible speeds, and mistakes that are told."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.config.simulator import DisaggregationConfig, SimulatorTargetConfig
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.simulator.api import StepLoad
from llm_d_benchmark.simulator.profiles import Profile, load_profile
from llm_d_benchmark.simulator.profiles.file import read_profile, write_profile
from llm_d_benchmark.simulator.profiles.profile import published
from llm_d_benchmark.simulator.profiles.tables import hardware, models

GIB = 2**30


def profile(name: str, **options: Any) -> Profile:
    return load_profile(SimulatorTargetConfig(profile=name, **options))


def itl(of: Profile, batch: int, context: int) -> float:
    """Milliseconds of a decode step."""
    return of.cost.step(StepLoad(decode_seqs=batch, decode_context=batch * context)) * 1e3


def prefill_rate(of: Profile, tokens: int = 2048) -> float:
    """Tokens per second of one prefill step."""
    return tokens / of.cost.step(StepLoad(prefill_tokens=tokens, prefill_pairs=tokens * (tokens + 1) / 2))


@pytest.mark.parametrize(
    ("model", "billions"),
    [  # model cards
        ("llama-3.2-1b", 1.236), ("llama-3.2-3b", 3.213), ("llama-3.1-8b", 8.030), ("llama-3.1-70b", 70.55),
        ("llama-3.3-70b", 70.55),
        ("llama-3.1-405b", 405.9), ("mistral-7b", 7.248), ("qwen2.5-7b", 7.616), ("qwen2.5-32b", 32.76),
        ("qwen2.5-72b", 72.7), ("qwen3-8b", 8.19), ("qwen3-32b", 32.76), ("qwen3-30b-a3b", 30.53),
        ("mixtral-8x7b", 46.70), ("deepseek-v3", 671.0),
    ],
)  # fmt: skip
def test_the_shape_of_a_model_gives_its_published_parameter_count(model: str, billions: float) -> None:
    assert models()[model].parameters / 1e9 == pytest.approx(billions, rel=0.002)


def test_every_model_is_compared_with_its_published_count() -> None:
    marks = test_the_shape_of_a_model_gives_its_published_parameter_count.pytestmark
    assert {row[0] for row in marks[0].args[1]} == set(models())


@pytest.mark.parametrize(("model", "billions"), [("mixtral-8x7b", 12.9), ("deepseek-v3", 37.0), ("qwen3-30b-a3b", 3.3)])
def test_a_mixture_of_experts_activates_its_published_part(model: str, billions: float) -> None:
    shape = models()[model]
    embeddings = 2 * shape.head_parameters  # model cards count the input embedding, too
    assert (shape.active_parameters + embeddings) / 1e9 == pytest.approx(billions, rel=0.03)


def test_kv_cache_of_a_token() -> None:
    """Published: 128 KiB for the 8B, 320 KiB for the 70B, 70.3 kB for DeepSeek-V3's latent attention."""
    assert models()["llama-3.1-8b"].kv_bytes_per_token() == 128 * 1024
    assert models()["llama-3.3-70b"].kv_bytes_per_token() == 320 * 1024
    assert models()["deepseek-v3"].kv_bytes_per_token() == 70_272


def test_heads_are_split_over_gpus_and_the_latent_vector_is_not() -> None:
    per_gpu = [models()["llama-3.3-70b"].kv_bytes_per_token(tp) for tp in (1, 4, 8, 16)]
    assert per_gpu == [327_680, 81_920, 40_960, 40_960]  # 8 heads: repeated on 16 GPUs
    assert models()["deepseek-v3"].kv_bytes_per_token(8) == models()["deepseek-v3"].kv_bytes_per_token(1)


def test_kv_cache_room_is_what_vllm_reports() -> None:
    """vLLM reports a KV cache of 479,428 tokens for Llama 70B on 4 x H100 at utilisation 0.9."""
    assert profile("llama-3.3-70b/h100", tensor_parallel_size=4).kv_cache_tokens == pytest.approx(479_428, rel=0.03)


def test_more_memory_used_and_more_gpus_hold_more() -> None:
    base = profile("llama-3.1-8b/h100").kv_cache_tokens
    fuller = profile("llama-3.1-8b/h100", gpu_memory_utilization=0.95).kv_cache_tokens
    assert fuller - base == pytest.approx(0.05 * 80 * GIB / (128 * 1024), abs=32)
    assert profile("llama-3.1-8b/h100", tensor_parallel_size=2).kv_cache_tokens > 2 * base  # weights are shared, too


def test_blocks_follow_the_configuration() -> None:
    config = SimulatorTargetConfig(block_size=32)
    loaded = load_profile(config)
    assert loaded.num_gpu_blocks(config) == loaded.kv_cache_tokens // 32
    few = SimulatorTargetConfig(num_gpu_blocks=100)
    assert load_profile(few).num_gpu_blocks(few) == 100
    assert load_profile(few).max_model_len == 1600  # what the cache holds: a single sequence always fits


@pytest.mark.parametrize(
    ("name", "tp", "low", "high"),
    [
        # Ranges around what public vLLM and TensorRT-LLM benchmarks show for one stream of 1,000 tokens, milliseconds
        ("llama-3.1-8b/h100", 1, 6.5, 9),
        ("llama-3.1-8b/a100", 1, 10, 14),
        ("llama-3.1-8b/l4", 1, 55, 75),
        ("llama-3.1-8b/l40s", 1, 20, 28),
        ("llama-3.1-8b/mi300x", 1, 5, 9),
        ("llama-3.3-70b/h100", 4, 15, 22),
        ("llama-3.1-405b/h200", 8, 28, 40),
    ],
)
def test_decode_speed_of_one_stream_is_plausible(name: str, tp: int, low: float, high: float) -> None:
    assert low < itl(profile(name, tensor_parallel_size=tp), 1, 1000) < high


def test_speed_under_load_is_plausible() -> None:
    """8B on H100: 32 streams under 12 ms, 256 streams of 500 tokens 12,000 to 20,000 tokens/s, prefill 25 to 50 k/s."""
    h100 = profile("llama-3.1-8b/h100")
    assert itl(h100, 32, 1000) < 12
    assert 12_000 < 256 / itl(h100, 256, 500) * 1e3 < 20_000
    assert 25_000 < prefill_rate(h100) < 50_000


def test_directions_between_hardware_and_models() -> None:
    """What public comparisons agree on."""
    names = {gpu: profile(f"llama-3.1-8b/{gpu}") for gpu in hardware()}
    by_bandwidth = sorted(names, key=lambda g: -hardware()[g].bandwidth)
    speeds = [itl(names[g], 1, 1000) for g in by_bandwidth]
    assert all(a <= b * 1.08 for a, b in itertools.pairwise(speeds))  # decoding is bound by bandwidth
    assert prefill_rate(names["h100"]) > 2 * prefill_rate(names["a100"]) > 3 * prefill_rate(names["l4"])
    assert itl(names["h200"], 128, 4000) < 0.75 * itl(names["h100"], 128, 4000)  # 1.43 times the bandwidth
    two, four = (profile("llama-3.3-70b/h100", tensor_parallel_size=n) for n in (2, 4))
    assert 1.5 < itl(two, 1, 1000) / itl(four, 1, 1000) < 2  # communication keeps it under 2
    dense, sparse = (profile(f"{m}/h200", tensor_parallel_size=2) for m in ("llama-3.3-70b", "mixtral-8x7b"))
    assert itl(sparse, 1, 1000) < itl(sparse, 32, 1000) / 2  # one token touches two of eight experts
    assert itl(sparse, 64, 1000) < itl(dense, 64, 1000)


@pytest.mark.parametrize("model", models())
@pytest.mark.parametrize("gpu", hardware())
def test_any_combination_loads_with_the_gpus_that_it_says_it_needs(model: str, gpu: str) -> None:
    """One GPU, or what the error advises; on a single one less than that the error stays."""
    name = f"{model}/{gpu}"
    try:
        loaded = profile(name)
    except ConfigError as error:
        advice = str(error.advice)
        found = re.search(r"set tensor_parallel_size: (\d+)", advice)
        assert found, advice
        enough = int(found[1])
        loaded = profile(name, tensor_parallel_size=enough)
        with pytest.raises(ConfigError):
            profile(name, tensor_parallel_size=enough // 2 if enough % 2 == 0 else enough - 1)
    assert loaded.kv_cache_tokens >= loaded.max_model_len >= 16
    assert loaded.cost.step(StepLoad()) > 0


def test_sources_are_told() -> None:
    assert all("config.json" in m.source for m in models().values())
    assert all("data" in h.source for h in hardware().values())
    assert "config.json of meta-llama/Llama-3.1-8B-Instruct; NVIDIA H100" in profile("llama-3.1-8b/h100").source


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "lama-3.1-8b/h100"}, ["profile", "unknown model 'lama-3.1-8b'; did you mean 'llama-3.1-8b'?"]),
        ({"profile": "llama-3.1-8b/h10"}, ["profile", "did you mean 'h100'?", "allowed: h100, h200"]),
        ({"profile": "llama-3.1-8b"}, ["profile", "neither MODEL/HARDWARE"]),
        ({"profile": "gone.yaml"}, ["profile", "there is no file gone.yaml"]),
        ({"tensor_parallel_size": 3}, ["tensor_parallel_size", "3 does not divide the 32 attention heads"]),
        ({"max_model_len": 131_073}, ["max_model_len", "131073 is over the 131072 tokens"]),
        ({"num_gpu_blocks": 10, "max_model_len": 161}, ["max_model_len", "161 is over the 160 tokens"]),
        ({"profile": "llama-3.3-70b/h100"}, ["tensor_parallel_size", "131.4 GiB", "72.0 GiB"]),
    ],
)
def test_mistakes_name_the_key(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile(SimulatorTargetConfig(**options))
    assert caught.value.message.startswith(f"spec.target.simulator.{words[0]}: ")
    for word in words[1:]:
        assert word in caught.value.message


def test_a_model_too_large_says_how_many_gpus_hold_it() -> None:
    with pytest.raises(ConfigError) as caught:
        profile("deepseek-v3/h100", tensor_parallel_size=8)
    assert "set tensor_parallel_size: 16" in str(caught.value.advice)
    profile("deepseek-v3/h100", tensor_parallel_size=16)


def test_a_written_profile_loads_as_the_same(tmp_path: Path) -> None:
    config = SimulatorTargetConfig(profile="mixtral-8x7b/h100", tensor_parallel_size=2)
    file = tmp_path / "mine.yaml"
    write_profile(file, published(config))
    built_in, read = load_profile(config), profile(str(file), tensor_parallel_size=2)
    assert read.cost == built_in.cost
    assert (read.model, read.max_model_len, read.kv_cache_tokens) == (
        built_in.model,
        built_in.max_model_len,
        built_in.kv_cache_tokens,
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  token:", "  tokens:", ["unknown key 'tokens'", "step.token: this key is missing"]),
        ("  fixed:", "  fixed: -1 #", ["step.fixed", "greater than or equal to 0"]),
        ("step:", "stop:", ["this is no simulator profile"]),
        ("hardware:", "hardware: [", ["not valid YAML"]),
        ("model: ", "model: 3 #", ["model: this should be a string"]),
    ],
)
def test_a_damaged_file_is_told_with_line_and_key(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    file = tmp_path / "mine.yaml"
    write_profile(file, published(SimulatorTargetConfig()))
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_profile(file)
    assert "mine.yaml" in caught.value.message
    for word in words:
        assert word in caught.value.message


def test_a_file_describes_one_replica_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    write_profile(file, published(SimulatorTargetConfig()))
    with pytest.raises(ConfigError, match=r"tensor_parallel_size: 2, but .* describes a replica of 1"):
        profile(str(file), tensor_parallel_size=2)
    with pytest.raises(ConfigError, match=r"gpu_memory_utilization: .* holds a KV cache"):
        profile(str(file), gpu_memory_utilization=0.5)
    file.write_text(file.read_text().replace("kv_bytes_per_token: 131072.0", "kv_bytes_per_token: 0"))
    split = DisaggregationConfig(prefill_replicas=1)
    with pytest.raises(ConfigError, match=r"disaggregation: .* does not say how many bytes"):
        profile(str(file), replicas=2, disaggregation=split)
