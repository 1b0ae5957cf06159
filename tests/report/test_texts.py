"""Markdown, CSV and the llm-d Benchmark Report."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from llmd_benchmark_report import BenchmarkReportV02, import_benchmark_report

from llm_d_benchmark.domain.result import (
    PERCENTILES,
    Absent,
    Distribution,
    Estimate,
    Lengths,
    Measured,
    RunResult,
    Saturation,
)
from llm_d_benchmark.report.csv import render_csv
from llm_d_benchmark.report.markdown import render_markdown
from llm_d_benchmark.report.write import render_all

from . import sample
from .curves import COMMAND, source


def rows(result: RunResult) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_csv(result))))


def test_csv_holds_every_percentile_unrounded_with_its_limits() -> None:
    result = sample.result(3)
    found = {(r["stage"], r["model"], r["metric"], r["statistic"]): r for r in rows(result)}
    for stage in result.stages:
        e2e = stage.metrics.e2e
        assert isinstance(e2e, Distribution)
        for key, _ in PERCENTILES:
            row, percentile = found[str(stage.index), "all", "e2e", key], e2e.percentiles[key]
            assert float(row["value"]) == percentile.value
            if isinstance(percentile, Estimate):
                assert (float(row["low"]), float(row["high"])) == (percentile.low, percentile.high)
            else:
                assert (row["low"], row["high"], row["note"]) == ("", "", "insufficient")
        assert int(found[str(stage.index), "all", "requests", "sent"]["value"]) == stage.metrics.requests.sent
        assert (str(stage.index), "meta/llama-3~8b", "ttft", "p50") in found


def test_csv_says_why_a_number_is_absent() -> None:
    row = next(r for r in rows(sample.result(1)) if r["metric"] == "batches_per_second")
    assert (row["value"], row["note"]) == ("", "absent: the server does not tell")


def test_csv_keeps_awkward_names_in_their_column() -> None:
    stage = dataclasses.replace(sample.stage(0, 2.0, 0.1), name='a,"b"\nc')
    assert {r["name"] for r in rows(dataclasses.replace(sample.result(1), stages=(stage,)))} == {'a,"b"\nc'}


def test_markdown_has_the_verdict_the_stages_and_the_command() -> None:
    result = sample.result(3)
    text = render_markdown(source(result))
    assert text.startswith("## ✅ OK: llama-sweep")
    table = [line for line in text.splitlines() if line.startswith("| level-")]
    assert len(table) == 3
    header = next(line for line in text.splitlines() if line.startswith("| stage"))
    assert {line.replace("\\|", "").count("|") for line in table} == {header.count("|")}
    assert COMMAND in text
    assert len(text) < 6000


def test_markdown_of_an_invalid_run_gives_reason_and_remedy() -> None:
    result = dataclasses.replace(sample.result(1), status="invalid", validity=sample.validity(False))
    text = render_markdown(source(result))
    assert text.startswith("## ❌ INVALID")
    assert "split the load over machines" in text


def test_markdown_cannot_be_broken_by_a_name() -> None:
    stage = dataclasses.replace(sample.stage(0, 2.0, 0.1), name="a|b<script>\n# c")
    text = render_markdown(source(dataclasses.replace(sample.result(1), stages=(stage,))))
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "\n# c" not in text


@pytest.mark.parametrize("stages", [1, 4])
def test_the_benchmark_report_package_reads_every_file(stages: int, tmp_path: Path) -> None:
    result = sample.result(stages)
    files = {k: v for k, v in render_all(source(result)).items() if k.startswith("benchmark_report")}
    assert len(files) == (1 if stages == 1 else stages + 1)
    uids = set()
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text)
        report = import_benchmark_report(str(path))
        assert isinstance(report, BenchmarkReportV02)
        uids.add(report.run.uid)
        check_against(report, result)
    assert len(uids) == stages


def check_against(report: Any, result: RunResult) -> None:
    """The stage the report names has the same numbers in the result."""
    load = report.scenario.load.standardized
    metrics = result.stages[load.stage].metrics
    aggregate = report.results.request_performance.aggregate
    assert aggregate.requests.total == metrics.requests.sent
    assert aggregate.requests.failures == metrics.requests.failed
    for name, ours in (("time_to_first_token", metrics.ttft), ("time_per_output_token", metrics.tpot)):
        theirs = getattr(aggregate.latency, name)
        assert isinstance(ours, Distribution)
        assert (theirs.mean, theirs.p50, theirs.p99p9) == (
            ours.mean,
            ours.percentiles["p50"].value,
            ours.percentiles["p99.9"].value,
        )
    assert isinstance(metrics.requests_per_second, Measured)
    assert aggregate.throughput.request_rate.mean == metrics.requests_per_second.value
    assert (load.input_seq_len.distribution, load.input_seq_len.value) == ("gaussian", 512)
    assert (load.output_seq_len.distribution, load.output_seq_len.value) == ("fixed", 128)
    assert load.tool_version == result.tool_version


def test_the_benchmark_report_leaves_out_what_was_not_measured() -> None:
    stage = sample.stage(0, 2.0, 0.1)
    absent = Absent("not streamed")
    stage = dataclasses.replace(stage, metrics=dataclasses.replace(stage.metrics, ttft=absent, itl=absent))
    text = render_all(source(dataclasses.replace(sample.result(1), stages=(stage,))))["benchmark_report.yaml"]
    latency = yaml.safe_load(text)["results"]["request_performance"]["aggregate"]["latency"]
    assert sorted(latency) == ["normalized_time_per_output_token", "request_latency", "time_per_output_token"]
    BenchmarkReportV02(**yaml.safe_load(text))


def test_an_invalid_run_says_so_in_the_benchmark_report() -> None:
    result = dataclasses.replace(sample.result(1), status="invalid", validity=sample.validity(False))
    report = BenchmarkReportV02(**yaml.safe_load(render_all(source(result))["benchmark_report.yaml"]))
    assert "invalid" in (report.run.keywords or [])
    assert "INVALID" in (report.run.description or "")


def test_nothing_measured_gives_no_benchmark_report() -> None:
    result = dataclasses.replace(sample.result(1), stages=(), status="failed", saturation=None)
    assert sorted(render_all(source(result))) == ["report.html", "report.md", "result.csv"]


def test_a_run_in_which_nothing_succeeded_still_has_every_report() -> None:
    base = sample.result(2)
    none = Absent("nothing succeeded")
    stages = []
    for stage in base.stages:
        names = [f.name for f in dataclasses.fields(stage.metrics) if f.name not in ("requests", "requests_total")]
        lengths = Lengths(none, none, none)
        absent = {name: lengths if name.endswith("_length") else none for name in names}
        stages.append(dataclasses.replace(stage, by_model={}, metrics=dataclasses.replace(stage.metrics, **absent)))
    result = dataclasses.replace(base, stages=stages, saturation=Saturation("rate", none, None, "never saturated", ()))
    files = render_all(source(result, config_yaml="", curves=()))
    assert "nothing succeeded" in files["report.html"]
    assert "nothing succeeded" in files["report.md"]
    report = BenchmarkReportV02(**yaml.safe_load(files["benchmark_report.yaml"]))
    assert report.scenario is not None
    assert report.scenario.load is None
