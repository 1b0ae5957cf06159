"""What a diagnosis suggests to change on the server: hypotheses for the next search, never settings by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from ..config.target import TargetConfig
from ..domain.result import Claim, Measured, RunResult
from ..domain.study import Hypothesis, Value

SIMULATED = MappingProxyType(
    {
        "max-num-seqs": "max_num_seqs",
        "max-num-batched-tokens": "max_num_batched_tokens",
        "gpu-memory-utilization": "gpu_memory_utilization",
        "tensor-parallel-size": "tensor_parallel_size",
        "enable-prefix-caching": "enable_prefix_caching",
        "num-gpu-blocks-override": "num_gpu_blocks",
    }
)
"""vLLM's flag -> key of the simulator."""
FULL = 0.9
"""A batch that has this part of ``max-num-seqs`` on average has all the sequences it may have."""
LOCAL = MappingProxyType({"max-num-seqs": "slots", "max-num-batched-tokens": "batch", "kv-cache-dtype": "cache_type_k"})


@dataclass(frozen=True, slots=True)
class _Advice:
    """``claim`` is how the diagnosis begins; ``scale`` makes values out of the present number; ``places``: only where a
    batch had all the sequences it may have, or where it had free places; "" for both."""

    claim: str
    flag: str
    change: str
    scale: Sequence[float] = ()
    values: Sequence[Value] = ()
    places: Literal["", "full", "free"] = ""


_FULL_CACHE = "the KV cache was full"
_QUEUED = ("requests waited in the server's queue", "requests queued for a good part")
_ADVICE = (
    _Advice("the KV cache was full", "gpu-memory-utilization", "raise it: more blocks, fewer preemptions",
            values=(0.9, 0.93, 0.95)),
    _Advice("the KV cache was full", "kv-cache-dtype", "fp8 halves the cache's bytes; check the quality of answers",
            values=("auto", "fp8")),
    _Advice("the KV cache was full", "tensor-parallel-size", "more GPUs hold more cache and share the weights",
            scale=(1, 2, 4)),
    _Advice("the KV cache was full", "max-num-seqs", "lower it: fewer sequences that preempt each other",
            scale=(1, 0.5, 0.25)),
    _Advice("the KV cache was full", "num-gpu-blocks-override", "raise it as far as the memory goes, or leave it out",
            scale=(1, 1.5, 2)),
    *(_Advice(queued, "max-num-seqs", "raise it: every place was taken, and the KV cache has room", scale=(1, 2, 4),
              places="full") for queued in _QUEUED),
    *(_Advice(queued, "max-num-batched-tokens", "raise it: places were free, so prompts waited for room in a step",
              scale=(1, 2, 4), places="free") for queued in _QUEUED),
    *(_Advice(queued, "tensor-parallel-size", "places were free, so computing was the limit: more GPUs shorten steps",
              scale=(1, 2, 4), places="free") for queued in _QUEUED),
    *(_Advice(queued, "enable-prefix-caching", "on, where prompts share prefixes: less to compute",
              values=(True, False), places="free") for queued in _QUEUED),
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


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """A claim about a run. ``running``: sequences that its server had in service, on average; None where not known."""

    run: str
    claim: Claim
    running: float | None = None


def diagnosed(result: RunResult) -> list[Diagnosed]:
    """The claims of a run."""
    running = {s.index: s.resources.get("server_running") for s in result.stages}

    def of(claim: Claim) -> float | None:
        found = None if claim.stage is None else running.get(claim.stage)
        return found.value if isinstance(found, Measured) else None

    return [Diagnosed(result.run_id, claim, of(claim)) for claim in result.diagnosis]


def hypotheses(found: Sequence[Diagnosed], target: TargetConfig, tried: Sequence[str] = ()) -> list[Hypothesis]:
    """Flags worth a search, each once, the surest claim first.

    Args:
        tried: configuration keys that the study varied already; they are not suggested again.
    """
    suggested: dict[str, Hypothesis] = {}
    order = ("high", "medium", "low", "unknown")
    full = {d.run for d in found if d.claim.claim.startswith(_FULL_CACHE)}
    for d in sorted(found, key=lambda d: order.index(d.claim.confidence)):
        if d.run in full and d.claim.claim.startswith(_QUEUED):
            continue  # they wait for blocks
        for advice in _ADVICE:
            if not d.claim.claim.startswith(advice.claim) or advice.flag in suggested:
                continue
            key, present = _key(target, advice.flag)
            if key in tried or not _applies(advice, target, d.running):
                continue
            because = f"{d.claim.claim} ({d.claim.confidence} confidence: {'; '.join(d.claim.evidence)})"
            values = tuple(_values(advice, present)) if key is not None else tuple(advice.values)
            suggested[advice.flag] = Hypothesis(f"--{advice.flag}", advice.change, because, key, values, d.run)
    return list(suggested.values())


def _applies(advice: _Advice, target: TargetConfig, running: float | None) -> bool:
    by_hand = target.simulator is not None and target.simulator.num_gpu_blocks is not None
    if advice.flag in ("num-gpu-blocks-override", "gpu-memory-utilization"):
        return by_hand is (advice.flag == "num-gpu-blocks-override")
    _, most = _key(target, "max-num-seqs")
    if not advice.places or running is None or not isinstance(most, int):
        return True
    return (advice.places == "full") is (running >= FULL * most)


def _values(advice: _Advice, present: Any) -> Iterator[Value]:
    if advice.values:
        yield from dict.fromkeys([*([] if present is None else [present]), *advice.values])
    elif isinstance(present, int) and not isinstance(present, bool):
        yield from dict.fromkeys(max(1, round(present * s)) for s in advice.scale)


def _key(target: TargetConfig, flag: str) -> tuple[str | None, Any]:
    """The configuration key that sets a flag on this target, and its present value; (None, None) where none does."""
    if target.simulator is not None:
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
