"""Why a run is not used."""

from __future__ import annotations

import dataclasses

from llm_d_benchmark.analyze.comparison.compare import Compared, compare_runs
from llm_d_benchmark.analyze.comparison.study import Finished, sort_runs
from llm_d_benchmark.analyze.comparison.usable import nothing_usable, stays, unusable
from llm_d_benchmark.domain.comparison import StudyRun
from llm_d_benchmark.domain.result import Reason, RunResult
from tests.analyze.comparison.test_regression import run

LENGTH = Reason("input_length", "stage s: input was 25 instead of 16 tokens", "use endpoint completions", 0)
LAG = Reason("loop_lag", "stage s: the event loop was 9 ms late", "use more workers", 0)


def invalid(*reasons: Reason) -> RunResult:
    good = run("r", 1.0)
    return dataclasses.replace(
        good, status="invalid", validity=dataclasses.replace(good.validity, valid=False, reasons=reasons)
    )


def test_a_reason_has_its_remedy_and_says_whether_another_run_would_have_it() -> None:
    assert unusable(run("r", 1.0)) is None
    wrong_length, late = invalid(LENGTH, LENGTH), invalid(LAG)
    text = "it is invalid: stage s: input was 25 instead of 16 tokens (use endpoint completions)"
    assert unusable(wrong_length) == text
    assert str(unusable(late)).startswith("the client was the bottleneck: stage s: the event loop")
    assert stays(wrong_length)
    assert stays(invalid(LAG, LENGTH))
    assert not stays(late)
    failed = dataclasses.replace(
        run("r", 1.0), status="failed", requests=dataclasses.replace(run("r", 1.0).requests, errors={"http_5xx": 4})
    )
    assert unusable(failed) == "it failed: 4 requests http_5xx"
    assert unusable(dataclasses.replace(failed, status="partial")) == "it ended early"


def test_a_baseline_that_cannot_be_used_is_named_with_its_reason() -> None:
    finished = [
        Finished(StudyRun("base", "baseline", None, [0], "", "invalid"), invalid(LENGTH)),
        Finished(StudyRun("new", "test", None, [0], "", "ok"), run("new", 1.0)),
    ]
    _, runs = sort_runs(finished, paired=False)
    assert [r.used for r in runs] == [False, True]
    assert "base (baseline) cannot be used: it is invalid: stage s: input was 25" in str(nothing_usable(runs))


def test_compare_names_what_says_little() -> None:
    compared = [Compared(run("a", 1.0), {}), Compared(invalid(LENGTH), {"x": 1})]
    (note,) = [n for n in compare_runs(compared).notes if "says little" in n]
    assert "25 instead of 16 tokens" in note
    assert "use endpoint completions" in note
