"""The performance model against curves that are known: its error, its intervals, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from llm_d_benchmark import perfmodel
from llm_d_benchmark.domain.errors import ConfigError

LEVELS = (1, 2, 4, 8, 16, 32, 64, 128)
NOISE = 0.03


def truth(b: float, i: float, o: float) -> tuple[float, float]:
    """ITL and TTFT of a replica of the usual kind."""
    return 0.008 + 5e-5 * b + 4e-8 * b * (i + o / 2), 0.02 + 4e-5 * i + 2e-4 * b


def table(rng: np.random.Generator | None, levels=LEVELS, lengths=((256, 128), (2048, 256))) -> dict[str, list[float]]:
    names = ("concurrency", "input", "output", "ttft", "itl", "throughput")
    rows = []
    for i, o in lengths:
        for b in levels:
            itl, ttft = truth(b, i, o)
            if rng is not None:
                itl, ttft = itl * np.exp(rng.normal(0, NOISE)), ttft * np.exp(rng.normal(0, NOISE))
            rows.append((float(b), float(i), float(o), ttft, itl, b * o / (ttft + (o - 1) * itl)))
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def test_without_noise_it_finds_the_formula():
    model = perfmodel.fit(table(None))
    assert model.itl_curve.quality.candidate == "alpha + beta B + gamma B S"
    for b in (3, 24, 100):
        found = model.predict(concurrency=b, input_tokens=1000, output_tokens=200)
        itl, ttft = truth(b, 1000, 200)
        assert found.tpot["mean"].value == pytest.approx(itl, rel=1e-6)
        assert found.ttft["mean"].value == pytest.approx(ttft, rel=1e-6)
        assert found.throughput.value == pytest.approx(b * 200 / (ttft + 199 * itl), rel=1e-3)
        assert not found.extrapolated


def test_error_and_coverage_on_noisy_curves():
    """Interior error at most 6 %, and intervals of nominal 90 % that hold 85 to 95 % of new measurements."""
    rng = np.random.default_rng(7)
    errors, inside, claimed = [], [], []
    for _ in range(25):
        model = perfmodel.fit(table(rng))
        claimed.append(model.itl_curve.quality.error)
        for b in (3, 6, 12, 24, 48, 96):
            for i, o in ((256, 128), (1000, 200), (2048, 256)):
                found = model.predict(concurrency=b, input_tokens=i, output_tokens=o)
                for name, value in zip(("tpot", "ttft"), truth(b, i, o), strict=True):
                    limits = getattr(found, name)["mean"]
                    errors.append(abs(limits.value / value - 1))
                    inside.append(limits.low <= value * np.exp(rng.normal(0, NOISE)) <= limits.high)
    assert np.mean(errors) < 0.06
    assert 0.85 <= np.mean(inside) <= 0.95
    assert max(claimed) < 0.06


def test_published_coverage_is_near_nominal():
    rng = np.random.default_rng(3)
    found = [perfmodel.fit(table(rng)).itl_curve.quality for _ in range(25)]
    assert 0.85 <= np.mean([q.coverage for q in found]) <= 0.95
    assert all(q.held_out == 16 for q in found)


def test_fewer_than_four_levels_are_refused():
    with pytest.raises(ConfigError, match="there are 3"):
        perfmodel.fit(table(None, levels=(1, 8, 64)))
    perfmodel.fit(table(None, levels=(1, 8, 32, 64)))


def test_levels_of_one_configuration_repeated_are_one_level():
    with pytest.raises(ConfigError, match="there are 2"):
        perfmodel.fit(table(np.random.default_rng(1), levels=(1, 1, 8, 8, 8)))


def test_gamma_needs_two_contexts():
    model = perfmodel.fit(table(None, lengths=((512, 128),)))
    assert model.itl_curve.curve.formula.count("S") == 0
    assert model.predict(concurrency=20, input_tokens=2048, output_tokens=128).extrapolated


def test_outside_is_labelled():
    model = perfmodel.fit(table(None))
    far = model.predict(concurrency=512, input_tokens=256, output_tokens=128)
    assert "512 requests in flight; measured: 1 to 128" in far.extrapolated
    assert model.predict(concurrency=64, input_tokens=9000, output_tokens=128).extrapolated
    assert model.predict(rate=3, input_tokens=512, output_tokens=128).extrapolated == []


def test_more_than_it_serves_is_a_backlog_not_a_latency():
    model = perfmodel.fit(table(None))
    most = model.predict(concurrency=128, input_tokens=256, output_tokens=128).requests_per_second.value
    found = model.predict(rate=2 * most, input_tokens=256, output_tokens=128)
    assert not found.stable
    assert found.ttft == {}
    assert found.backlog == pytest.approx(most, rel=0.02)


def test_saturated_levels_say_how_large_the_batch_is():
    """Beyond 64 places users only wait: their TTFT is no TTFT of a batch that large."""
    rows = table(None, levels=(1, 4, 16, 32, 64))
    for i, o in ((256, 128), (2048, 256)):
        itl, ttft = truth(64, i, o)
        served = 64 * o / (ttft + (o - 1) * itl)
        for users in (128, 256):
            wait = users * o / served - (o - 1) * itl
            for name, value in zip(rows, (users, i, o, wait, itl, served), strict=True):
                rows[name].append(value)
    model = perfmodel.fit(rows)
    assert len(model.saturated) == 4
    assert model.places == 64
    assert model.predict(concurrency=32, input_tokens=256, output_tokens=128).ttft["mean"].value == pytest.approx(
        truth(32, 256, 128)[1], rel=0.02
    )
    waiting = model.predict(concurrency=128, input_tokens=256, output_tokens=128).ttft["mean"].value
    assert waiting > 10 * truth(64, 256, 128)[1]


def test_a_rate_stands_for_a_concurrency():
    rows = table(None)
    rate = [t / o for t, o in zip(rows["throughput"], rows["output"], strict=True)]
    by_rate = perfmodel.fit({**{k: v for k, v in rows.items() if k != "concurrency"}, "rate": rate})
    assert by_rate.itl_curve.curve.formula == perfmodel.fit(rows).itl_curve.curve.formula


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"itl": None}, "no column itl"),
        ({"speed": [1.0] * 16}, "unknown column speed"),
        ({"ttft": [0.1]}, "differ in length"),
        ({"ttft": [-1.0] * 16}, "row 0: ttft is -1.0"),
        ({"concurrency": None}, "concurrency or rate"),
    ],
)
def test_a_table_that_is_none(change, message):
    rows = table(None) | change
    with pytest.raises(ConfigError, match=message):
        perfmodel.fit({k: v for k, v in rows.items() if v is not None})


def test_missing_values_are_left_out():
    rows = table(None)
    rows["itl"][3] = float("nan")
    rows["ttft"][5] = None
    assert perfmodel.fit(rows).itl_curve.quality.held_out == 15


def test_predict_takes_one_load():
    model = perfmodel.fit(table(None))
    for load in ({}, {"rate": 1, "concurrency": 1}, {"rate": -1}):
        with pytest.raises(ConfigError):
            model.predict(input_tokens=100, output_tokens=100, **load)
