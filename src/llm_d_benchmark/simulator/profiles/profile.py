"""From ``spec.target.simulator`` to the profile that an engine runs with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...config.simulator import SimulatorTargetConfig
from ...config.spelling import nearest
from ...domain.errors import ConfigError
from ..cost import StepCost
from .file import ProfileFile, StepCoefficients, read_profile
from .roofline import activation_bytes, kv_cache_bytes, step_cost, weight_bytes
from .tables import Hardware, ModelShape, hardware, models

KEY = "spec.target.simulator"
_MEMORY_KEYS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {"gpu_memory_utilization": max, "max_num_batched_tokens": min, "max_num_seqs": min}
)
"""Keys that take memory from the KV cache: which of a value and the usual one leaves it more."""
ADVICE = "llm-d-benchmark simulator profiles lists models and hardware; simulator calibrate writes profile files"


@dataclass(frozen=True, slots=True)
class Profile:
    """One replica as the engine needs it.

    Attributes:
        name: MODEL/HARDWARE, or the file it was read from.
        model: name the server answers to (``config.model`` where it is given).
        hardware: name of the accelerator.
        cost: the cost model; its ``kv_bytes_per_token`` is one copy of a token's KV cache.
        max_model_len: longest sequence in tokens, prompt and answer together: ``config.max_model_len``, else the
            model's, or less where the KV cache holds less. A single sequence always fits.
        kv_cache_tokens: tokens that the KV cache of the whole replica holds.
        source: what the numbers come from.
        bounded_by: the key to change where ``max_model_len`` is too little.
        request_overhead: seconds from a request's arrival until it is queued.
    """

    name: str
    model: str
    hardware: str
    cost: StepCost
    max_model_len: int
    kv_cache_tokens: int
    source: str
    bounded_by: str
    request_overhead: float = 0.0

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of one copy of a token's KV cache: what a transfer between replicas moves."""
        return self.cost.kv_bytes_per_token

    def num_gpu_blocks(self, config: SimulatorTargetConfig) -> int:
        """KV blocks of a replica: ``config.num_gpu_blocks``, else what its memory holds; at least 1."""
        return config.num_gpu_blocks or max(1, self.kv_cache_tokens // config.block_size)


def load_profile(config: SimulatorTargetConfig) -> Profile:
    """The profile that ``config.profile`` names, at the configured tensor parallelism and memory utilisation.

    Raises:
        ConfigError: an unknown name, a file that is no profile, a model that does not fit the GPUs, a
            ``tensor_parallel_size`` that does not divide the heads, or a ``max_model_len`` over what the model or the
            KV cache takes. The message names the key.
    """
    return _resolved(config, described(config))


def described(config: SimulatorTargetConfig) -> ProfileFile:
    """What ``config.profile`` names, as a file of it is or would be.

    Raises:
        ConfigError: see ``load_profile``.
    """
    path = Path(config.profile)
    if path.suffix in (".yaml", ".yml", ".json") or path.is_file():
        return _from_file(config, path)
    return published(config)


def published(config: SimulatorTargetConfig) -> ProfileFile:
    """The profile of a built-in MODEL/HARDWARE, as a file of it would be.

    Raises:
        ConfigError: see ``load_profile``.
    """
    model, gpu = _row(config.profile)
    tp = config.tensor_parallel_size
    if model.num_attention_heads % tp:
        raise ConfigError(
            f"{KEY}.tensor_parallel_size: {tp} does not divide the {model.num_attention_heads} attention heads of "
            f"{model.name}; it takes {', '.join(map(str, _parallel_sizes(model)))}"
        )
    if not _fits(config, model, gpu):
        raise _does_not_fit(config, model, gpu)
    return ProfileFile(
        model=model.name,
        hardware=gpu.name,
        source=f"roofline of published figures: {model.source}; {gpu.source}",
        tensor_parallel_size=tp,
        max_model_len=model.max_position_embeddings,
        kv_cache_tokens=_cache_tokens(config, model, gpu),
        step=StepCoefficients.of(step_cost(model, gpu, tp)),
    )


def _row(name: str) -> tuple[ModelShape, Hardware]:
    model, separator, gpu = name.lower().partition("/")
    if not separator:
        raise ConfigError(
            f"{KEY}.profile: '{name}' is neither MODEL/HARDWARE, such as llama-3.1-8b/h100, nor a file that is there",
            advice=ADVICE,
        )
    for what, word, table in (("model", model, models()), ("hardware", gpu, hardware())):
        if word not in table:
            raise ConfigError(
                f"{KEY}.profile: '{name}' is no MODEL/HARDWARE: unknown {what} '{word}'{nearest(word, table)} "
                f"(allowed: {', '.join(table)})",
                advice=ADVICE,
            )
    return models()[model], hardware()[gpu]


def _parallel_sizes(model: ModelShape) -> list[int]:
    return [n for n in range(1, 65) if model.num_attention_heads % n == 0]


def _does_not_fit(config: SimulatorTargetConfig, model: ModelShape, gpu: Hardware) -> ConfigError:
    """Blames the key that, once it and those before it ask for no more than usual, leaves enough."""
    tp = config.tensor_parallel_size
    eased = config
    for key, ease in _MEMORY_KEYS.items():
        value, usual = getattr(config, key), _usual(key)
        eased = eased.model_copy(update={key: ease(value, usual)})
        if _fits(eased, model, gpu):
            weights, step = weight_bytes(model, tp), activation_bytes(model, config, tp)
            return ConfigError(
                f"{KEY}.{key}: {value} leaves no room for a KV cache: of the "
                f"{_gib(gpu.memory * config.gpu_memory_utilization)} of each GPU that gpu_memory_utilization allows, "
                f"the weights of {model.name} on {tp} x {gpu.name} take {_gib(weights)}, a full step {_gib(step)}",
                advice=f"{'raise' if usual > value else 'lower'} it; {usual} is enough",
            )
    sizes = (eased.model_copy(update={"tensor_parallel_size": n}) for n in _parallel_sizes(model))
    enough = next((s.tensor_parallel_size for s in sizes if _fits(s, model, gpu)), None)
    return ConfigError(
        f"{KEY}.tensor_parallel_size: {model.name} does not fit {tp} x {gpu.name}: its weights are "
        f"{_gib(weight_bytes(model, 1))} and gpu_memory_utilization leaves "
        f"{_gib(gpu.memory * config.gpu_memory_utilization)} of each GPU",
        advice=f"set tensor_parallel_size: {enough}, or choose hardware with more memory"
        if enough
        else "choose hardware with more memory",
    )


def _fits(config: SimulatorTargetConfig, model: ModelShape, gpu: Hardware) -> bool:
    """Whether memory has room for a block of the KV cache, of the usual size at most."""
    return _cache_tokens(config, model, gpu) >= min(config.block_size, int(_usual("block_size")))


def _cache_tokens(config: SimulatorTargetConfig, model: ModelShape, gpu: Hardware) -> int:
    """Tokens of KV cache that a replica has memory for; negative where not even the rest fits."""
    tp = config.tensor_parallel_size
    return int(kv_cache_bytes(model, gpu, config, tp) // model.kv_bytes_per_token(tp))


def _usual(key: str) -> Any:
    return SimulatorTargetConfig.model_fields[key].default


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _from_file(config: SimulatorTargetConfig, path: Path) -> ProfileFile:
    if not path.is_file():
        raise ConfigError(f"{KEY}.profile: there is no file {path}", advice=ADVICE)
    profile = read_profile(path)
    if config.tensor_parallel_size != profile.tensor_parallel_size:
        raise ConfigError(
            f"{KEY}.tensor_parallel_size: {config.tensor_parallel_size}, but {path} describes a replica of "
            f"{profile.tensor_parallel_size}",
            advice=f"set tensor_parallel_size: {profile.tensor_parallel_size}, or calibrate with runs of the other one",
        )
    if config.gpu_memory_utilization != _usual("gpu_memory_utilization"):
        raise ConfigError(
            f"{KEY}.gpu_memory_utilization: {path} holds a KV cache of {profile.kv_cache_tokens} tokens as it is",
            advice="leave it out, and set num_gpu_blocks for another size",
        )
    if config.disaggregation is not None and not profile.step.kv_bytes_per_token:
        raise ConfigError(
            f"{KEY}.disaggregation: {path} does not say how many bytes a token's KV cache has, so its transfer takes "
            "an unknown time",
            advice="give step.kv_bytes_per_token in that file: 2 x layers x KV heads x head size x bytes per element",
        )
    return profile


def _resolved(config: SimulatorTargetConfig, found: ProfileFile) -> Profile:
    if config.num_gpu_blocks is None and config.block_size > found.kv_cache_tokens:
        raise ConfigError(
            f"{KEY}.block_size: a block of {config.block_size} tokens is more than the whole KV cache, which holds "
            f"{found.kv_cache_tokens}",
            advice="vLLM takes 8, 16, 32, 64, 128",
        )
    blocks = config.num_gpu_blocks or found.kv_cache_tokens // config.block_size
    capacity = blocks * config.block_size
    wanted = config.max_model_len
    if wanted is not None and wanted > found.max_model_len:
        raise ConfigError(f"{KEY}.max_model_len: {wanted} is over the {found.max_model_len} tokens of {found.model}")
    if wanted is not None and wanted > capacity:
        raise ConfigError(
            f"{KEY}.max_model_len: {wanted} is over the {capacity} tokens that the KV cache holds "
            f"({blocks} blocks of {config.block_size})",
            advice="lower max_model_len, or give the cache more room: num_gpu_blocks, gpu_memory_utilization, "
            "tensor_parallel_size",
        )
    return Profile(
        name=config.profile,
        model=config.model or found.model,
        hardware=found.hardware,
        cost=found.cost,
        max_model_len=wanted or min(found.max_model_len, capacity),
        kv_cache_tokens=capacity,
        source=found.source,
        bounded_by=_bound(config, found, capacity),
        request_overhead=found.request_overhead,
    )


def _bound(config: SimulatorTargetConfig, found: ProfileFile, capacity: int) -> str:
    """What keeps sequences from being longer."""
    if config.max_model_len is not None:
        return f"{KEY}.max_model_len"
    if capacity >= found.max_model_len:
        return f"{KEY}.profile"
    return f"{KEY}.{'profile' if config.num_gpu_blocks is None else 'num_gpu_blocks'}"
