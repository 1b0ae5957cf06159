"""guidellm: what it is told, what its report means, and (where it is installed) what it really does."""

from __future__ import annotations

import json
import time
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
from llm_d_benchmark.loadgen.guidellm.generator import LIGHT, SCENARIO, GuideLLM

from .live import API_KEY, installed_or_skip, matched, run_live, tool_stage

SAMPLES = Path(__file__).parents[2] / "samples" / "guidellm"
TOOL = GuideLLM()


def scenario(folder: Path, settings: dict[str, Any], **endpoint: Any) -> tuple[dict[str, Any], Any]:
    """The scenario of a stage, and its only invocation."""
    (invocation,) = TOOL.invocations(tool_stage(TOOL, folder, settings, **endpoint))
    return yaml.safe_load(invocation.files[SCENARIO]), invocation


def codes(settings: dict[str, Any]) -> dict[str, Severity]:
    return {f.code: f.severity for f in TOOL.check(LoadConfig.model_validate(settings))}


def test_a_closed_loop(tmp_path: Path) -> None:
    settings = {
        "concurrent_requests": 4, "num_requests": 50, "duration": 10, "warmup": 2, "ramp": 1, "input_length": 64,
        "output_length": {"distribution": "uniform", "min": 8, "max": 24}, "seed": 42, "streaming": False, "threads": 3,
        "endpoint": "completions", "parameters": {"temperature": 0.5}, "timeouts": {"total": 33},
    }  # fmt: skip
    made, invocation = scenario(tmp_path, settings)
    spec = made["spec"]
    assert spec["profile"] == {"kind": "concurrent", "streams": 4, "rampup_duration": 1.0}
    assert spec["constraints"] == [
        {"kind": "max_requests", "count": 50},
        {"kind": "max_duration", "seconds": 12.0},
    ]
    (data,) = spec["data"]
    assert {k: v for k, v in data.items() if k != "kind"} == {
        "prompt_tokens": 64, "output_tokens": 16, "output_tokens_min": 8, "output_tokens_max": 24,
    }  # fmt: skip
    backend = spec["backend"]
    assert backend["request_format"] == "/v1/completions"
    assert backend["stream"] is False
    assert backend["timeout"] == 33
    assert backend["follow_redirects"] is False
    assert backend["validate_backend"] is False, "an OpenAI server need not have /health"
    assert backend["extras"] == {"body": {"ignore_eos": False, "temperature": 0.5}}
    assert spec["seed"]["value"] == 42
    assert spec["metrics"]["sample_size"] == 0, "texts of prompts and responses would be in its report"
    assert invocation.env["GUIDELLM__MAX_WORKER_PROCESSES"] == "3"


@pytest.mark.parametrize(
    ("settings", "profile"),
    [
        ({"request_rate": 5, "duration": 9}, {"kind": "constant", "rate": 5.0}),
        (
            {"request_rate": 5, "arrival": "poisson", "concurrency": 10, "duration": 9},
            {"kind": "poisson", "rate": 5.0, "max_concurrency": 10},
        ),
    ],
)
def test_open_loops_keep_their_cap(tmp_path: Path, settings: dict[str, Any], profile: dict[str, Any]) -> None:
    assert scenario(tmp_path, settings)[0]["spec"]["profile"] == profile
    assert Severity.ERROR not in codes(settings).values()


def test_a_normal_length(tmp_path: Path) -> None:
    length = {"distribution": "normal", "mean": 100, "std_dev": 10, "max": 120}
    (data,) = scenario(tmp_path, {"input_length": length})[0]["spec"]["data"]
    assert (data["prompt_tokens"], data["prompt_tokens_stdev"], data["prompt_tokens_max"]) == (100, 10, 120)


def test_what_it_cannot_do_refuses_the_run() -> None:
    lognormal = {"input_length": {"distribution": "lognormal", "mean": 100, "std_dev": 10}}
    assert codes(lognormal)["length_unsupported"] is Severity.ERROR
    gamma = {"request_rate": 3, "arrival": {"type": "gamma", "burstiness": 0.5}}
    assert codes(gamma)["arrival_unsupported"] is Severity.ERROR
    assert codes({"workload": {"type": "conversation"}})["workload_unsupported"] is Severity.ERROR
    assert codes({"retries": {"max": 2}})["key_without_effect"] is Severity.WARNING
    assert codes({"concurrency": 2}) == {"no_chunk_times": Severity.INFO}


def test_answers_end_where_the_model_ends_them_unless_asked_otherwise(tmp_path: Path) -> None:
    """By itself it asks for ignore_eos wherever there is an output length."""
    for parameters in ({}, {"ignore_eos": False}, {"ignore_eos": True}):
        made, _ = scenario(tmp_path, {"parameters": parameters})
        assert made["spec"]["backend"]["extras"]["body"]["ignore_eos"] is parameters.get("ignore_eos", False)


