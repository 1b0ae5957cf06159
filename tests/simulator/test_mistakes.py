"""Impossible deployments: the message has the file, the line and the key to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.schedule import Shard
from llm_d_benchmark.runner.dryrun import plan
from llm_d_benchmark.runner.virtual import in_virtual_time

SPLIT = {"replicas": 2, "disaggregation": {"prefill_replicas": 2}}
UNWEIGHTED = {"router": {"queue_weight": 0, "kv_cache_utilization_weight": 0, "prefix_cache_weight": 0}}

UNCACHED = {"enable_prefix_caching": False}


def said(folder: Path, simulator: dict[str, Any], **more: Any) -> str:
    """What a dry run says of a file, its name left out."""
    file = folder / "c.yaml"
    load = {"input_length": 256, "output_length": 128, "concurrency": 1, **more}
    benchmark = {"duration": 10, "load_generators": [{"type": "native", "config": load}]}
    target = {"type": "simulator", "simulator": simulator}
    head = {"apiVersion": "llm-d.io/v1alpha1", "kind": "BenchmarkConfig", "metadata": {"name": "x"}}
    file.write_text(yaml.safe_dump({**head, "spec": {"benchmark": benchmark, "target": target}}, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        check(file)
    line, key, text = caught.value.message.removeprefix(f"{file}:").split(": ", 2)
    key = key.removeprefix("spec.target.simulator.")
    assert key.split(".")[-1] in file.read_text().splitlines()[int(line) - 1]
    return f"{key}: {text}"


def check(file: Path) -> None:
    """What ``simulator run --dry-run`` does."""
    loaded = load_config([file], env={})
    with loaded.locating():
        plan(in_virtual_time(loaded), Shard())


@pytest.mark.parametrize(
    ("simulator", "says"),
    [
        ({"num_gpu_blocks": 1}, "num_gpu_blocks: a request may have 16 tokens"),
        ({"num_gpu_blocks": 0}, "num_gpu_blocks: this should be greater than or equal to 1"),
        ({"max_model_len": 100}, "max_model_len: a request may have 100 tokens"),
        ({"max_model_len": 10_000_000}, "max_model_len: 10000000 is over the 131072 tokens of"),
        ({"num_gpu_blocks": 20, "max_model_len": 1000}, "max_model_len: 1000 is over the 320 tokens that the KV cache"),
        ({"block_size": 24}, "block_size: 24 is not a power of two"),
        ({"max_num_batched_tokens": 100}, "max_num_batched_tokens: 100 is below max_num_seqs, 256"),
        ({"tensor_parallel_size": 3}, "tensor_parallel_size: 3 does not divide"),
        (
            {"gpu_memory_utilization": 0.05},
            "gpu_memory_utilization: 0.05 leaves no room for a KV cache: of the 4.0 GiB",
        ),
        ({"block_size": 2**20}, "block_size: a block of 1048576 tokens is more than the whole KV cache"),
        ({"max_num_batched_tokens": 2_000_000}, "max_num_batched_tokens: 2000000 leaves no room for a KV cache: of"),
        ({"max_num_seqs": 100_000, "max_num_batched_tokens": 100_000}, "max_num_seqs: 100000 leaves no room for a KV"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization: this should be less than or equal to 1"),
        ({"profile": "llama-9b/h100"}, "profile: 'llama-9b/h100' is no MODEL/HARDWARE"),
        ({"router": {"policy": "fastest"}}, "router.policy: 'fastest' is not allowed (allowed: random, "),
        ({"router": {"policy": "weighted", **UNWEIGHTED["router"]}}, "router.policy: 'weighted' needs a queue_weight"),
        (
            {**UNCACHED, "router": {"policy": "prefix_aware"}},
            "router.policy: 'prefix_aware' would look at prefix caches",
        ),
        ({**UNCACHED, "router": {**UNWEIGHTED["router"], "prefix_cache_weight": 1}}, "router.prefix_cache_weight: 'we"),
        ({"disaggregation": {"prefill_replicas": 1}}, "disaggregation.prefill_replicas: 1 of 1 replicas leave none"),
        (SPLIT, "disaggregation.prefill_replicas: 2 of 2 replicas leave none"),
        ({"failures": {"slow_replicas": {"7": 2}}}, "failures.slow_replicas: there is no replica '7'"),
        ({"failures": {"slow_replicas": {"00": 2}}}, "failures.slow_replicas: there is no replica '00'"),
        ({"failures": {"http_429_rate": 0.7, "cut_rate": 0.7}}, "failures.cut_rate: http_429_rate + cut_rate is 1.4"),
        ({"output_length": {"distribution": "file", "path": "/nope"}}, "output_length.path: /nope does not exist"),
        ({"port": 70000}, "port: this should be less than or equal to 65535"),
    ],
)
def test_a_mistake_has_its_line_and_its_key(tmp_path: Path, simulator: dict[str, Any], says: str) -> None:
    assert said(tmp_path, simulator).startswith(says)


@pytest.mark.parametrize(
    ("name", "value"), [("max_tokens", 64.5), ("max_completion_tokens", "64"), ("min_tokens", "x")]
)
def test_a_request_parameter_of_another_type_than_a_server_takes(tmp_path: Path, name: str, value: Any) -> None:
    key = f"spec.benchmark.load_generators.0.config.parameters.{name}"
    (tmp_path / "d.jsonl").write_text('{"prompt": "a"}')
    own = {
        "workload": {"type": "dataset", "path": str(tmp_path / "d.jsonl")},
        "input_length": None,
        "output_length": None,
    }
    assert said(tmp_path, {}, parameters={name: value}, **own) == f"{key}: this should be `int | null`, not {value!r}"
