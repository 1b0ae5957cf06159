"""From published figures to a profile: the cost of a step and the memory left for the KV cache."""

from __future__ import annotations

from ...config.simulator import SimulatorTargetConfig
from ..cost import StepCost
from .tables import Hardware, ModelShape

NON_TORCH_BYTES = 2**30
"""Assumed memory of one GPU for the driver, CUDA graphs and collectives."""

ACTIVATION_BYTES = 2
"""bfloat16."""


def step_cost(model: ModelShape, hardware: Hardware, tensor_parallel_size: int) -> StepCost:
    """The cost model of one replica on so many GPUs; the assumptions are those of ``hardware.yaml``."""
    tp = tensor_parallel_size
    flops = hardware.flops(model.weight_bytes) * tp
    attention_flops = hardware.flops(2) * tp
    bandwidth = hardware.bandwidth
    read = model.kv_bytes_per_token(tp) / bandwidth
    compute = model.decode_flops_per_context / attention_flops
    return StepCost(
        fixed=_fixed(model, hardware, tp),
        weights=(model.shared_parameters + model.head_parameters) * model.weight_bytes / (bandwidth * tp),
        experts=model.expert_parameters * model.weight_bytes / (bandwidth * tp),
        expert_share=model.num_experts_per_tok / model.num_experts if model.num_experts else 0.0,
        token=2.0 * model.active_parameters / flops,
        transfer=_collectives(model, tp) * _all_reduce_bytes(model, tp) / (hardware.link * hardware.link_efficiency),
        sequence=2.0 * model.head_parameters / flops + hardware.sequence_overhead,
        context=max(read, compute),
        pair=model.prefill_flops_per_pair / attention_flops,
        kv_bytes_per_token=float(model.kv_bytes_per_token()),
    )


def _fixed(model: ModelShape, hardware: Hardware, tp: int) -> float:
    layers = model.num_hidden_layers + model.moe_layers  # routing and grouping make about as many kernels again
    return (
        hardware.step_overhead
        + layers * hardware.layer_overhead
        + _collectives(model, tp) * hardware.collective_latency
    )


def _collectives(model: ModelShape, tp: int) -> int:
    """All-reduces of a step: after the attention and after the feed-forward part of each layer."""
    return 2 * model.num_hidden_layers if tp > 1 else 0


def _all_reduce_bytes(model: ModelShape, tp: int) -> float:
    """Bytes that one token makes each GPU send in a ring all-reduce."""
    return 2 * (tp - 1) / tp * model.hidden_size * ACTIVATION_BYTES


def kv_cache_bytes(
    model: ModelShape, hardware: Hardware, config: SimulatorTargetConfig, tensor_parallel_size: int
) -> float:
    """Bytes of one GPU that are left for the KV cache; negative where not even the rest fits.

    utilisation x memory - weights - peak activations of a full step - ``NON_TORCH_BYTES``.
    """
    taken = weight_bytes(model, tensor_parallel_size) + activation_bytes(model, config, tensor_parallel_size)
    return config.gpu_memory_utilization * hardware.memory - taken - NON_TORCH_BYTES


def weight_bytes(model: ModelShape, tp: int) -> float:
    """Weights of one GPU."""
    return model.parameters * model.weight_bytes / tp


def activation_bytes(model: ModelShape, config: SimulatorTargetConfig, tp: int) -> float:
    """Peak activations of a layer (hidden states, norms, gate, up and their product) plus logits as float32, twice."""
    wide = model.intermediate_size or model.moe_intermediate_size * model.num_experts_per_tok
    per_token = (4 * model.hidden_size + 3 * wide / tp) * ACTIVATION_BYTES
    logits = 2 * config.max_num_seqs * model.vocab_size * 4
    return config.max_num_batched_tokens * per_token + logits