def test_its_own_keys_lie_over_ours(tmp_path: Path) -> None:
    made, _ = scenario(tmp_path, {"native": {"backend": {"http2": False}, "time_limit": 5}})
    assert made["spec"]["backend"]["http2"] is False
    assert made["spec"]["backend"]["target"] == "http://127.0.0.1:9"
    assert "time_limit" not in made["spec"]
    made, _ = scenario(tmp_path, {"native": {"spec": {"seed": {"value": 7}}, "benchmarks": [{"profile.streams": 2}]}})
    assert made["spec"]["seed"] == {"kind": "static", "value": 7}
    assert made["benchmarks"] == [{"profile.streams": 2}]


def test_secrets_go_through_the_environment_only(tmp_path: Path) -> None:
    made, invocation = scenario(
        tmp_path, {}, api_key=Secret(API_KEY), headers={"X-Tenant": Secret("t-9"), "X-Plain": "p"},
        tls=Tls(ca_file="/ca.pem"), url="https://h",
    )  # fmt: skip
    assert made["spec"]["backend"]["extras"]["headers"] == {"X-Plain": "p"}
    assert made["spec"]["backend"]["verify"] is True
    assert API_KEY not in invocation.files[SCENARIO] + " ".join(invocation.argv)
    assert "t-9" not in invocation.files[SCENARIO]
    assert invocation.env["GUIDELLM__SPEC__BACKEND__API_KEY"] == API_KEY
    assert invocation.env["GUIDELLM__SPEC__BACKEND__EXTRAS__HEADERS__X-TENANT"] == "t-9"
    assert invocation.env["SSL_CERT_FILE"] == "/ca.pem"


def test_a_report_under_our_definitions() -> None:
    result = TOOL.parse(SAMPLES / "concurrent.json")
    assert (result.tool, result.version, result.model) == ("guidellm", "0.8.1", "mock-model")
    (stage,) = result.stages
    records = stage.records
    assert records is not None
    assert stage.load == {"concurrency": 4}
    sent, first, last, end = (records.ints(n) for n in ("sent", "first_token", "last_token", "end"))
    assert np.median(first - sent) / 1e6 == pytest.approx(22, abs=4)
    assert np.median((last - first) / (records.ints("output_tokens") - 1)) / 1e6 == pytest.approx(5.4, abs=0.2)
    assert (last <= end).all()
    assert set(records.ints("scheduled").tolist()) == {MISSING}
    assert records.ints("input_asked").tolist() == [64] * 4
    assert set(records.labels("input_source").to_list()) == {"usage"}, "27 tokens where 64 were asked for: the server's"
    assert records.ragged("chunk_times").lengths.sum() == 0
    told = stage.aggregates
    assert told["tpot.mean"] == Measured(pytest.approx(0.00547, abs=1e-4), "s"), "its inter_token_latency"
    assert told["ntpot.mean"] == Measured(pytest.approx(0.0065, abs=1e-4), "s"), "its time_per_output_token"
    assert told["e2e.p99.9"].value >= told["e2e.p99"].value >= told["e2e.p1"].value  # type: ignore[union-attr]


def test_an_open_loop_has_its_schedule() -> None:
    (stage,) = TOOL.parse(SAMPLES / "poisson.json").stages
    assert stage.load == {"arrival": "poisson", "rate": 10.0}
    assert stage.records is not None
    late = stage.records.ints("sent") - stage.records.ints("scheduled")
    assert ((late >= 0) & (late < 50e6)).all()
    assert stage.records.ints("ready").tolist() == stage.records.ints("scheduled").tolist()


def test_a_cap_may_have_held_requests_back(tmp_path: Path) -> None:
    report = json.loads((SAMPLES / "poisson.json").read_text())
    report["benchmarks"][0]["config"]["strategy"]["max_concurrency"] = 3
    (tmp_path / "r.json").write_text(json.dumps(report))
    (stage,) = TOOL.parse(tmp_path).stages
    assert stage.records is not None
    assert set(stage.records.ints("ready").tolist()) == {MISSING}, "lateness of a capped client is not the client's"
    assert MISSING not in stage.records.ints("scheduled").tolist()


def test_failures_and_what_was_never_sent(tmp_path: Path) -> None:
    report = json.loads((SAMPLES / "concurrent.json").read_text())
    requests = report["benchmarks"][0]["requests"]
    failed, cut, queued = requests["successful"][1:]
    requests["successful"] = requests["successful"][:1]
    failed["info"]["error"] = "HTTPStatusError(\"Server error '503 Service Unavailable' for url ...\")"
    failed["info"]["timings"]["request_end"] = None
    queued["info"]["timings"]["request_start"] = None
    requests["errored"], requests["incomplete"] = [failed], [cut, queued]
    (tmp_path / "any-name.json").write_text(json.dumps(report))
    (stage,) = TOOL.parse(tmp_path).stages
    assert stage.records is not None
    assert stage.counts == {"sent": 3, "succeeded": 1, "failed": 1, "cancelled": 1}
    assert stage.records.labels("error_class").counts() == {"http_5xx": 1}
    assert (stage.records.ints("end") != MISSING).all()
    stopped = stage.records.where(stage.records.labels("status").is_("cancelled"))
    assert stopped.ints("output_tokens").tolist() == [cut["output_tokens"]], "what came of it was served, too"


