"""A regression test in every form it is shown in, from results built by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import pytest

from llm_d_benchmark.analyze.comparison.regression import Arms, compare_arms
from llm_d_benchmark.analyze.comparison.study import Criteria, Finished, Study, conclude
from llm_d_benchmark.domain.comparison import ArmInfo, Behaviour, RegressionResult, StudyRun
from llm_d_benchmark.domain.quantities import parse_threshold
from llm_d_benchmark.report.comparison import render_regression
from llm_d_benchmark.report.junit import render_junit
from llm_d_benchmark.report.regression import render_lines, render_markdown
from llm_d_benchmark.report.regression_page import render_html
from tests.analyze.comparison.test_regression import QUESTION, arm, run
from tests.report.test_browser import CHROMIUM, chromium

BEHAVIOURS = (
    Behaviour("stop", "cuts | the answer", "cuts | the answer", "none"),
    Behaviour("tool <calls>", "calls the tool", "no: none", "lost", "was: calls the tool; is: none"),
)
ASKED = Criteria(parse_threshold("<5%"), "compatible", parse_threshold(">99.9% uptime", subjects=("uptime", "success")))


def result(slowdown: float, *, odd: bool = False, asked: Criteria = ASKED) -> RegressionResult:
    sides = {"baseline": arm("a", 0), "test": arm("b", slowdown, seed=3)}
    if odd:
        sides["test"][2] = run("odd", 1.9)
    finished = [
        Finished(StudyRun(r.run_id, side, i, [i], f"runs/{r.run_id}", r.status), r)  # type: ignore[arg-type]
        for side, runs in sides.items()
        for i, r in enumerate(runs)
    ]
    study = Study(
        study_id="study-1",
        name="nightly",
        tool_version="0.3.0",
        started=1,
        ended=60_000_000_001,
        arms={"baseline": ArmInfo("v1", {}), "test": ArmInfo("v2 <b>", {})},
        finished=finished,
        paired=True,
        behaviours=BEHAVIOURS,
        outages={"baseline": (0.0, 100.0), "test": (0.0, 100.0)},
        notes=["a note"],
    )
    return conclude(study, QUESTION, asked)


@pytest.mark.parametrize(("slowdown", "word"), [(0.0, "PASS"), (0.12, "FAIL"), (0.05, "INCONCLUSIVE")])
def test_every_form_has_the_verdict_and_the_numbers(slowdown: float, word: str) -> None:
    found = result(slowdown, asked=dataclasses.replace(ASKED, functionality="any", stability=None))
    texts = {**render_regression(found, "llm-d-benchmark regress"), "terminal": render_lines(found)}
    effect = next(m.effect for m in found.metrics if m.metric == "e2e.mean")
    number = f"{effect.slowdown * 100:+.1f} %"  # type: ignore[union-attr]
    for name, text in texts.items():
        assert (word if name != "junit.xml" else word.lower()) in text, name
        assert number in text, name


def test_nothing_of_a_name_becomes_markup() -> None:
    found = result(0.0)
    page = render_html(found)
    assert "v2 <b>" not in page
    assert "tool <calls>" not in page
    markdown = render_markdown(found)
    assert "v2 \\<b\\>" in markdown
    assert all(line.replace("\\|", "").count("|") in (0, 5, 8) for line in markdown.splitlines())
    ElementTree.fromstring(render_junit(found).split("\n", 1)[1])


def test_junit_counts_what_failed_and_what_is_open() -> None:
    found = result(0.0)
    suite = ElementTree.fromstring(render_junit(found).split("\n", 1)[1])
    cases = list(suite.iter("testcase"))
    assert suite.attrib["tests"] == str(len(cases))
    failed = {c.attrib["name"] for c in cases if c.find("failure") is not None}
    assert failed == {"functionality_changes compatible", "tool <calls>"}
    assert suite.attrib["failures"] == "2"
    open_ = [c.attrib["name"] for c in cases if c.find("skipped") is not None]
    assert open_ == ["stability >99.9% uptime"]
    assert found.verdict == "fail"


def test_quarantined_runs_are_shown_with_and_without() -> None:
    found = result(0.0, odd=True)
    page = render_html(found)
    assert "Quarantined runs" in page
    assert "odd" in render_lines(found)
    details = [m for m in found.metrics if m.without_outliers is not None]
    assert details
    for m in details:
        assert m.without_outliers is not None
        assert f"{m.without_outliers.slowdown * 100:+.1f} %" in page


def test_unusable_runs_say_why() -> None:
    found = compare_arms(Arms([], []), QUESTION)
    assert found.verdict == "inconclusive"
    broken = dataclasses.replace(result(0.0), metrics=(), verdict="inconclusive", message="m")
    runs = [dataclasses.replace(broken.runs[0], used=False, reason="the client was the bottleneck"), *broken.runs[1:]]
    page = render_html(dataclasses.replace(broken, runs=runs))
    assert "not used: the client was the bottleneck" in page


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_charts_draw_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(result(0.12)))
    done = chromium(tmp_path / "profile", "--dump-dom", "--window-size=1400,1000", page.as_uri())
    assert 'data-charts="drawn"' in done.stdout
    assert done.stdout.count('class="main-svg"') >= 5
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
