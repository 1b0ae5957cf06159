"""The built-in tables of models and hardware, and what follows from a model's shape."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TypeVar

from pydantic import Field

from ...config.fields import Model
from ...config.source import read_text

KV_BYTES = 2
"""Bytes of one element of the KV cache: bfloat16."""


class Hardware(Model):
    """One accelerator; ``hardware.yaml`` tells what is published and what is assumed."""

    name: str
    memory: int = Field(gt=0, description="bytes")
    memory_bandwidth: float = Field(gt=0, description="bytes/s")
    bf16_flops: float = Field(gt=0, description="FLOP/s, dense")
    fp8_flops: float | None = Field(None, gt=0, description="FLOP/s, dense; absent: FP8 weights compute in bfloat16")
    link: float = Field(gt=0, description="bytes/s to other GPUs, one direction")
    source: str
    memory_efficiency: float = Field(gt=0, le=1)
    compute_efficiency: float = Field(gt=0, le=1)
    link_efficiency: float = Field(gt=0, le=1)
    collective_latency: float = Field(ge=0, description="s")
    layer_overhead: float = Field(ge=0, description="s")
    step_overhead: float = Field(ge=0, description="s")
    sequence_overhead: float = Field(ge=0, description="s")

    def flops(self, weight_bytes: int) -> float:
        """FLOP/s that are reached with weights of this width."""
        peak = self.fp8_flops if weight_bytes == 1 and self.fp8_flops else self.bf16_flops
        return peak * self.compute_efficiency

    @property
    def bandwidth(self) -> float:
        """Bytes/s of memory that are reached."""
        return self.memory_bandwidth * self.memory_efficiency


class LatentAttention(Model):
    """Multi-head latent attention (MLA): the KV cache holds one compressed vector per token and layer."""

    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


class ModelShape(Model):
    """A transformer under the names of its config.json."""

    name: str
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int = Field(0, description="of a dense layer; 0 where every layer has experts")
    num_attention_heads: int
    num_key_value_heads: int = Field(0, description="0 with mla")
    head_dim: int = Field(0, description="0 with mla")
    vocab_size: int
    tie_word_embeddings: bool = False
    max_position_embeddings: int
    num_experts: int = 0
    num_experts_per_tok: int = 0
    num_shared_experts: int = 0
    moe_intermediate_size: int = 0
    first_k_dense_replace: int = Field(0, description="first layers of a mixture of experts that are dense")
    mla: LatentAttention | None = None
    weight_bytes: int
    source: str

    @property
    def parameters(self) -> int:
        """All weights (norms and biases, under 0.1 %, left out)."""
        embeddings = self.head_parameters * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.shared_parameters + self.expert_parameters

    @property
    def active_parameters(self) -> float:
        """Weights that one token is multiplied with, without the vocabulary projection."""
        share = self.num_experts_per_tok / self.num_experts if self.num_experts else 0
        return self.shared_parameters + self.expert_parameters * share

    @property
    def head_parameters(self) -> int:
        """Weights of the vocabulary projection."""
        return self.vocab_size * self.hidden_size

    @property
    def shared_parameters(self) -> int:
        """Weights of the layers that every token uses: attention, dense and shared feed-forward parts."""
        shared = self.moe_layers * 3 * self.hidden_size * self.moe_intermediate_size * self.num_shared_experts
        router = self.moe_layers * self.hidden_size * self.num_experts
        dense = (self.num_hidden_layers - self.moe_layers) * 3 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * self._attention_parameters + dense + shared + router

    @property
    def expert_parameters(self) -> int:
        """Weights of all routed experts."""
        return self.moe_layers * self.num_experts * 3 * self.hidden_size * self.moe_intermediate_size

    @property
    def moe_layers(self) -> int:
        return self.num_hidden_layers - self.first_k_dense_replace if self.num_experts else 0

    @property
    def _attention_parameters(self) -> int:
        if self.mla is None:
            return self.hidden_size * self.head_dim * 2 * (self.num_attention_heads + self.num_key_value_heads)
        m, heads = self.mla, self.num_attention_heads
        query = self.hidden_size * m.q_lora_rank + m.q_lora_rank * heads * (m.qk_nope_head_dim + m.qk_rope_head_dim)
        key_value = self.hidden_size * (m.kv_lora_rank + m.qk_rope_head_dim)
        key_value += m.kv_lora_rank * heads * (m.qk_nope_head_dim + m.v_head_dim)
        return query + key_value + heads * m.v_head_dim * self.hidden_size

    def kv_bytes_per_token(self, tensor_parallel_size: int | None = None) -> int:
        """Bytes of a token's KV cache on one of so many GPUs; without a number, of one copy of it.

        Heads are split over the GPUs and repeated where there are more GPUs than heads; MLA's one vector is on each.
        """
        if self.mla is not None:
            return self.num_hidden_layers * (self.mla.kv_lora_rank + self.mla.qk_rope_head_dim) * KV_BYTES
        heads = self.num_key_value_heads
        if tensor_parallel_size is not None:
            heads = -(-heads // tensor_parallel_size)
        return 2 * self.num_hidden_layers * heads * self.head_dim * KV_BYTES

    @property
    def prefill_flops_per_pair(self) -> float:
        """FLOP of one query-key pair of prefill attention, over all layers and heads."""
        if self.mla is None:
            width = 2 * self.head_dim
        else:
            width = self.mla.qk_nope_head_dim + self.mla.qk_rope_head_dim + self.mla.v_head_dim
        return 2.0 * width * self.num_attention_heads * self.num_hidden_layers

    @property
    def decode_flops_per_context(self) -> float:
        """FLOP of one query over one token of KV cache; MLA works on the compressed vector of each head there."""
        if self.mla is None:
            return self.prefill_flops_per_pair
        width = 2 * self.mla.kv_lora_rank + self.mla.qk_rope_head_dim
        return 2.0 * width * self.num_attention_heads * self.num_hidden_layers


Row = TypeVar("Row", Hardware, ModelShape)


def _read(name: str, row: type[Row]) -> dict[str, Row]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return {key: row.model_validate(value) for key, value in read_text(text, name).plain().items()}


@cache
def hardware() -> dict[str, Hardware]:
    """The built-in accelerators by short name."""
    return _read("hardware.yaml", Hardware)


@cache
def models() -> dict[str, ModelShape]:
    """The built-in models by short name."""
    return _read("models.yaml", ModelShape)
