"""Effects have the right sign, their limits cover the truth, and what is inert is found to be."""

from __future__ import annotations

import asyncio
import math

from llm_d_benchmark.domain.study import Settings
from llm_d_benchmark.explore.effects import effects
from tests.explore.synthetic import LATENCY, THROUGHPUT, Bench, explored, plan

SPACE = {"batch_size": [4, 8, 16], "concurrency": [8, 16, 32], "temperature": [0.1, 0.7, 1.0]}
INTERPLAY = 0.06


def truth(s: Settings) -> dict[str, float]:
    """Each doubling of the batch is 10 % (in logarithms), of users 20 %, and 6 % more for both; temperature nothing."""
    batch, users = math.log2(float(s["batch_size"]) / 8), math.log2(float(s["concurrency"]) / 16)
    rate = math.exp(4 + 0.1 * batch + 0.2 * users + INTERPLAY * batch * users)
    return {THROUGHPUT: rate, LATENCY: 100 / rate}


def found(seed: int, noise: float, **block: object):  # type: ignore[no-untyped-def]
    asked = plan(SPACE, finalists=0, reference_every=0, **block)
    bench = Bench(truth, noise=noise, seed=seed, present={n: v[0] for n, v in SPACE.items()})
    explorer = asyncio.run(explored(asked, bench))
    return effects(asked.space, explorer.ledger.runs, THROUGHPUT, inert_below=0.02)


def test_signs_are_right_and_limits_cover_the_truth() -> None:
    expected = {"batch_size": math.expm1(0.2), "concurrency": math.expm1(0.4), "temperature": 0.0}
    covered = total = inert_called_to_matter = 0
    for seed in range(30):
        main, crossed, notes = found(seed, 0.03)
        assert not notes
        changes = {e.factor: e for e in main}
        assert changes["batch_size"].change > 0 < changes["concurrency"].change
        assert changes["concurrency"].verdict == "matters"
        covered += sum(e.low <= expected[n] <= e.high for n, e in changes.items())
        (both,) = (e for e in crossed if e.factors == ("batch_size", "concurrency"))
        # from both first levels to both last ones: a difference of differences of 2 x 2 steps
        covered += both.low <= math.expm1(INTERPLAY * 4) <= both.high or abs(both.change) < 0.12
        total += 4
        inert_called_to_matter += changes["temperature"].verdict == "matters"
    assert covered / total >= 0.93
    assert inert_called_to_matter <= 3


def test_what_does_nothing_is_inert_and_what_little_data_say_is_unclear() -> None:
    main, crossed, _ = found(1, 0.0)
    verdicts = {e.factor: e.verdict for e in main}
    assert verdicts == {"batch_size": "matters", "concurrency": "matters", "temperature": "inert"}
    assert {e.factors: e.verdict for e in crossed} == {
        ("batch_size", "concurrency"): "matters",
        ("batch_size", "temperature"): "inert",
        ("concurrency", "temperature"): "inert",
    }
    main, _, _ = found(1, 0.1)
    assert next(e for e in main if e.factor == "temperature").verdict == "unclear"
    main, _, _ = found(1, 0.005, repeats=1)
    temperature = next(e for e in main if e.factor == "temperature")
    assert temperature.verdict == "inert"
    assert temperature.message.startswith("temperature is inert: it changes output_tokens_per_second by less than 2.0%")


def test_levels_are_averages_over_the_other_factors() -> None:
    main, _, _ = found(0, 0.0)
    batch = next(e for e in main if e.factor == "batch_size")
    assert [m.level for m in batch.levels] == ["4", "8", "16"]
    for level, step in zip(batch.levels, (-0.1, 0.0, 0.1), strict=True):
        assert math.isclose(level.value, math.exp(4 + step), rel_tol=1e-9)


def test_too_few_runs_say_so() -> None:
    asked = plan(SPACE, methods=["random_search"], max_runs=6, finalists=0)
    explorer = asyncio.run(explored(asked, Bench(truth, present={n: v[0] for n, v in SPACE.items()})))
    main, crossed, notes = effects(asked.space, explorer.ledger.runs, THROUGHPUT, inert_below=0.02)
    assert (main, crossed) == ([], [])
    assert "6 runs are too few for effects of 3 factors" in notes[0]
