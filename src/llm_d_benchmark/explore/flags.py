"""What a diagnosis suggests to change on the server: hypotheses for the next search, never settings by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..config.target import TargetConfig
from ..domain.result import Claim
from ..domain.study import Hypothesis, Value

SIMULATED = MappingProxyType(
    {
        "max-num-seqs": "max_num_seqs",
        "max-num-batched-tokens": "max_num_batched_tokens",
        "gpu-memory-utilization": "gpu_memory_utilization",
        "tensor-parallel-size": "tensor_parallel_size",
        "enable-prefix-caching": "enable_prefix_caching",
    }
)
"""vLLM's flag -> key of the simulator."""
LOCAL = MappingProxyType({"max-num-seqs": "slots", "max-num-batched-tokens": "batch", "kv-cache-dtype": "cache_type_k"})


@dataclass(frozen=True, slots=True)
class _Advice:
    """``claim`` is how the diagnosis begins; ``scale`` makes values out of the present number."""

    claim: str
    flag: str
    change: str
    scale: Sequence[float] = ()
    values: Sequence[Value] = ()


_ADVICE = (
    _Advice("the KV cache was full", "gpu-memory-utilization", "raise it: more blocks, fewer preemptions",
            values=(0.9, 0.93, 0.95)),
    _Advice("the KV cache was full", "kv-cache-dtype", "fp8 halves the cache's bytes; check the quality of answers",
            values=("auto", "fp8")),
    _Advice("the KV cache was full", "tensor-parallel-size", "more GPUs hold more cache and share the weights",
            scale=(1, 2, 4)),
    _Advice("the KV cache was full", "max-num-seqs", "lower it: fewer sequences that preempt each other",
            scale=(1, 0.5, 0.25)),
    _Advice("requests waited in the server's queue", "max-num-seqs", "raise it where the KV cache has room",
            scale=(1, 2, 4)),
    _Advice("requests queued for a good part", "max-num-seqs", "raise it where the KV cache has room", scale=(1, 2, 4)),
    _Advice("prefill took most", "max-num-batched-tokens", "raise it: fewer steps for a prompt; TPOT may grow",
            scale=(1, 2, 4)),
    _Advice("prefill took most", "enable-prefix-caching", "on, where prompts share prefixes", values=(True, False)),
    _Advice("most of a request's time passed before", "max-num-batched-tokens", "raise it if prefill takes long",
            scale=(1, 2, 4)),
    _Advice("most of a request's time passed before", "max-num-seqs", "raise it if requests wait", scale=(1, 2, 4)),
    _Advice("decoding took most", "tensor-parallel-size", "more GPUs make every step shorter", scale=(1, 2, 4)),
    _Advice("decoding took most", "max-num-seqs", "lower it for shorter steps (TPOT), raise it for more tokens/s",
            scale=(0.5, 1, 2)),
    _Advice("decoding took most", "max-num-batched-tokens", "lower it: prompts disturb decoding steps less",
            scale=(1, 0.5, 0.25)),
    _Advice("prompts share prefixes, but", "enable-prefix-caching", "on", values=(True, False)),
)  # fmt: skip


def hypotheses(
    diagnosed: Sequence[tuple[str, Claim]], target: TargetConfig, tried: Sequence[str] = ()
) -> list[Hypothesis]:
    """Flags worth a search, each once, the surest claim first.

    Args:
        diagnosed: claims, each with the id of the run that it is about.
        tried: configuration keys that the study varied already; they are not suggested again.
    """
    found: dict[str, Hypothesis] = {}
    order = ("high", "medium", "low", "unknown")
    for run, claim in sorted(diagnosed, key=lambda d: order.index(d[1].confidence)):
        for advice in _ADVICE:
            if not claim.claim.startswith(advice.claim) or advice.flag in found:
                continue
            key, present = _key(target, advice.flag)
            if key in tried:
                continue
            because = f"{claim.claim} ({claim.confidence} confidence: {'; '.join(claim.evidence)})"
            values = tuple(_values(advice, present)) if key is not None else tuple(advice.values)
            found[advice.flag] = Hypothesis(f"--{advice.flag}", advice.change, because, key, values, run)
    return list(found.values())


def _values(advice: _Advice, present: Any) -> Iterator[Value]:
    if advice.values:
        yield from dict.fromkeys([*([] if present is None else [present]), *advice.values])
    elif isinstance(present, int) and not isinstance(present, bool):
        yield from dict.fromkeys(max(1, round(present * s)) for s in advice.scale)


def _key(target: TargetConfig, flag: str) -> tuple[str | None, Any]:
    """The configuration key that sets a flag on this target, and its present value; (None, None) where none does."""
    if target.simulator is not None:
        if flag == "gpu-memory-utilization" and target.simulator.num_gpu_blocks is not None:
            return None, None  # the number of blocks is given, whatever the memory
        return _known("simulator", SIMULATED, target.simulator.model_dump(), flag)
    if target.local is not None:
        return _known("local", LOCAL, target.local.model_dump(), flag)
    if target.process is not None:
        name = flag.replace("-", "_")
        command = " ".join(target.process.command)
        if name in target.process.args or f"{{{name}}}" in command:
            return f"spec.target.process.args.{name}", target.process.args.get(name)
    return None, None


def _known(kind: str, names: Mapping[str, str], block: Mapping[str, Any], flag: str) -> tuple[str | None, Any]:
    name = names.get(flag)
    return (None, None) if name is None else (f"spec.target.{kind}.{name}", block.get(name))
