"""What a GPU must hold to serve a model: weights, KV cache, activations and the rest; what fits then.

Every number is of one GPU, or says that it is not. A layer is of one kind: it keeps keys and values of every token, of
a window of them, one compressed vector (MLA), or a state that does not grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..domain.errors import ConfigError

GIB = 2**30
NON_TORCH_BYTES = GIB
"""Assumed: driver, CUDA graphs, communication buffers."""
ACTIVATION_BYTES = 2
BLOCK = 16
"""Tokens of a KV block."""

Kind = Literal["full", "window", "latent", "state"]


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers of one kind.

    Attributes:
        kind: full: keys and values of every token (MHA, GQA, MQA); window: of the last ``window`` tokens; latent: one
            vector of ``width`` for each token (MLA), which every GPU holds whole; state: ``state_bytes`` for each
            sequence, whatever its length (Mamba, linear attention).
        kv_heads, head_dim: full and window.
        width: latent: kv_lora_rank + qk_rope_head_dim.
    """

    kind: Kind
    count: int
    kv_heads: int = 0
    head_dim: int = 0
    window: int = 0
    width: int = 0
    state_bytes: float = 0.0

    def token_bytes(self, tensor_parallel: int, kv_bytes: float) -> float:
        """Of one token in all of these layers, on one GPU. Heads are split over GPUs, and repeated where there are
        more GPUs than heads; MLA's vector is not split."""
        if self.kind == "state":
            return 0.0
        if self.kind == "latent":
            return self.count * self.width * kv_bytes
        return 2 * self.count * -(-self.kv_heads // tensor_parallel) * self.head_dim * kv_bytes

    def sequence_bytes(self, tokens: int, tensor_parallel: int, kv_bytes: float) -> float:
        """Of one sequence, on one GPU."""
        if self.kind == "state":
            return self.count * self.state_bytes / tensor_parallel
        held = min(tokens, self.window) if self.kind == "window" else tokens
        return self.token_bytes(tensor_parallel, kv_bytes) * (-(-held // BLOCK) * BLOCK)


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """A model as far as memory goes.

    Attributes:
        dense_bytes: weights that are split over tensor and pipeline parallel GPUs.
        expert_bytes: routed experts, split over the GPUs that share them.
        replicated_bytes: whole on every GPU: norms, routers, MLA's down-projections.
        attention_heads: which the tensor parallel size must divide.
        source: what the numbers come from.
    """

    name: str
    dense_bytes: float
    expert_bytes: float
    replicated_bytes: float
    layers: Sequence[Layers]
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    attention_heads: int
    longest: int
    source: str

    @property
    def weight_bytes(self) -> float:
        """Of one copy of the model."""
        return self.dense_bytes + self.expert_bytes + self.replicated_bytes


@dataclass(frozen=True, slots=True)
class Deployment:
    """How a model is put on GPUs; ``memory`` is bytes of one GPU, the names are vLLM's."""

    memory: float
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    utilization: float = 0.9
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    kv_bytes: float = 2.0
    non_torch: float = NON_TORCH_BYTES

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel


@dataclass(frozen=True, slots=True)
class Sizing:
    """What fits. Bytes are of one GPU.

    Attributes:
        fits: whether a sequence of at least one block does.
        kv_token: KV cache of one token, without layers that do not grow.
        kv_budget: left for the KV cache; negative where the rest does not fit.
        kv_tokens: tokens that the whole replica holds, of short sequences (inside every window).
        sequences: concurrent sequences of ``context`` tokens.
        longest: tokens of the longest single sequence, at most the model's.
    """

    fits: bool
    budget: float
    weights: float
    activations: float
    non_torch: float
    kv_token: float
    kv_budget: float
    kv_tokens: int
    context: int
    sequences: int
    longest: int
    limited_by: str


def size(model: ModelMemory, on: Deployment, context: int) -> Sizing:
    """What a deployment of a model holds.

    Args:
        context: tokens of a sequence, prompt and answer together.

    Raises:
        ConfigError: the tensor parallel size does not divide the attention heads, or there are fewer layers than
            pipeline stages.
    """
    if model.attention_heads % on.tensor_parallel:
        raise ConfigError(
            f"tensor parallel size {on.tensor_parallel} does not divide the {model.attention_heads} attention heads of "
            f"{model.name}"
        )
    if on.pipeline_parallel > sum(g.count for g in model.layers):
        raise ConfigError(f"{model.name} has fewer layers than {on.pipeline_parallel} pipeline stages")
    budget = on.utilization * on.memory
    weights = (model.dense_bytes + model.expert_bytes) / on.gpus + model.replicated_bytes / on.pipeline_parallel
    activations = _activations(model, on)
    room = budget - weights - activations - on.non_torch
    token = _per_stage(sum(g.token_bytes(on.tensor_parallel, on.kv_bytes) for g in model.layers), on)
    longest = _longest(model, on, room)
    return Sizing(
        fits=longest >= BLOCK,
        budget=budget,
        weights=weights,
        activations=activations,
        non_torch=on.non_torch,
        kv_token=token,
        kv_budget=room,
        kv_tokens=max(0, int(room // token)) if token else 0,
        context=context,
        sequences=max(0, min(on.max_num_seqs, int(room // _sequence(model, on, context)))),
        longest=longest,
        limited_by=_limit(model, on, room, context),
    )


def _per_stage(value: float, on: Deployment) -> float:
    return value / on.pipeline_parallel


def _sequence(model: ModelMemory, on: Deployment, tokens: int) -> float:
    return _per_stage(sum(g.sequence_bytes(tokens, on.tensor_parallel, on.kv_bytes) for g in model.layers), on)


def _longest(model: ModelMemory, on: Deployment, room: float) -> int:
    if room < _sequence(model, on, 1):
        return 0
    low, high = 1, model.longest
    if _sequence(model, on, high) <= room:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _sequence(model, on, middle) <= room else (low, middle)
    return low


def _limit(model: ModelMemory, on: Deployment, room: float, context: int) -> str:
    if room < 0:
        return "weights, activations and the engine are over the memory"
    if context > model.longest:
        return f"the model takes {model.longest:,} tokens"
    if room // _sequence(model, on, context) >= on.max_num_seqs:
        return f"max_num_seqs {on.max_num_seqs}"
    return "KV cache"


def _activations(model: ModelMemory, on: Deployment) -> float:
    """Peak of a full step: hidden states, norms, gate, up and their product of a layer; logits as float32, twice."""
    per_token = (4 * model.hidden_size + 3 * model.intermediate_size / on.tensor_parallel) * ACTIVATION_BYTES
    return on.max_num_batched_tokens * per_token + 2 * on.max_num_seqs * model.vocab_size * 4


def fewest_gpus(model: ModelMemory, on: Deployment, context: int, most: int = 64) -> int | None:
    """The smallest tensor parallel size, a power of two, that holds a sequence of ``context`` tokens; None: none."""
    tp = 1
    while tp <= most:
        if model.attention_heads % tp == 0 and size(model, replace(on, tensor_parallel=tp), context).sequences >= 1:
            return tp
        tp *= 2
    return None
