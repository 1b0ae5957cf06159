"""What is known of the server that was measured: the limits of its engine, from the runs or from the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...analyze.api import RunInput
from ...config.simulator import SimulatorTargetConfig
from ...domain.errors import ConfigError
from ..engine import EngineLimits

BLOCK_SIZE = 16
"""Of the engine that predicts: vLLM's default."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says of the server; None: what the runs tell."""

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    kv_cache_tokens: int | None = None
    tensor_parallel_size: int | None = None
    hardware: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """One replica as it was measured. ``assumed``: what neither the runs nor the user told, as sentences."""

    model: str
    hardware: str
    tensor_parallel_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    kv_cache_tokens: int
    assumed: Sequence[str] = field(default_factory=list)

    def limits(self, longest: int) -> EngineLimits:
        """Of the engine that predicts; its KV cache holds at least one sequence of ``longest`` tokens."""
        blocks = -(-max(self.kv_cache_tokens, longest) // BLOCK_SIZE)
        return EngineLimits(self.max_num_seqs, self.max_num_batched_tokens, BLOCK_SIZE, blocks)


def served_by(runs: Sequence[RunInput], given: Given, longest: int) -> Served:
    """The server of these runs.

    Args:
        longest: tokens of the longest sequence in the runs.

    Raises:
        ConfigError: the runs are of different servers, or of several replicas.
    """
    targets = [target if isinstance(target := run.manifest.get("target"), Mapping) else {} for run in runs]
    infos = [info if isinstance(info := target.get("info"), Mapping) else {} for target in targets]
    told = _Told(runs, infos)
    model = told.same("model", [target.get("model") for target in targets])
    replicas = told.same("replicas", [info.get("replicas") for info in infos]) or 1
    if replicas > 1:
        raise ConfigError(
            f"the runs are of {replicas} replicas: which of them answered a request is not in the records",
            advice="measure one replica; a simulation of several is then replicas: N with its profile",
        )
    assumed: list[str] = []

    def pick(name: str, value: int | None, keys: Sequence[str], otherwise: int) -> int:
        found = value if value is not None else told.number(name, keys)
        if found is None:
            assumed.append(f"{name} {otherwise:,} (--{name.replace('_', '-')} gives another)")
        return found or otherwise

    fields = SimulatorTargetConfig.model_fields
    seqs = pick("max_num_seqs", given.max_num_seqs, ["max_num_seqs", "slots"], fields["max_num_seqs"].default)
    batch = pick(
        "max_num_batched_tokens",
        given.max_num_batched_tokens,
        ["max_num_batched_tokens", "batch"],
        fields["max_num_batched_tokens"].default,
    )
    length = pick("max_model_len", given.max_model_len, ["max_model_len"], longest)
    blocks, size = told.number("num_gpu_blocks", ["num_gpu_blocks"]), told.number("block_size", ["block_size"])
    known = given.kv_cache_tokens or (blocks * size if blocks and size else None)
    cache = pick("kv_cache_tokens", known, ["context"], seqs * length)
    names = [info.get("hardware") or _cpu(run, info) for run, info in zip(runs, infos, strict=True)]
    hardware = given.hardware or told.same("hardware", names) or "unknown"
    gpus = given.tensor_parallel_size or told.number("tensor_parallel_size", ["tensor_parallel_size"]) or 1
    return Served(
        model=str(model or "unknown"),
        hardware=str(hardware),
        tensor_parallel_size=gpus,
        max_num_seqs=seqs,
        max_num_batched_tokens=max(batch, seqs),
        max_model_len=length,
        kv_cache_tokens=max(cache, length),
        assumed=assumed,
    )


def _cpu(run: RunInput, info: Mapping[str, Any]) -> object:
    """The host's processor, where the server ran on it."""
    host = run.manifest.get("host")
    return host.get("cpu") if info.get("type") == "local" and isinstance(host, Mapping) else None


@dataclass(frozen=True, slots=True)
class _Told:
    runs: Sequence[RunInput]
    infos: Sequence[Mapping[str, Any]]

    def same(self, name: str, values: Sequence[Any]) -> Any:
        """The one value of all runs, None where they do not tell."""
        found = {run.run_id: value for run, value in zip(self.runs, values, strict=True) if value is not None}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{run}: {value}" for run, value in found.items())
            raise ConfigError(
                f"the runs are of different servers: {name} is {told}", advice="calibrate on runs of one server"
            )
        return next(iter(found.values()), None)

    def number(self, name: str, keys: Sequence[str]) -> int | None:
        values = [next((info[key] for key in keys if isinstance(info.get(key), int)), None) for info in self.infos]
        found = self.same(name, values)
        return None if found is None else int(found)
