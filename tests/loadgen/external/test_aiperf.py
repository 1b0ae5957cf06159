"""aiperf: what it is told, what its results mean, and (where it is installed) what it really does."""

from __future__ import annotations

import json
import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Secret, Tls
from llm_d_benchmark.domain.errors import GeneratorError
from llm_d_benchmark.domain.events import Severity
from llm_d_benchmark.domain.records import MISSING
from llm_d_benchmark.domain.result import Measured
from llm_d_benchmark.loadgen.aiperf.generator import SECRET, TEXT, AIPerf
from tests.support.openai_server import CHAT_OVERHEAD

from .live import API_KEY, assert_true, run_live, tool_stage

SAMPLE = Path(__file__).parents[2] / "samples" / "aiperf"
TOOL = AIPerf()
UNIFORM = {"distribution": "uniform", "min": 3, "max": 5}
BOUNDED = {"distribution": "normal", "mean": 30, "std_dev": 5, "max": 50}


def native(folder: Path, settings: dict[str, Any], **more: Any) -> tuple[dict[str, Any], Any]:
    """The native configuration of a stage, and its only invocation."""
    (invocation,) = TOOL.invocations(tool_stage(TOOL, folder, settings, **more))
    return yaml.safe_load(invocation.files["aiperf.yaml"]), invocation


def codes(settings: dict[str, Any]) -> dict[str, Severity]:
    return {f.code: f.severity for f in TOOL.check(LoadConfig.model_validate(settings))}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "artifacts"))


def edit(sample: Path, change: Any) -> None:
    """Change every line of the per-request export."""
    file = sample / "profile_export.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        change(line)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_closed_loop(tmp_path: Path) -> None:
    settings = {
        "concurrent_requests": 4, "num_requests": 50, "input_length": 64, "output_length": 16, "seed": 42,
        "parameters": {"temperature": 0, "ignore_eos": True}, "endpoint": "completions", "ramp": 3,
    }  # fmt: skip
    config, invocation = native(tmp_path, settings)
    assert config["randomSeed"] == 42
    benchmark = config["benchmark"]
    assert benchmark["phases"] == [
        {"name": "profiling", "type": "concurrency", "concurrency": 4, "concurrencyRamp": 3, "requests": 50}
    ]
    assert benchmark["datasets"][0]["entries"] == 50
    assert benchmark["datasets"][0]["prompts"] == {"isl": {"value": 64}, "osl": {"value": 16}}
    assert benchmark["endpoint"]["type"] == "completions"
    assert benchmark["endpoint"]["useServerTokenCount"] is True, "else it re-tokenises"
    assert benchmark["endpoint"]["extra"] == {"temperature": 0, "ignore_eos": True}
    assert list(invocation.argv) == ["/env/bin/aiperf", "profile", "--config", "aiperf.yaml"]
    assert invocation.env["HF_HUB_OFFLINE"] is None
    assert invocation.env["TRANSFORMERS_OFFLINE"] is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"request_rate": 10, "duration": 5}, {"type": "constant", "rate": 10, "duration": 5}),
        ({"request_rate": 2, "arrival": "poisson", "num_requests": 9}, {"type": "poisson", "rate": 2, "requests": 9}),
        (
            {"request_rate": 2, "concurrency": 8, "arrival": {"type": "gamma", "burstiness": 0.5}, "duration": 4},
            {"type": "gamma", "rate": 2, "smoothness": 0.5, "concurrency": 8, "duration": 4},
        ),
        ({"concurrency": 2, "duration": 5, "warmup": 1, "cooldown": 2}, {"concurrency": 2, "duration": 8}),
    ],
)
def test_loads(tmp_path: Path, settings: dict[str, Any], expected: dict[str, Any]) -> None:
    (phase,) = native(tmp_path, settings)[0]["benchmark"]["phases"]
    assert {k: phase.get(k) for k in expected} == expected


def rows(invocation: Any) -> list[dict[str, Any]]:
    """The requests whose lengths it is told."""
    return [json.loads(line) for line in invocation.files["trace.jsonl"].splitlines()]


def test_a_normal_length_it_draws_itself(tmp_path: Path) -> None:
    length = {"distribution": "normal", "mean": 30, "std_dev": 5}
    config, invocation = native(tmp_path, {"concurrency": 1, "num_requests": 1, "input_length": length})
    assert config["benchmark"]["datasets"][0]["prompts"]["isl"] == {"mean": 30, "stddev": 5}
    assert list(invocation.files) == ["aiperf.yaml"]


