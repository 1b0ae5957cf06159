"""report.html as text: its numbers, its safety, what it does without."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.result import Absent, GpuUse, Insufficient, Measured, RunResult
from llm_d_benchmark.report.html import render_html

from . import sample
from .curves import COMMAND, CONFIG, source

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """The parts of a page that the tests look at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self._data: dict[str, str | None] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "data":
            self._data = dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == "data":
            self._data = None

    def handle_data(self, data: str) -> None:
        if self._data is not None:
            self.numbers.append((self._data, data))
        if self._open and self._open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def as_json(result: RunResult) -> Any:
    """result.json: what another program reads."""
    return json.loads(json.dumps(dataclasses.asdict(result)))


def at(document: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


@pytest.mark.parametrize("stages", [1, 2, 5, 9])
def test_every_number_equals_the_one_in_result_json(stages: int) -> None:
    result = sample.result(stages)
    document = as_json(result)
    page = Page(render_html(source(result)))
    assert len(page.numbers) > 150
    for attributes, text in page.numbers:
        pointer, raw, factor = (attributes[k] for k in ("data-pointer", "value", "data-factor"))
        assert pointer is not None
        assert raw is not None
        value = at(document, pointer)
        assert float(raw) == value, pointer
        shown = float(text.replace(",", ""))
        assert shown == pytest.approx(value * float(factor or 1), rel=0.005, abs=1e-9), pointer


def test_every_percentile_of_the_main_latencies_is_shown() -> None:
    result = sample.result(3)
    shown = {a["data-pointer"] for a, _ in Page(render_html(source(result))).numbers}
    for i in range(3):
        for name in ("ttft", "tpot", "itl", "e2e", "ntpot", "connect", "schedule_delay"):
            for key in ("p50", "p90", "p95", "p99", "p99.9"):
                assert f"/stages/{i}/metrics/{name}/percentiles/{key}/value" in shown


def test_insufficient_percentiles_say_so_and_have_no_limits() -> None:
    stage = sample.stage(0, 1.0, 0.5)  # 30 requests
    result = dataclasses.replace(sample.result(1), stages=(stage,))
    assert isinstance(result.stages[0].metrics.ttft.percentiles["p99"], Insufficient)  # type: ignore[union-attr]
    html = render_html(source(result))
    assert "insufficient" in Page(html).text
    assert "* too few requests for 95 % confidence limits" in Page(html).text
    assert "/ttft/percentiles/p99/low" not in html
    assert "/ttft/percentiles/p50/low" in html


def test_key_numbers_with_limits_carry_no_mark() -> None:
    stage = sample.stage(0, 20.0, 0.5)  # 600 requests
    html = render_html(source(dataclasses.replace(sample.result(1), stages=(stage,))))
    assert 'class="unsure"' not in html.split('id="curves"')[0].split('aria-label="Key numbers"')[1]


def test_absent_numbers_are_dashes_with_their_reason_as_a_note() -> None:
    stage = sample.stage(0, 4.0, 0.5)
    reason = "responses are not streamed <at all>"
    stage = dataclasses.replace(
        stage, metrics=dataclasses.replace(stage.metrics, ttft=Absent(reason), tpot=Absent(reason))
    )
    page = Page(render_html(source(dataclasses.replace(sample.result(1), stages=(stage,)))))
    absent = [a for tag, a in page.tags if tag == "span" and a.get("class") == "absent"]
    assert any(a["title"] == reason for a in absent)
    assert reason in page.text
    notes = {a["id"] for tag, a in page.tags if tag == "li" and (a.get("id") or "").startswith("note-")}
    linked = {(a.get("href") or "")[1:] for tag, a in page.tags if tag == "a" and "#note-" in (a.get("href") or "")}
    assert linked
    assert linked <= notes


def test_nothing_is_loaded_from_anywhere() -> None:
    html = render_html(source(sample.result(3)))
    assert "default-src 'none'" in html
    for tag, attributes in Page(html).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    without_texts = html.replace("http://gpu-1:8000", "")
    assert not re.search(r"https?://", without_texts)
    assert "url(" not in without_texts
    assert "@import" not in without_texts


def test_what_others_wrote_is_text_never_markup() -> None:
    base = sample.result(2)
    stages = [
        dataclasses.replace(s, name=EVIL, label=EVIL, by_model={EVIL: s.metrics, "b": s.metrics}) for s in base.stages
    ]
    result = dataclasses.replace(
        base,
        name=EVIL,
        status="invalid",
        stages=stages,
        target=dataclasses.replace(base.target, model=EVIL, info={EVIL: EVIL}),
        validity=dataclasses.replace(
            sample.validity(False), reasons=[dataclasses.replace(sample.validity(False).reasons[0], message=EVIL)]
        ),
        findings=[dataclasses.replace(base.findings[0], message=EVIL, advice=EVIL)],
    )
    events = (Event(EventType.ERROR, 0, {"message": EVIL, "advice": EVIL}),)
    html = render_html(source(result, config_yaml=f"a: {EVIL}", command=EVIL, events=events, host={EVIL: EVIL}))
    page = Page(html)
    assert EVIL in page.text
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert not [a for _, a in page.tags if any(k.startswith("on") for k in a)]


def test_the_verdict_comes_first_and_fits_the_result() -> None:
    good = sample.result(2)
    invalid = dataclasses.replace(good, status="invalid", validity=sample.validity(False))
    partial = dataclasses.replace(good, status="partial", missing_shards=(1,))
    failed = dataclasses.replace(good, status="failed", stages=(), saturation=None)
    error = Event(EventType.ERROR, 0, {"message": "connection refused", "advice": "start the server"})
    for result, word, events in (
        (good, "✓ OK", ()),
        (invalid, "✗ INVALID", ()),
        (partial, "! PARTIAL", ()),
        (failed, "✗ FAILED", (error,)),
    ):
        html = render_html(source(result, events=events))
        text = Page(html).text
        assert word in text
        assert text.index(word) < text.index("Requests and errors")
    assert "Shards missing: 1" in Page(render_html(source(partial))).text
    assert "start the server" in text
    text = Page(render_html(source(invalid))).text
    assert sample.validity(False).reasons[0].message in text
    assert "What to do: " + str(sample.validity(False).reasons[0].remedy) in text.replace("  ", " ")


def test_configuration_command_and_identity_are_there() -> None:
    result = sample.result(1)
    html = render_html(source(result, host={"cpu": "16 cores"}))
    text = Page(html).text
    assert COMMAND in text
    assert " ".join(CONFIG.split()) in text
    for part in (result.run_id, result.tool_version, result.config_digest, result.target.fingerprint, "16 cores"):
        assert part in text


def test_headings_captions_and_scopes_are_there_for_a_screen_reader() -> None:
    page = Page(render_html(source(sample.result(3))))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption") > 8
    assert all(a.get("scope") for tag, a in page.tags if tag == "th")
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    charts = [a for tag, a in page.tags if a.get("role") == "img"]
    assert len(charts) == 7
    assert all(a.get("aria-label") for a in charts)


def test_a_run_that_measured_nothing_needs_no_charts() -> None:
    result = dataclasses.replace(sample.result(1), stages=(), status="failed", saturation=None, slos=())
    html = render_html(source(result))
    assert len(html) < 60_000
    assert "FAILED" in html


def test_resources_say_where_they_come_from_and_several_gpus_are_shown_each() -> None:
    result = sample.result(1)
    gpus = [
        GpuUse(str(i), "NVIDIA H100", Measured(use, "fraction"), Measured(0.5, "fraction"), Absent("it has no meter"))
        for i, use in enumerate((0.913, 0.127))
    ]
    first = dataclasses.replace(
        result.stages[0],
        resources={"gpu_utilization": Measured(0.52, "fraction")},
        resource_sources={"gpu_utilization": "prometheus http://p:9090 (DCGM)"},
        gpus=gpus,
    )
    changed = dataclasses.replace(result, stages=[first, *result.stages[1:]])
    text = Page(render_html(source(changed))).text
    assert "prometheus http://p:9090 (DCGM)" in text
    assert "0 NVIDIA H100" in text
    assert "91.3" in text
    assert "12.7" in text
    assert "it has no meter" in text
