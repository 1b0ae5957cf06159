"""Models for memory sizing: from the built-in table, or from a Hugging Face folder on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.spelling import nearest
from ..domain.errors import ConfigError
from ..perfmodel.memory import Layers, ModelMemory
from ..simulator.profiles.tables import Hardware, ModelShape, hardware, models

BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8_e4m3fn": 1.0, "int8": 1.0}
BITS_KEYS = ("bits", "w_bit", "num_bits")
INDEX = "model.safetensors.index.json"


def gpu(name: str) -> Hardware:
    """An accelerator of the table.

    Raises:
        ConfigError: it is not in there.
    """
    table = hardware()
    found = table.get(name.lower())
    if found is None:
        raise ConfigError(
            f"--gpu: unknown GPU '{name}'{nearest(name.lower(), table)} (allowed: {', '.join(table)})",
            advice="or give its memory: --memory 80Gi",
        )
    return found


def model(name: str) -> ModelMemory:
    """A model by its name in the table, or a folder with its config.json.

    Raises:
        ConfigError: it is neither, or its configuration does not tell its shape.
    """
    path = Path(name)
    if path.is_dir() or path.name == "config.json":
        return from_folder(path if path.is_dir() else path.parent)
    table = models()
    key = name.lower()
    by_name = {shape.name.lower(): k for k, shape in table.items()}
    key = by_name.get(key, key)
    if key not in table:
        raise ConfigError(
            f"--model: '{name}' is neither a folder nor a known model{nearest(key, table)} (known: {', '.join(table)})",
            advice="give a folder that holds the model's config.json and, if there is one, " + INDEX,
        )
    return from_shape(table[key])


def from_shape(shape: ModelShape) -> ModelMemory:
    """A row of the built-in table."""
    return ModelMemory(
        name=shape.name,
        dense_bytes=float((shape.parameters - shape.expert_parameters) * shape.weight_bytes),
        expert_bytes=float(shape.expert_parameters * shape.weight_bytes),
        replicated_bytes=0.0,
        layers=[_attention(shape)],
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size or shape.moe_intermediate_size * shape.num_experts_per_tok,
        vocab_size=shape.vocab_size,
        attention_heads=shape.num_attention_heads,
        longest=shape.max_position_embeddings,
        source=shape.source,
    )


def _attention(shape: ModelShape) -> Layers:
    if shape.mla is not None:
        return Layers("latent", shape.num_hidden_layers, width=shape.mla.kv_lora_rank + shape.mla.qk_rope_head_dim)
    return Layers("full", shape.num_hidden_layers, shape.num_key_value_heads, shape.head_dim)


def from_folder(path: Path) -> ModelMemory:
    """A model as Hugging Face keeps it: ``config.json``, and the sizes in ``model.safetensors.index.json``.

    Raises:
        ConfigError: config.json is missing, no JSON, or lacks a key that is needed.
    """
    config = _json(path / "config.json")
    config = {**config, **config.get("text_config", {})}  # of a model that also sees

    def number(*names: str, default: int | None = None) -> int:
        for name in names:
            if isinstance(config.get(name), int):
                return int(config[name])
        if default is None:
            raise ConfigError(f"{path / 'config.json'} has no {names[0]}: the shape of the model is not known")
        return default

    heads = number("num_attention_heads", "n_head")
    hidden = number("hidden_size", "n_embd", "d_model")
    layers = number("num_hidden_layers", "n_layer")
    shape = ModelShape(
        name=str(config.get("_name_or_path") or path.resolve().name),
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=number("intermediate_size", "n_inner", default=4 * hidden),
        num_attention_heads=heads,
        num_key_value_heads=number("num_key_value_heads", default=heads),
        head_dim=number("head_dim", default=hidden // heads),
        vocab_size=number("vocab_size"),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        max_position_embeddings=number("max_position_embeddings", "n_positions", default=131072),
        num_experts=number("num_local_experts", "num_experts", "n_routed_experts", default=0),
        num_experts_per_tok=number("num_experts_per_tok", default=0),
        num_shared_experts=number("n_shared_experts", default=0),
        moe_intermediate_size=number("moe_intermediate_size", "intermediate_size", default=0),
        first_k_dense_replace=number("first_k_dense_replace", default=0),
        weight_bytes=1,
        source=str(path / "config.json"),
    )
    element = _weight_bytes(config)
    whole, source = _indexed(path, shape.parameters * element)
    experts = min(shape.expert_parameters * element, whole) if shape.num_experts else 0.0
    return ModelMemory(
        name=shape.name,
        dense_bytes=whole - experts,
        expert_bytes=experts,
        replicated_bytes=0.0,
        layers=_layers(config, shape),
        hidden_size=hidden,
        intermediate_size=shape.intermediate_size,
        vocab_size=shape.vocab_size,
        attention_heads=heads,
        longest=shape.max_position_embeddings,
        source=source,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return found


def _indexed(path: Path, counted: float) -> tuple[float, str]:
    """Bytes of the weights: as the index of the files says, else as they are on disk, else counted from the shape."""
    index = path / INDEX
    if index.is_file():
        total = _json(index).get("metadata", {}).get("total_size")
        if isinstance(total, int | float) and total > 0:
            return float(total), f"{path / 'config.json'} and {INDEX}"
    files = list(path.glob("*.safetensors"))
    if files:
        return float(sum(f.stat().st_size for f in files)), f"{path / 'config.json'} and {len(files)} weight files"
    return counted, f"{path / 'config.json'}; its weights are counted from the shape"


def _weight_bytes(config: Mapping[str, Any]) -> float:
    """Of one weight: of the quantisation where there is one, else of the type."""
    quantized = config.get("quantization_config")
    if isinstance(quantized, Mapping):
        if "fp8" in str(quantized.get("quant_method", "")).lower():
            return 1.0
        for key in BITS_KEYS:
            if isinstance(quantized.get(key), int):
                return int(quantized[key]) / 8
    return BYTES.get(str(config.get("torch_dtype") or config.get("dtype") or "bfloat16"), 2.0)


def _layers(config: Mapping[str, Any], shape: ModelShape) -> list[Layers]:
    count = shape.num_hidden_layers
    rank, rope = config.get("kv_lora_rank"), config.get("qk_rope_head_dim")
    if isinstance(rank, int) and isinstance(rope, int):
        return [Layers("latent", count, width=rank + rope)]
    kinds = _kinds(config, count)
    window = config.get("sliding_window")
    window = window if isinstance(window, int) and config.get("use_sliding_window", True) else 0
    sliding = kinds.count("window") if window else 0
    state = kinds.count("state")
    found = [
        Layers("full", count - sliding - state, shape.num_key_value_heads, shape.head_dim),
        Layers("window", sliding, shape.num_key_value_heads, shape.head_dim, window=window),
        Layers("state", state, state_bytes=_state_bytes(config, shape)),
    ]
    return [g for g in found if g.count]


def _kinds(config: Mapping[str, Any], count: int) -> list[str]:
    """full, window or state for each layer, by the ways that configurations tell."""
    told = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(told, list):
        return [_kind(str(t)) for t in told]
    period = config.get("attn_layer_period")
    if isinstance(period, int) and period > 0:  # Jamba: one layer in so many attends
        offset = int(config.get("attn_layer_offset", 0))
        return ["full" if i % period == offset else "state" for i in range(count)]
    if str(config.get("model_type", "")).startswith("mamba"):
        return ["state"] * count
    pattern = config.get("sliding_window_pattern")
    if isinstance(pattern, int) and pattern > 1:  # Gemma 3: one layer in so many sees everything
        return ["full" if (i + 1) % pattern == 0 else "window" for i in range(count)]
    return ["window" if isinstance(config.get("sliding_window"), int) else "full"] * count


def _kind(word: str) -> str:
    if "sliding" in word or "chunked" in word or "local" in word:
        return "window"
    return "state" if "mamba" in word or "linear" in word or "recurrent" in word else "full"


def _state_bytes(config: Mapping[str, Any], shape: ModelShape) -> float:
    """Of one layer and sequence: the state of a Mamba layer and its convolution, in 16 bits; likewise linear attention
    as a matrix of each head."""
    inner = int(config.get("mamba_expand", config.get("expand", 2))) * shape.hidden_size
    size = config.get("mamba_d_state", config.get("state_size", config.get("ssm_state_size")))
    if isinstance(size, int):
        return 2.0 * inner * (size + int(config.get("mamba_d_conv", config.get("conv_kernel", 4))))
    heads = int(config.get("linear_num_value_heads", shape.num_attention_heads))
    key = int(config.get("linear_key_head_dim", shape.head_dim))
    value = int(config.get("linear_value_head_dim", shape.head_dim))
    return 2.0 * heads * key * value
