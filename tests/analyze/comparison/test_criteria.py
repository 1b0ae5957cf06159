"""Stability, functionality and the one verdict."""

from __future__ import annotations

import dataclasses

import pytest

from llm_d_benchmark.analyze.comparison.criteria import (
    judge_functionality,
    judge_performance,
    judge_stability,
    overall,
    stability_of,
)
from llm_d_benchmark.analyze.comparison.regression import Arms, compare_arms
from llm_d_benchmark.domain.comparison import Behaviour, CriterionResult, Verdict
from llm_d_benchmark.domain.quantities import parse_threshold
from llm_d_benchmark.domain.result import Measured, RequestCounts, RunResult
from tests.analyze.comparison.test_regression import QUESTION, arm
from tests.report import sample

UPTIME = parse_threshold(">99.9% uptime", subjects=("uptime", "success"))
SUCCESS = parse_threshold(">99.9% success", subjects=("uptime", "success"))
LIMIT = parse_threshold("<5%")


def runs(sent: int, failed: int) -> list[RunResult]:
    counts = RequestCounts(sent, sent - failed, failed, 0, {})
    return [dataclasses.replace(sample.result(1), requests=counts)]


@pytest.mark.parametrize(
    ("sent", "failed", "down", "limit", "verdict", "says"),
    [
        (3000, 0, 0.0, UPTIME, "pass", "at least 99.900%"),
        (2000, 0, 0.0, UPTIME, "inconclusive", "2,995 requests with no more failures"),
        (3000, 1, 0.0, UPTIME, "inconclusive", "4,742 requests"),
        (1000, 20, 0.0, UPTIME, "fail", "at most"),
        (50_000, 3, 2.0, UPTIME, "fail", "answered 98.000% of the time"),
        (50_000, 3, 2.0, SUCCESS, "pass", "3 of 50,000"),
    ],
)
def test_stability(sent: int, failed: int, down: float, limit: object, verdict: str, says: str) -> None:
    found = judge_stability(stability_of(runs(sent, failed), (down, 100.0)), limit)  # type: ignore[arg-type]
    assert found.verdict == verdict
    assert says in found.message


def test_an_arm_that_answered_nothing() -> None:
    found = stability_of([], None)
    assert found.finished == 0
    assert not isinstance(found.uptime, Measured)
    assert judge_stability(found, UPTIME).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("changes", "accepted", "verdict"),
    [
        (["none", "none"], "none", "pass"),
        (["none", "gained"], "none", "fail"),
        (["none", "gained"], "compatible", "pass"),
        (["gained", "lost"], "compatible", "fail"),
        (["changed"], "compatible", "fail"),
        (["lost", "changed"], "any", "pass"),
        ([], "compatible", "inconclusive"),
    ],
)
def test_functionality(changes: list[str], accepted: str, verdict: str) -> None:
    behaviours = [Behaviour(f"b{i}", "works", "fails", c) for i, c in enumerate(changes)]  # type: ignore[arg-type]
    assert judge_functionality(behaviours, accepted).verdict == verdict


@pytest.mark.parametrize(
    ("slowdown", "says"),
    [(0.0, "each of 4 metrics"), (0.12, "surely slower: e2e.mean at 2/s"), (0.05, "more runs of each side")],
)
def test_performance_in_words(slowdown: float, says: str) -> None:
    found = compare_arms(Arms(arm("a", 0, seed=1), arm("b", slowdown, seed=2)), QUESTION)
    assert says in judge_performance(found, LIMIT).message


@pytest.mark.parametrize(
    ("verdicts", "expected", "says"),
    [
        (["pass", "pass"], "pass", "passes: performance regression, stability"),
        (["pass", "inconclusive"], "inconclusive", "ruled out: stability"),
        (["fail", "inconclusive"], "fail", "fails: performance regression"),
        ([], "inconclusive", "No criterion"),
    ],
)
def test_one_verdict(verdicts: list[Verdict], expected: str, says: str) -> None:
    names = ("performance_regression", "stability")
    criteria = [CriterionResult(n, "x", v, "") for n, v in zip(names, verdicts, strict=False)]  # type: ignore[arg-type]
    verdict, message = overall(criteria)
    assert verdict == expected
    assert says in message