def test_lengths_that_it_would_replace_by_their_mean_are_drawn_for_it(tmp_path: Path) -> None:
    (tmp_path / "lengths").write_text("5\n900\n5\n")
    lengths: list[dict[str, Any]] = [
        {"distribution": "lognormal", "mean": 60, "std_dev": 60},
        {"distribution": "uniform", "min": 5, "max": 25},
        {"distribution": "normal", "mean": 30, "std_dev": 30, "min": 20, "max": 40},
        {"distribution": "file", "path": str(tmp_path / "lengths")},
    ]
    for given, asked in pairwise([*lengths, lengths[0]]):
        settings = {"concurrency": 2, "num_requests": 300, "input_length": given, "output_length": asked}
        config, invocation = native(tmp_path, settings)
        assert config["benchmark"]["datasets"][0]["format"] == "mooncake_trace"
        assert config["benchmark"]["phases"][0] == {
            "name": "profiling", "type": "concurrency", "concurrency": 2, "requests": 300,
        }  # fmt: skip
        drawn = rows(invocation)
        assert len(drawn) == 300
        for key, length in (("input_length", given), ("output_length", asked)):
            found = {row[key] for row in drawn}
            if length["distribution"] == "file":
                assert found == {5, 900}
            else:
                assert len(found) > 10
                assert length.get("min", 1) <= min(found) < max(found) <= length.get("max", np.inf)
        assert rows(native(tmp_path, settings)[1]) == drawn
        assert rows(native(tmp_path, {**settings, "seed": 7})[1]) != drawn


def test_secrets_go_by_the_environment_alone(tmp_path: Path) -> None:
    headers = {"X-Team": "a", "X-Key": Secret("hidden")}
    settings = {"concurrency": 1, "num_requests": 1}
    config, invocation = native(tmp_path, settings, api_key=Secret(API_KEY), headers=headers)
    assert not {API_KEY, "hidden"} & set(json.dumps([*invocation.argv, *invocation.files.values()]).split('"'))
    assert API_KEY not in invocation.files["aiperf.yaml"]
    sent = config["benchmark"]["endpoint"]["headers"]
    assert sent["X-Team"] == "a"
    for name, value in (("Authorization", f"Bearer {API_KEY}"), ("X-Key", "hidden")):
        variable, rest = sent[name].removeprefix("${").split("}", 1)
        assert variable.startswith(SECRET)
        assert invocation.env[variable] == value
        assert rest == TEXT, "a value that is one variable alone becomes a number: 000123 would be 123"


def test_tls(tmp_path: Path) -> None:
    settings = {"concurrency": 1, "num_requests": 1}
    loose = native(tmp_path, settings, url="https://h", tls=Tls(verify=False))[1]
    assert loose.env["AIPERF_HTTP_SSL_VERIFY"] == "false"
    own = native(tmp_path, settings, url="https://h", tls=Tls(ca_file="/ca.pem"))[1]
    assert own.env["SSL_CERT_FILE"] == "/ca.pem"


def test_native_keys_are_merged_over(tmp_path: Path) -> None:
    own = {"endpoint": {"timeout": 5}, "artifacts": {"raw": True}, "time_limit": 5}
    config, _ = native(tmp_path, {"concurrency": 1, "num_requests": 1, "native": own})
    assert config["benchmark"]["endpoint"]["timeout"] == 5
    assert config["benchmark"]["endpoint"]["streaming"] is True
    assert config["benchmark"]["artifacts"]["raw"] is True
    assert "time_limit" not in config["benchmark"]
    whole = {"randomSeed": 9, "benchmark": {"runtime": {"workers": 7}}}
    config, _ = native(tmp_path, {"concurrency": 1, "num_requests": 1, "native": whole})
    assert (config["randomSeed"], config["benchmark"]["runtime"]["workers"]) == (9, 7)


def test_workloads(tmp_path: Path) -> None:
    base = {"concurrency": 2, "num_requests": 6, "output_length": 9}
    shared = {"type": "shared_prefix", "groups": 4, "prefix_length": 100, "question_length": 20}
    (data,) = native(tmp_path, {**base, "workload": shared})[0]["benchmark"]["datasets"]
    assert data["prefixPrompts"] == {"poolSize": 4, "length": 100}
    assert data["prompts"] == {"isl": {"value": 20}, "osl": {"value": 9}}
    talk = {"type": "conversation", "turns": 3, "think_time": 2, "system_length": 30}
    (data,) = native(tmp_path, {**base, "workload": talk})[0]["benchmark"]["datasets"]
    assert (data["turns"], data["turnDelay"]) == ({"value": 3}, 2000)
    assert data["prefixPrompts"] == {"sharedSystemLength": 30}


