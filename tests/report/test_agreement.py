"""Generators side by side in every report: the numbers of the result, what differs, and why."""

from __future__ import annotations

import dataclasses
import json

import pytest

from llm_d_benchmark.domain.result import (
    Difference,
    RunResult,
)
from llm_d_benchmark.report import agreement
from llm_d_benchmark.report.console import render_summary
from llm_d_benchmark.report.html import render_html
from llm_d_benchmark.report.markdown import render_markdown
from llm_d_benchmark.store.result_json import to_json

from .agreeing import CAUSE, GROUP, compared, side_by_side
from .curves import source
from .test_html import Page, at


@pytest.fixture
def result() -> RunResult:
    return side_by_side()


def test_a_line_for_each_pair_and_cause_and_none_for_what_another_implies(result: RunResult) -> None:
    assert agreement.differences(result, GROUP) == [
        "guidellm against native: TTFT p50 −30 %. Why: " + CAUSE.message + ".",
        "guidellm against native: E2E p50 +20 %. U" + agreement.UNEXPLAINED[1:] + ".",
    ]
    assert agreement.sentence(result, GROUP) == (
        "2 of 4 metrics differ beyond noise; 1 agrees within the margin; 1 could not be compared."
    )


def test_a_generator_without_data_is_named(result: RunResult) -> None:
    alone = dataclasses.replace(
        GROUP, metrics=[compared("ttft.p50", (0.1, None, None)), compared("itl.p50", (1, None, None))]
    )
    assert agreement.sentence(result, alone) == "Nothing could be compared: guidellm has no data, aiperf has no data."
    two = compared("ttft.p50", (0.1, None, 0.1), Difference(0, 2, 0.0, -0.01, 0.01, "agree"))
    one_less = dataclasses.replace(GROUP, metrics=[two])
    assert agreement.sentence(result, one_less) == (
        "No metric differs beyond noise; 1 agrees within the margin; guidellm has no data."
    )
    apart = dataclasses.replace(
        GROUP, stages=[0, 1], metrics=[compared("ttft.p50", (0.1, None)), compared("e2e.p50", (None, 1.0))]
    )
    assert agreement.sentence(result, apart) == "Nothing could be compared: no two have the same metric."


def test_without_the_first_generator_the_others_are_told() -> None:
    only = compared("ttft.p50", (0.1, 0.1, 0.2), Difference(1, 2, 1.0, 0.9, 1.1, "differ"))
    assert [d.second for d in agreement.told(GROUP, only)] == [2]


@pytest.mark.parametrize("form", ["html", "markdown", "console"])
def test_every_report_says_it(result: RunResult, form: str) -> None:
    page = dataclasses.replace(source(result), curves=[])
    text = {
        "html": lambda: render_html(page),
        "markdown": lambda: render_markdown(page),
        "console": lambda: render_summary(result, width=200),
    }[form]()
    assert "native, guidellm, aiperf at c=8" in text
    assert "TTFT p50 −30 %" in text
    assert "in flight on average (8 were asked for)" in text.replace("\\", "")
    assert "Unexplained" in text
    assert "it weights" in text


def test_html_numbers_point_into_the_result(result: RunResult) -> None:
    html = render_html(dataclasses.replace(source(result), curves=[]))
    document = json.loads(to_json(result))
    shown = [(a["data-pointer"], float(a["value"] or "nan")) for a, _ in Page(html).numbers]
    mine = [(p, v) for p, v in shown if p is not None and p.startswith("/agreement/")]
    assert len(mine) > 20
    assert all(at(document, p) == v for p, v in mine)
    assert 'data-pointer="/agreement/0/metrics/0/readings/1/value/value"' in html
    assert 'data-pointer="/agreement/0/metrics/0/readings/1/low"' in html
    assert 'data-pointer="/agreement/0/own_figures/0/own/value"' in html
    assert 'id="agreement-0"' in html


def test_the_figure_shows_each_generator_around_the_middle_of_all(result: RunResult) -> None:
    (figure,) = agreement.figures(result)
    traces = {t["name"]: t for t in figure.data}
    assert list(traces) == ["native", "guidellm", "aiperf"]
    assert traces["native"]["x"][0] == pytest.approx(100 * (0.1 / (0.1 * 0.07 * 0.1) ** (1 / 3) - 1))
    assert len(traces["aiperf"]["x"]) == 2, "it reports no e2e"
    up = traces["guidellm"]["error_x"]["array"][0]
    assert up == pytest.approx(3 * 0.07 / (0.1 * 0.07 * 0.1) ** (1 / 3))


def test_different_loads_are_said_not_to_be_compared(result: RunResult) -> None:
    apart = dataclasses.replace(result, agreement=[])
    assert "No two load generators ran the same load" in render_summary(apart)
    alone = dataclasses.replace(apart, stages=apart.stages[:1])
    assert "No two" not in render_summary(alone)


def test_one_generator_whose_figures_are_others_is_a_line_on_the_console(result: RunResult) -> None:
    alone = dataclasses.replace(GROUP, stages=[1], metrics=[])
    text = render_summary(dataclasses.replace(result, agreement=[alone]), width=200)
    assert "guidellm's own figures at c=8: 1 are not what its requests give (see the report)" in text
    assert "it weights" not in text