def report_of(succeeded: int, failed: int = 0, *, kept: int = 4) -> dict[str, Any]:
    """The report of a closed loop that counts so many requests and keeps some."""
    report: dict[str, Any] = json.loads((SAMPLES / "concurrent.json").read_text())
    (benchmark,) = report["benchmarks"]
    benchmark["metrics"]["request_totals"] = {
        "successful": succeeded, "errored": failed, "incomplete": 0, "total": succeeded + failed,
    }  # fmt: skip
    benchmark["requests"]["successful"] = benchmark["requests"]["successful"][:kept]
    return report


def flagged(folder: Path, report: dict[str, Any]) -> list[str]:
    (folder / "r.json").write_text(json.dumps(report))
    return [f.message for f in TOOL.parse(folder).findings if f.code == "inconsistent_data"]


def test_its_counts_are_compared_with_its_requests(tmp_path: Path) -> None:
    assert flagged(tmp_path, report_of(4)) == []
    assert flagged(tmp_path, report_of(50, 3)) == [
        "guidellm, c=4: its summary counts 50 succeeded, its records 4",
        "guidellm, c=4: its summary counts 3 failed, its records 0",
    ]


def test_its_counts_are_without_its_warm_up_and_with_what_it_never_sent(tmp_path: Path) -> None:
    report = report_of(2, 1)
    (benchmark,) = report["benchmarks"]
    good = benchmark["requests"]["successful"]
    ends = sorted(r["info"]["timings"]["request_end"] for r in good)
    benchmark["start_time"] = (ends[0] + ends[1]) / 2  # the first was warm-up
    good.sort(key=lambda r: r["info"]["timings"]["request_end"])
    unsent = good.pop()
    unsent["info"]["timings"]["request_start"] = None
    benchmark["requests"]["errored"] = [unsent]
    assert flagged(tmp_path, report) == []


def test_a_report_without_requests_has_its_own_figures(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(report_of(48, 2, kept=0)))
    result = TOOL.parse(tmp_path)
    (stage,) = result.stages
    assert stage.records is None
    assert stage.counts == {"sent": 50, "succeeded": 48, "failed": 2, "cancelled": 0}
    assert [f.code for f in result.findings] == ["no_requests_kept"]


@pytest.mark.parametrize("text", ["", "{}", '{"metadata": {"guidellm_version": "0.8.1"}, "benchmarks": [{"conf'])
def test_what_is_no_report_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "benchmarks.json").write_text(text)
    with pytest.raises(GeneratorError, match="guidellm"):
        TOOL.parse(tmp_path)
    with pytest.raises(GeneratorError, match="guidellm"):
        TOOL.parse(tmp_path / "nothing-here")


@pytest.mark.generators
def test_it_really_runs_and_a_fifth_of_the_requests_fails(tmp_path: Path) -> None:
    clock = time.time_ns() - time.monotonic_ns()
    settings = {"concurrency": 4, "num_requests": 100, "input_length": 64, "output_length": 16,
                "endpoint": "completions"}  # fmt: skip
    records, seen, result = run_live(TOOL, tmp_path, settings, lambda n: "http_500" if n % 5 == 4 else "ok")
    assert len(records) == len(seen) == 100
    assert records.labels("status").counts() == {"ok": 80, "failed": 20}
    assert records.labels("error_class").counts() == {"http_5xx": 20}
    assert set(records.ints("output_tokens")[records.labels("status").is_("ok")].tolist()) == {16}
    ttft, tpot, true_ttft, true_tpot = matched(records, seen, clock=clock)
    assert np.median(ttft) == pytest.approx(np.median(true_ttft), abs=0.006)
    assert np.median(tpot) == pytest.approx(np.median(true_tpot), rel=0.1)
    assert "0.8.1" in str(result.version)


@pytest.mark.generators
def test_the_light_form_reads_prompts_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the stand-ins as they are here, whichever were installed."""
    if not installed_or_skip(TOOL).light:
        pytest.skip("guidellm is installed with torch")
    for name, text in LIGHT.files.items():
        module = tmp_path / "standing-in" / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "standing-in"))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Say the number {n}.", "output_tokens_count": 4}) + "\n"
                               for n in range(8)))  # fmt: skip
    settings = {"concurrency": 2, "num_requests": 8, "endpoint": "completions",
                "native": {"data": [{"kind": "json_file", "path": str(prompts)}]}}  # fmt: skip
    records, seen, _ = run_live(TOOL, tmp_path, settings)
    assert records.labels("status").counts() == {"ok": 8}
    assert {r.body["prompt"] for r in seen} == {f"Say the number {n}." for n in range(8)}