def test_a_trace_is_handed_on_as_times_and_lengths(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("timestamp,input_length,output_length\n5,20,3\n7,30,4\n9,99,4\n")
    trace = {"type": "trace", "path": str(tmp_path / "t.csv"), "max_input": 50}
    settings = {"arrival": {"type": "trace", "speedup": 2}, "workload": trace, "duration": 60}
    config, invocation = native(tmp_path, settings)
    assert config["benchmark"]["datasets"][0]["format"] == "mooncake_trace"
    assert config["benchmark"]["phases"][0]["type"] == "fixed_schedule"
    assert rows(invocation) == [
        {"timestamp": 0.0, "input_length": 20, "output_length": 3},
        {"timestamp": 1000.0, "input_length": 30, "output_length": 4},
    ]
    assert codes(settings)["trace_prefixes_lost"] is Severity.WARNING


def test_limits_of_goodput(tmp_path: Path) -> None:
    stage = tool_stage(TOOL, tmp_path, {"concurrency": 1, "num_requests": 1})
    stage = type(stage)(**{f: getattr(stage, f) for f in stage.__slots__} | {"goodput": {"ttft": 0.5, "tpot": 0.05}})
    config = yaml.safe_load(TOOL.invocations(stage)[0].files["aiperf.yaml"])
    assert config["benchmark"]["slos"] == {"time_to_first_token": 500, "inter_token_latency": 50}


@pytest.mark.parametrize(
    ("settings", "code", "severity"),
    [
        ({"arrival": {"type": "ramp", "from": 1, "to": 5}}, "arrival_unsupported", Severity.ERROR),
        ({"workload": {"type": "dataset", "path": "x"}}, "workload_unsupported", Severity.ERROR),
        ({"workload": {"type": "trace", "path": "x.csv"}}, "trace_without_its_times", Severity.ERROR),
        ({"workload": {"type": "conversation", "turns": UNIFORM}}, "length_unsupported", Severity.ERROR),
        ({"workload": {"type": "shared_prefix", "question_length": UNIFORM}}, "length_unsupported", Severity.ERROR),
        ({"workload": {"type": "shared_prefix"}, "output_length": BOUNDED}, "length_unsupported", Severity.ERROR),
        ({"retries": {"max": 2}}, "key_without_effect", Severity.WARNING),
        ({"concurrency": 5, "duration": 60}, "prompts_repeat", Severity.INFO),
    ],
)
def test_what_it_cannot_do_is_said(settings: dict[str, Any], code: str, severity: Severity) -> None:
    assert codes(settings)[code] is severity
    assert code not in codes({"concurrency": 1, "num_requests": 5, "input_length": UNIFORM, "output_length": BOUNDED})


def test_a_result_of_the_tool(sample: Path) -> None:
    result = TOOL.parse(sample.parent)
    (stage,) = result.stages
    records = stage.records
    assert records is not None
    assert (result.version, result.model, result.url) == ("0.13.0", "test-model", "http://127.0.0.1:8000")
    assert stage.load == {"concurrency": 2}
    assert stage.counts == {"sent": 10, "succeeded": 8, "failed": 2, "cancelled": 0}
    assert records.labels("error_class").counts() == {"http_5xx": 2}
    assert not any("asked to fail" in name for name in records.labels("error").names)
    assert {f.code for f in result.findings} == {"failures_without_end"}
    ok = records.where(records.labels("status").is_("ok"))
    connect = np.where(ok.ints("connect") == MISSING, 0, ok.ints("connect")) / 1e9
    assert (connect > 0).sum() == 2, "one connection for each of the two"
    ttft = (ok.ints("first_token") - ok.ints("sent")) / 1e9
    told = stage.aggregates["ttft.mean"]
    assert isinstance(told, Measured)
    assert (ttft + connect).mean() == pytest.approx(told.value), "its ttft includes the connection's set-up"
    tpot = (ok.ints("last_token") - ok.ints("first_token")) / 3e9
    told = stage.aggregates["tpot.mean"]
    assert isinstance(told, Measured)
    assert tpot.mean() == pytest.approx(told.value)
    gaps = np.concatenate([np.diff(ok.ragged("chunk_times").row(i)) for i in range(8)]) / 1e6
    told = stage.aggregates["itl.mean"]
    assert isinstance(told, Measured)
    assert gaps.mean() == pytest.approx(told.value, abs=2e-6)
    assert ok.labels("output_source").counts() == {"usage": 8}
    assert records.ints("scheduled").tolist() == [MISSING] * 10, "a closed loop has no schedule"
    assert (records.ints("sent") >= records.ints("ready")).all()


def test_failures_do_not_look_fast(sample: Path) -> None:
    """Its failed requests end when they begin: they must not enter any latency."""
    records = TOOL.parse(sample).stages[0].records
    assert records is not None
    failed = records.where(records.labels("status").is_("failed"))
    assert (failed.ints("end") == failed.ints("sent")).all()
    assert set(failed.ints("first_token").tolist()) == set(failed.ints("last_token").tolist()) == {MISSING}


def test_the_servers_count_wins(sample: Path) -> None:
    def retokenised(line: dict[str, Any]) -> None:
        if line["metrics"]:
            line["metrics"]["output_sequence_length"]["value"] = 49

    edit(sample, retokenised)
    result = TOOL.parse(sample)
    assert "tokens_recounted" in {f.code for f in result.findings}
    records = result.stages[0].records
    assert records is not None
    assert set(records.ints("output_tokens").tolist()) == {4, MISSING}


def test_re_tokenised_figures_alone_are_left_out(sample: Path) -> None:
    (sample / "profile_export.jsonl").unlink()
    summary = json.loads((sample / "profile_export_aiperf.json").read_text())
    whole = TOOL.parse(sample).stages[0]
    assert whole.records is None
    assert "tpot.mean" in whole.aggregates
    summary["total_osl"]["avg"] = 392.0
    (sample / "profile_export_aiperf.json").write_text(json.dumps(summary))
    stage = TOOL.parse(sample).stages[0]
    assert not [k for k in stage.aggregates if k.startswith(("tpot", "output_tokens."))]
    told = stage.aggregates["output_tokens_per_second"]
    assert isinstance(told, Measured)
    assert told.value == pytest.approx(32 / summary["benchmark_duration"]["avg"])


def test_units_are_read(sample: Path) -> None:
    before = TOOL.parse(sample).stages[0].records

    def in_seconds(line: dict[str, Any]) -> None:
        for metric in line["metrics"].values():
            if metric["unit"] == "ms":
                value = metric["value"]
                metric["unit"] = "s"
                metric["value"] = [v / 1e3 for v in value] if isinstance(value, list) else value / 1e3

    edit(sample, in_seconds)
    after = TOOL.parse(sample).stages[0].records
    assert before is not None
    assert after is not None
    assert np.abs(before.ints("last_token") - after.ints("last_token")).max() <= 2


def test_its_own_warm_up_and_cancelled_requests(sample: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        number = line["metadata"]["session_num"]
        line["metadata"]["benchmark_phase"] = "warmup" if number == 0 else "profiling"
        line["metadata"]["was_cancelled"] = number == 1

    edit(sample, change)
    result = TOOL.parse(sample)
    assert result.stages[0].counts == {"sent": 9, "succeeded": 6, "failed": 2, "cancelled": 1}
    assert {"warmup_left_out", "inconsistent_data"} <= {f.code for f in result.findings}


def test_a_request_that_it_cancelled_is_no_failure_of_the_server(sample: Path) -> None:
    """It gives it a status that no server sent, and stamps it at its end."""

    def cancelled(line: dict[str, Any]) -> None:
        where = line["metadata"]
        if not line["metrics"]:
            where["was_cancelled"] = True
            where["request_start_ns"] = where["credit_issued_ns"] + 118_000_000
            where["request_end_ns"] = where["request_start_ns"] + 117_000_000
            line["error"] = {"code": 499, "type": "RequestCancellationError", "message": "0.100s after being sent"}

    edit(sample, cancelled)
    result = TOOL.parse(sample)
    (stage,) = result.stages
    assert stage.counts == {"sent": 10, "succeeded": 8, "failed": 0, "cancelled": 2}
    assert not result.findings, "its summary counts them as errors, which contradicts nothing"
    assert stage.records is not None
    found = stage.records.where(stage.records.labels("status").is_("cancelled"))
    issued = [
        line["metadata"]["credit_issued_ns"]
        for line in map(json.loads, (sample / "profile_export.jsonl").read_text().splitlines())
        if line["metadata"]["was_cancelled"]
    ]
    assert sorted(found.ints("sent").tolist()) == sorted(issued)
    assert set((found.ints("end") - found.ints("sent")).tolist()) == {117_000_000}
    assert set(found.ints("ready").tolist()) == {MISSING}, "the client was not late"


def test_where_every_request_failed_there_is_no_summary(sample: Path) -> None:
    (sample / "profile_export_aiperf.json").unlink()
    result = TOOL.parse(sample)
    assert "no_summary" in {f.code for f in result.findings}
    assert result.stages[0].counts["sent"] == 10


def test_an_open_loop_has_a_schedule(sample: Path) -> None:
    summary = json.loads((sample / "profile_export_aiperf.json").read_text())
    summary["input_config"]["phases"] = [{"name": "profiling", "type": "poisson", "rate": 10.0, "concurrency": 3}]
    (sample / "profile_export_aiperf.json").write_text(json.dumps(summary))
    stage = TOOL.parse(sample).stages[0]
    assert stage.load == {"rate": 10.0, "concurrency": 3, "arrival": "poisson"}
    assert stage.records is not None
    assert (stage.records.ints("scheduled") > 0).all()


def test_tidy_leaves_no_prompt(sample: Path) -> None:
    (sample / "inputs.json").write_text('{"prompt": "text"}')
    TOOL.tidy(sample.parent)
    assert not (sample / "inputs.json").exists()
    assert TOOL.parse(sample).stages[0].counts["sent"] == 10


def test_what_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match=r"looked for profile_export\.jsonl"):
        TOOL.parse(tmp_path)
    (tmp_path / "profile_export.jsonl").write_text("")
    with pytest.raises(GeneratorError, match="holds no requests"):
        TOOL.parse(tmp_path)
    (tmp_path / "profile_export.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(GeneratorError, match=r"profile_export\.jsonl:1"):
        TOOL.parse(tmp_path)
    (tmp_path / "profile_export_aiperf.json").write_text('{"a": 1}')
    with pytest.raises(GeneratorError, match="aiperf_version"):
        TOOL.parse(tmp_path)


def test_a_line_cut_off_at_the_end_is_left_out(sample: Path) -> None:
    file = sample / "profile_export.jsonl"
    file.write_text(file.read_text()[:-200])
    result = TOOL.parse(sample)
    assert result.stages[0].counts["sent"] == 9
    (left,) = [f.message for f in result.findings if f.code == "left_out"]
    assert left == "the last line of profile_export.jsonl (10) was cut off: it is left out"


@pytest.mark.generators
def test_the_real_tool_with_failures(tmp_path: Path) -> None:
    """Every fifth request fails; what the tool tells is what the server did."""
    settings = {"concurrency": 4, "num_requests": 40, "input_length": 32, "output_length": 8, "seed": 7}
    digits = {"X-Tenant": Secret("000123")}
    records, seen, result = run_live(
        TOOL, tmp_path, settings, lambda n: "http_500" if n % 5 == 4 else "ok", headers=digits
    )
    assert {{k.lower(): v for k, v in r.headers.items()}["x-tenant"] for r in seen} == {"000123"}
    assert len(seen) == len(records) == 40
    assert records.labels("status").counts() == {"ok": 32, "failed": 8}
    assert records.labels("error_class").counts() == {"http_5xx": 8}
    assert_true(records, seen, clock=time.time_ns() - time.monotonic_ns())
    assert set(records.ints("output_tokens").tolist()) == {8, MISSING}
    assert "tokens_recounted" not in {f.code for f in result.findings}


@pytest.mark.generators
def test_the_real_tool_with_lengths_drawn_for_it(tmp_path: Path) -> None:
    lengths = {
        "input_length": {"distribution": "uniform", "min": 20, "max": 40},
        "output_length": {"distribution": "normal", "mean": 6, "std_dev": 5, "min": 4, "max": 8},
    }
    records, seen, _ = run_live(TOOL, tmp_path, {"concurrency": 3, "num_requests": 60, **lengths, "seed": 7})
    told = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert sorted(r["output_length"] for r in told) == sorted(json.loads(r.raw)["max_tokens"] for r in seen)
    given = sorted(row["input_length"] + CHAT_OVERHEAD for row in told)
    assert given == sorted(r.prompt_tokens for r in seen)
    assert len({r.raw for r in seen}) == len(records) == 60
    assert set(records.ints("output_tokens").tolist()) == {4, 5, 6, 7, 8}
