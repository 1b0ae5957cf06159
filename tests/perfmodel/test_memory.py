"""What fits into a GPU: against counts made by hand, and against the known mistake of planners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.perfmodel.memory import Deployment, Layers, ModelMemory, fewest_gpus, size

H100 = 80 * 2**30


def model(layers: list[Layers], weights: float = 16e9, heads: int = 64) -> ModelMemory:
    return ModelMemory("m", weights, 0.0, 0.0, layers, 8192, 28672, 128256, heads, 131072, "by hand")


@pytest.mark.parametrize(
    ("layer", "tp", "expected"),
    [
        (Layers("full", 32, 32, 128), 1, 2 * 32 * 32 * 128 * 2),  # MHA
        (Layers("full", 80, 8, 128), 4, 2 * 80 * 2 * 128 * 2),  # GQA
        (Layers("full", 80, 8, 128), 16, 2 * 80 * 1 * 128 * 2),  # fewer heads than GPUs: repeated
        (Layers("full", 32, 1, 128), 4, 2 * 32 * 1 * 128 * 2),  # MQA: not divided
        (Layers("latent", 61, width=576), 8, 61 * 576 * 2),  # MLA: not divided
        (Layers("state", 32, state_bytes=1e6), 1, 0),
    ],
)
def test_kv_of_a_token(layer, tp, expected):
    assert layer.token_bytes(tp, 2.0) == expected


def test_a_window_stops_growing_and_a_state_never_grew():
    window = Layers("window", 10, 8, 128, window=1024)
    assert window.sequence_bytes(100_000, 1, 2.0) == window.sequence_bytes(1024, 1, 2.0)
    state = Layers("state", 10, state_bytes=1e6)
    assert state.sequence_bytes(1, 1, 2.0) == state.sequence_bytes(100_000, 1, 2.0) == 1e7


def test_hybrid_holds_more_sequences_than_full_attention():
    full = model([Layers("full", 32, 8, 128)])
    hybrid = model([Layers("full", 4, 8, 128), Layers("state", 28, state_bytes=1e6)])
    on = Deployment(H100)
    assert size(hybrid, on, 32768).sequences > 4 * size(full, on, 32768).sequences


def test_whole_tokens_of_tensor_parallel_groups_are_not_counted_for_each_gpu():
    """Llama 70B on four GPUs of 80 GB holds 479,428 tokens; planners that divide twice say four times as many."""
    llama = model([Layers("full", 80, 8, 128)], weights=70.55e9 * 2)
    found = size(llama, Deployment(H100, 4), 8192)
    assert found.kv_tokens == pytest.approx(479_428, rel=0.02)
    assert found.kv_token == 2 * 80 * 2 * 128 * 2
    assert not size(llama, Deployment(H100, 1), 8192).fits
    assert fewest_gpus(llama, Deployment(H100), 8192) == 2
    assert fewest_gpus(llama, Deployment(H100 / 4), 8192) == 16


@given(st.integers(1, 131072), st.sampled_from([1, 2, 4, 8]), st.integers(1, 4))
def test_what_is_said_to_fit_fits(context, tp, pp):
    llama = model([Layers("full", 80, 8, 128)], weights=40e9)
    on = Deployment(H100, tp, pp)
    found = size(llama, on, context)
    each = sum(g.sequence_bytes(context, tp, 2.0) for g in llama.layers) / pp
    assert found.sequences * each <= found.kv_budget
    assert found.sequences == on.max_num_seqs or (found.sequences + 1) * each > found.kv_budget
    assert found.weights + found.activations + found.non_torch + found.kv_budget == pytest.approx(0.9 * H100)
    assert (found.longest >= context) or found.sequences == 0


def test_heads_must_divide():
    with pytest.raises(ConfigError, match="does not divide the 64 attention heads"):
        size(model([Layers("full", 80, 8, 128)]), Deployment(H100, 3), 100)
