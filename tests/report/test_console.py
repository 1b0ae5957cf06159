"""The summary on a terminal."""

from __future__ import annotations

import dataclasses
import re

import pytest

from llm_d_benchmark.domain.result import Absent, FindingRecord
from llm_d_benchmark.report.console import render_summary

from . import sample

ESCAPE = re.compile(r"\x1b\[")


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("stages", [1, 5, 12])
def test_fits_its_width_and_shows_every_stage(width: int, stages: int) -> None:
    result = sample.result(stages)
    text = render_summary(result, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    for stage in result.stages:
        row = next(line for line in text.splitlines() if line.startswith(stage.name + " "))
        assert stage.label in row


def test_wider_terminals_show_more() -> None:
    result = sample.result(3)
    assert "goodput" not in render_summary(result, width=80)
    assert "goodput" in render_summary(result, width=160)


def test_plain_text_has_no_escapes_and_colour_has() -> None:
    result = sample.result(2)
    plain = render_summary(result, width=100, color=False)
    assert not ESCAPE.search(plain)
    assert ESCAPE.search(render_summary(result, width=100, color=True))


def test_invalid_is_red_with_reason_and_remedy() -> None:
    result = dataclasses.replace(sample.result(2), status="invalid", validity=sample.validity(False))
    text = render_summary(result, width=100, color=True)
    assert "\x1b[1;31mINVALID" in text
    flat = " ".join(ESCAPE.sub("", re.sub(r"\x1b\[[\d;]*m", "", text)).split())
    reason = result.validity.reasons[0]
    assert reason.message in flat
    assert reason.remedy is not None
    assert reason.remedy in flat


def test_the_numbers_are_those_of_the_result() -> None:
    stage = sample.stage(0, 4.0, 0.5)
    result = dataclasses.replace(sample.result(1), stages=(stage,))
    ttft = stage.metrics.ttft
    assert not isinstance(ttft, Absent)
    row = next(line for line in render_summary(result, width=160).splitlines() if line.startswith("level-0"))
    assert f"{ttft.percentiles['p50'].value * 1e3:.1f}" in row.split()
    assert f"{ttft.percentiles['p99'].value * 1e3:.0f}*" in row.split()  # 120 requests are too few for a p99


def test_an_absent_metric_is_left_out_with_its_reason() -> None:
    stage = sample.stage(0, 4.0, 0.5)
    reason = Absent("responses are not streamed")
    stage = dataclasses.replace(stage, metrics=dataclasses.replace(stage.metrics, ttft=reason))
    text = render_summary(dataclasses.replace(sample.result(1), stages=(stage,)), width=120)
    assert "TTFT p50, TTFT p99: responses are not streamed" in text


def test_a_run_without_stages_still_says_what_happened() -> None:
    result = dataclasses.replace(sample.result(1), stages=(), status="failed", saturation=None)
    assert "FAILED" in render_summary(result, width=80)


@pytest.mark.parametrize(("generator", "said"), [("virtual", "In virtual time"), ("guidellm", "is not known")])
def test_only_virtual_time_vouches_for_a_client_that_nobody_watched(generator: str, said: str) -> None:
    made = sample.result(1, simulated=True)
    unwatched = dataclasses.replace(made.validity, workers=(), schedule_delay_p99=Absent("not told"))
    stages = [dataclasses.replace(s, load_generator=generator) for s in made.stages]
    text = render_summary(dataclasses.replace(made, validity=unwatched, stages=stages, slos=()), width=200)
    assert said in text


def test_the_verdict_vouches_only_for_a_client_that_every_stage_tells_of() -> None:
    made = sample.result(3)
    assert "The client was not the bottleneck" in render_summary(dataclasses.replace(made, slos=()), width=200)
    silent = dataclasses.replace(made.stages[1].metrics, schedule_delay=Absent("the tool does not tell"))
    stages = [made.stages[0], dataclasses.replace(made.stages[1], metrics=silent), made.stages[2]]
    imported = FindingRecord("client_unknown", "info", "imported")
    wrong = FindingRecord("inconsistent_data", "warning", "counts differ")
    nobody = dataclasses.replace(made.validity, workers=())
    for changed, said in (
        ({"stages": stages}, "how late the client was is not known"),
        ({"findings": [imported]}, "Nothing contradicts these numbers; how late the client was is not known"),
        (
            {"findings": [imported, wrong]},
            "Findings say what contradicts these numbers; how late the client was is not",
        ),
        ({"validity": nobody}, "how busy the client was is not known"),
    ):
        text = render_summary(dataclasses.replace(made, slos=(), **changed), width=200)
        assert said in text
        assert "not the bottleneck" not in text
