"""Models from Hugging Face folders: each way that a configuration tells its attention."""

from __future__ import annotations

import json

import pytest

from llm_d_benchmark.capacity.models import from_folder, model
from llm_d_benchmark.domain.errors import ConfigError

LLAMA = {
    "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
}  # fmt: skip


def folder(path, config, total=None):
    (path / "config.json").write_text(json.dumps(config))
    if total:
        (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}}))
    return path


def test_a_folder_says_what_the_table_says(tmp_path):
    found, known = from_folder(folder(tmp_path, LLAMA)), model("llama-3.1-8b")
    assert found.weight_bytes == known.weight_bytes == pytest.approx(16.06e9, rel=0.01)
    assert found.layers == known.layers


def test_the_index_tells_the_weights(tmp_path):
    assert from_folder(folder(tmp_path, LLAMA, total=16_060_522_496)).weight_bytes == 16_060_522_496


@pytest.mark.parametrize(
    ("more", "kinds"),
    [
        ({}, {"full": 32}),
        ({"sliding_window": 4096}, {"window": 32}),
        ({"sliding_window": 4096, "use_sliding_window": False}, {"full": 32}),
        ({"sliding_window": 512, "sliding_window_pattern": 8}, {"full": 4, "window": 28}),
        (
            {"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 16},
            {"full": 16, "window": 16},
        ),
        ({"layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8}, {"full": 8, "state": 24}),
        ({"attn_layer_period": 8, "attn_layer_offset": 4, "mamba_d_state": 16}, {"full": 4, "state": 28}),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, {"latent": 32}),
    ],
)
def test_kinds_of_layers(tmp_path, more, kinds):
    found = from_folder(folder(tmp_path, {**LLAMA, **more}))
    assert {g.kind: g.count for g in found.layers} == kinds


@pytest.mark.parametrize(
    ("quantized", "share"),
    [({"quant_method": "fp8"}, 0.5), ({"quant_method": "gptq", "bits": 4}, 0.25), ({"quant_method": "other"}, 1.0)],
)
def test_quantised_weights(tmp_path, quantized, share):
    plain = model("llama-3.1-8b").weight_bytes
    assert from_folder(folder(tmp_path, {**LLAMA, "quantization_config": quantized})).weight_bytes == share * plain


def test_what_is_no_model(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        model(str(tmp_path))
    with pytest.raises(ConfigError, match="has no num_hidden_layers"):
        from_folder(folder(tmp_path, {"num_attention_heads": 8, "hidden_size": 64}))
    with pytest.raises(ConfigError, match=r"did you mean 'llama-3\.1-8b'"):
        model("lama-3.1-8b")
