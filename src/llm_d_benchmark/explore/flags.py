"""What a diagnosis suggests to change on the server: hypotheses for the next search, never settings by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..config.target import TargetConfig
from ..domain.result import Claim, Measured, RunResult
from ..domain.study import Hypothesis, Value
from .remedies import FULL_CACHE, LLAMA_CPP, QUEUED, VLLM, Advice

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
"""A batch that has this part of the sequences it may have on average has all of them."""
LOCAL = MappingProxyType(
    {
        "parallel": "slots",
        "ctx-size": "context",
        "batch-size": "batch",
        "ubatch-size": "ubatch",
        "threads": "threads",
        "cache-type-k": "cache_type_k",
    }
)
"""llama.cpp's flag -> key of the local target."""


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
    full = {d.run for d in found if d.claim.claim.startswith(FULL_CACHE)}
    for d in sorted(found, key=lambda d: order.index(d.claim.confidence)):
        if d.run in full and d.claim.claim.startswith(QUEUED):
            continue  # they wait for blocks
        for advice in VLLM if target.local is None else LLAMA_CPP:
            if not d.claim.claim.startswith(advice.claim) or advice.flag in suggested:
                continue
            key, present = _key(target, advice.flag)
            if key in tried or not _applies(advice, target, d.running):
                continue
            because = f"{d.claim.claim} ({d.claim.confidence} confidence: {'; '.join(d.claim.evidence)})"
            values = tuple(_values(advice, present)) if key is not None else tuple(advice.values)
            suggested[advice.flag] = Hypothesis(f"--{advice.flag}", advice.change, because, key, values, d.run)
    return list(suggested.values())


def _applies(advice: Advice, target: TargetConfig, running: float | None) -> bool:
    by_hand = target.simulator is not None and target.simulator.num_gpu_blocks is not None
    if advice.flag in ("num-gpu-blocks-override", "gpu-memory-utilization"):
        return by_hand is (advice.flag == "num-gpu-blocks-override")
    if advice.flag == "threads" and _key(target, "threads")[1] is None:
        return False  # it has all the cores it can have
    _, most = _key(target, "max-num-seqs" if target.local is None else "parallel")
    if not advice.places or running is None or not isinstance(most, int):
        return True
    return (advice.places == "full") is (running >= FULL * most)


def _values(advice: Advice, present: Any) -> Iterator[Value]:
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
