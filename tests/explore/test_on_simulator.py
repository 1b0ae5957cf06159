"""What a search finds on the simulator, where everything is known: benchmarks.explore_search, with fewer seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.explore_search import (
    LATENCY,
    STEP,
    THROUGHPUT,
    Grid,
    bayesian,
    factorial,
    genetic,
    simulate,
    true_effects,
)


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid.load()


@pytest.mark.parametrize("settings", [(64, 64, 512), (8, 16, 2048)])
async def test_the_grid_is_what_the_simulator_says(grid: Grid, tmp_path: Path, settings: tuple[int, ...]) -> None:
    chosen = dict(zip(("batch_size", "concurrency", STEP), settings, strict=True))
    found = await simulate(chosen, 0, tmp_path)
    for metric in (THROUGHPUT, LATENCY):
        why = "the simulator has changed: python -m benchmarks.explore_search --fresh"
        assert grid.mean(chosen, metric) == pytest.approx(found[metric], rel=0.05), why


def test_bayesian_search_is_within_three_percent_for_a_fifth_of_the_grid(grid: Grid) -> None:
    pytest.importorskip("optuna", reason="needs the [explore] extra")
    found = [bayesian(grid, seed) for seed in range(10)]
    assert all(runs <= 150 / 5 for _, runs in found)
    assert sum(share >= 0.97 for share, _ in found) >= 9, found


def test_the_genetic_search_reaches_95_percent_of_the_true_hypervolume(grid: Grid) -> None:
    pytest.importorskip("optuna", reason="needs the [explore] extra")
    assert all(genetic(grid, seed)[0] >= 0.95 for seed in range(3))


def test_effects_have_the_right_sign_and_their_limits_cover_the_truth(grid: Grid) -> None:
    covered = total = 0
    for metric in (THROUGHPUT, LATENCY):
        truth = true_effects(grid, metric)
        found = [e for seed in range(10) for e in factorial(grid, seed, metric)]
        assert all(e.change * truth[e.factor] > 0 for e in found if e.verdict == "matters")
        assert all(e.verdict == "inert" for e in found if e.factor == "temperature")
        covered, total = covered + sum(e.low <= truth[e.factor] <= e.high for e in found), total + len(found)
    assert covered >= 0.9 * total
