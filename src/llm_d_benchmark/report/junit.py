"""A regression test as JUnit XML: one test case for each metric, behaviour, criterion and run that is not used, as CI
systems show them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from xml.etree import ElementTree

from ..domain.comparison import MetricComparison, RegressionResult, Verdict
from ..domain.result import Absent
from .format import iso
from .regression import limits, mean_of, slowdown

Case = tuple[str, str, Verdict | Literal["error"], str]
"""class name, name, what became of it, message"""


def render_junit(result: RegressionResult) -> str:
    """A failure is a FAIL; what is inconclusive is skipped, with the reason; a test that ended early is an error."""
    cases = list(_cases(result))
    seconds = f"{(result.ended - result.started) / 1e9:.3f}"
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(c[2] == "fail" for c in cases)),
        "errors": str(sum(c[2] == "error" for c in cases)),
        "skipped": str(sum(c[2] == "inconclusive" for c in cases)),
        "time": seconds,
    }
    root = ElementTree.Element("testsuites", {"name": "llm-d-benchmark regress", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": result.name, "timestamp": iso(result.started), **counts})
    properties = ElementTree.SubElement(suite, "properties")
    facts = {
        "study": result.study_id,
        "verdict": result.verdict,
        "baseline": result.baseline.version,
        "test": result.test.version,
    }
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=name, value=value)
    for classname, name, verdict, message in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=classname, name=name, time="0")
        if verdict == "fail":
            ElementTree.SubElement(case, "failure", message=message, type="regression").text = message
        elif verdict == "error":
            ElementTree.SubElement(case, "error", message=message, type="ended early").text = message
        elif verdict == "inconclusive":
            ElementTree.SubElement(case, "skipped", message=f"inconclusive: {message}")
        else:
            ElementTree.SubElement(case, "system-out").text = message
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + text + "\n"


def _cases(result: RegressionResult) -> Iterator[Case]:
    if result.failure:
        yield "study", "ran to its end", "error", result.failure
    for criterion in result.criteria:
        yield "criteria", f"{criterion.name} {criterion.criterion}", criterion.verdict, criterion.message
    for m in result.metrics:
        if m.decides and m.verdict is not None:
            yield f"performance.{m.load}", m.metric, m.verdict, _said(m)
    accepted = next((c.criterion for c in result.criteria if c.name == "functionality_changes"), "any")
    bad = {"compatible": ("lost", "changed"), "none": ("lost", "changed", "gained")}.get(accepted, ())
    for b in result.behaviours:
        verdict: Verdict = "fail" if b.change in bad else "pass"
        yield "functionality", b.name, verdict, b.message or f"{b.change}: {b.test}"
    for i, r in enumerate(result.runs):
        if not r.used:
            yield f"runs.{r.arm}", r.run or f"run {i + 1}", "inconclusive", f"not used: {r.reason}"


def _said(m: MetricComparison) -> str:
    if isinstance(m.effect, Absent):
        return m.message
    return (
        f"{m.message}; slower by {slowdown(m.effect)} ({limits(m.effect)}); "
        f"baseline {mean_of(m.baseline)}, test {mean_of(m.test)}"
    )
