"""inference-perf: what it is told, what its results mean, and (where it is installed) what it really does."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Secret
from llm_d_benchmark.domain.errors import GeneratorError
from llm_d_benchmark.domain.events import Severity
from llm_d_benchmark.domain.records import MISSING
from llm_d_benchmark.domain.result import Measured
from llm_d_benchmark.loadgen.inference_perf.generator import HEADERS_ENV, LAUNCH, SECONDS_ENV, InferencePerf

from .live import API_KEY, assert_true, run_live, tool_stage

SAMPLE = Path(__file__).parents[2] / "samples" / "inference-perf"
TOOL = InferencePerf()
WRITTEN = 1_700_000_000


def native(folder: Path, settings: dict[str, Any], **endpoint: Any) -> tuple[dict[str, Any], Any]:
    """The native config of a stage, and its only invocation."""
    (invocation,) = TOOL.invocations(tool_stage(TOOL, folder, settings, **endpoint))
    return yaml.safe_load(invocation.files["config.yml"]), invocation


def codes(settings: dict[str, Any]) -> dict[str, Severity]:
    return {f.code: f.severity for f in TOOL.check(LoadConfig.model_validate(settings))}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """As of a run on some other machine."""
    reports = Path(shutil.copytree(SAMPLE, tmp_path / "reports"))
    os.utime(reports / "per_request_lifecycle_metrics.json", (WRITTEN, WRITTEN))
    return reports


def test_a_closed_loop_of_requests(tmp_path: Path) -> None:
    config, invocation = native(
        tmp_path, {"concurrent_requests": 4, "num_requests": 50, "input_length": 64, "seed": 42}
    )
    assert config["load"]["type"] == "concurrent"
    assert config["load"]["stages"] == [{"num_requests": 50, "concurrency_level": 4}]
    assert config["load"]["base_seed"] == 42
    assert config["data"]["input_distribution"] == {"type": "fixed", "mean": 64, "min": 64, "max": 64, "std_dev": 0}
    assert config["data"]["output_distribution"]["mean"] == 128
    assert config["server"] == {
        "type": "vllm", "model_name": "test-model", "base_url": "http://127.0.0.1:9", "ignore_eos": False,
    }  # fmt: skip
    assert list(invocation.argv) == ["/env/bin/inference-perf", "-c", "config.yml", "--log-level", "WARNING"]


def test_the_missions_closed_loop_by_time(tmp_path: Path) -> None:
    config, invocation = native(tmp_path, {"threads": 8, "connections": 16, "duration": 1800})
    assert config["load"]["stages"] == [{"num_requests": 200_000, "concurrency_level": 16}]
    assert config["load"]["num_workers"] == 8
    assert invocation.env[SECONDS_ENV] == "1800"
    assert invocation.argv[1] == LAUNCH
    compile(invocation.files[LAUNCH], LAUNCH, "exec")
    assert codes({"threads": 8, "connections": 16, "duration": 1800})["closed_loop_timed"] is Severity.INFO


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"request_rate": 10, "duration": 5}, ("constant", 10, 5)),
        ({"request_rate": 2.5, "num_requests": 50, "arrival": "poisson"}, ("poisson", 2.5, 20)),
        ({"request_rate": 10, "num_requests": 500, "duration": 5, "warmup": 1, "cooldown": 2}, ("constant", 10, 8)),
    ],
)
def test_rates(tmp_path: Path, settings: dict[str, Any], expected: tuple[str, float, int]) -> None:
    load = native(tmp_path, settings)[0]["load"]
    assert (load["type"], load["stages"][0]["rate"], load["stages"][0]["duration"]) == expected
    assert load["worker_max_concurrency"] >= 100_000, "its default would cap the open loop"


def test_a_rate_with_a_cap(tmp_path: Path) -> None:
    load = native(tmp_path, {"request_rate": 10, "concurrency": 6, "duration": 5, "workers": 4})[0]["load"]
    assert load["num_workers"] * load["worker_max_concurrency"] == 6


def test_secrets_go_by_the_environment_alone(tmp_path: Path) -> None:
    settings = {"concurrency": 1, "num_requests": 1}
    config, invocation = native(
        tmp_path, settings, api_key=Secret(API_KEY), headers={"X-Team": "a", "X-Key": Secret("k")}
    )
    assert json.loads(invocation.env[HEADERS_ENV]) == {"X-Key": "k", "Authorization": f"Bearer {API_KEY}"}
    assert API_KEY not in json.dumps([*invocation.argv, *invocation.files.values()])
    assert config["api"]["headers"] == {"X-Team": "a"}


@pytest.mark.parametrize("asked", [True, False])
def test_answers_end_where_the_model_ends_them_unless_asked_otherwise(tmp_path: Path, asked: bool) -> None:
    assert native(tmp_path, {"parameters": {"ignore_eos": asked}})[0]["server"]["ignore_eos"] is asked


def test_native_keys_are_merged_over(tmp_path: Path) -> None:
    native_keys = {"load": {"interval": 3}, "data": {"type": "shareGPT"}, "environment": "/env", "time_limit": 9}
    config, _ = native(tmp_path, {"concurrency": 1, "num_requests": 1, "native": native_keys})
    assert config["load"]["interval"] == 3
    assert config["load"]["type"] == "concurrent"
    assert config["data"]["type"] == "shareGPT"
    assert not {"environment", "time_limit"} & config.keys()


def test_workloads(tmp_path: Path) -> None:
    shared = {"type": "shared_prefix", "groups": 4, "prefix_length": 100, "question_length": 20}
    config, _ = native(tmp_path, {"concurrency": 2, "num_requests": 40, "workload": shared, "output_length": 9})
    prefix = config["data"]["shared_prefix"]
    assert (prefix["num_groups"], prefix["num_prompts_per_group"]) == (4, 10)
    assert (prefix["system_prompt_len"]["mean"], prefix["output_len"]["mean"]) == (100, 9)
    talk = {"type": "conversation", "turns": {"distribution": "uniform", "min": 2, "max": 5}, "system_length": 30}
    config, _ = native(tmp_path, {"concurrency": 3, "num_requests": 12, "workload": talk})
    replay = config["data"]["conversation_replay"]
    assert (replay["num_conversations"], replay["shared_system_prompt_len"]) == (3, 30)
    assert (replay["turns_per_conversation"]["min"], replay["turns_per_conversation"]["max"]) == (2, 5)


def test_a_trace_is_handed_on_as_times_and_lengths(tmp_path: Path) -> None:
    lines = [{"timestamp": 250 * i, "input_length": 20 + i, "output_length": 3, "hash_ids": [1]} for i in range(9)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"arrival": "trace", "workload": {"type": "trace", "path": str(tmp_path / "t.jsonl")}, "duration": 1}
    config, invocation = native(tmp_path, settings)
    assert config["load"]["type"] == "trace_replay"
    assert config["load"]["trace"] == config["data"]["trace"] == {"file": "trace.csv", "format": "AzurePublicDataset"}
    first, *rows = invocation.files["trace.csv"].splitlines()
    assert first == "TIMESTAMP,ContextTokens,GeneratedTokens"
    assert rows == [f"1970-01-01 00:00:00.{k * 250000:06d},{20 + k},3" for k in range(4)], "what is within the stage"
    assert "closed_loop_timed" not in codes(settings)
    assert codes({"workload": settings["workload"]})["trace_without_its_times"] is Severity.ERROR


@pytest.mark.parametrize(
    ("settings", "code", "severity"),
    [
        ({"request_rate": 5}, "arrival_not_constant", Severity.WARNING),
        ({"request_rate": 5, "arrival": "poisson"}, "arrival_seed_ignored", Severity.INFO),
        ({"request_rate": 5, "arrival": "gamma"}, "arrival_unsupported", Severity.ERROR),
        ({"concurrency": 1, "endpoint": "chat"}, "endpoint_unsupported", Severity.ERROR),
        ({"concurrency": 1, "workload": {"type": "dataset", "path": "x"}}, "workload_unsupported", Severity.ERROR),
        ({"concurrency": 1, "parameters": {"temperature": 0}}, "parameters_not_sent", Severity.WARNING),
        ({"input_length": {"distribution": "file", "path": "x"}}, "length_unsupported", Severity.ERROR),
        ({"concurrency": 1, "retries": {"max": 2}}, "retries_differ", Severity.WARNING),
    ],
)  # fmt: skip
def test_what_it_cannot_do_is_said(settings: dict[str, Any], code: str, severity: Severity) -> None:
    assert codes(settings)[code] is severity
    assert code not in codes({"concurrency": 1, "num_requests": 5})


def test_a_result_of_the_tool(sample: Path) -> None:
    result = TOOL.parse(sample.parent)
    (stage,) = result.stages
    records = stage.records
    assert records is not None
    assert stage.load == {"concurrency": 2}
    assert stage.counts == {"sent": 10, "succeeded": 8, "failed": 2, "cancelled": 0}
    assert records.labels("error_class").counts() == {"http_5xx": 2}
    assert not any("asked to fail" in name for name in records.labels("error").names), (
        "texts of the server are not kept"
    )
    ok = records.where(records.labels("status").is_("ok"))
    ttft = (ok.ints("first_token") - ok.ints("sent")) / 1e9
    tpot = (ok.ints("last_token") - ok.ints("first_token")) / 3e9
    assert ttft.mean() == pytest.approx(_value(stage.aggregates["ttft.mean"]))
    assert tpot.mean() == pytest.approx(_value(stage.aggregates["tpot.mean"]))
    assert set(ok.ints("output_tokens").tolist()) == {4}, "the server's count, not that of the re-tokenised text"
    assert set(ok.ints("output_asked").tolist()) == {4}
    assert ok.labels("output_source").counts() == {"usage": 8}
    assert (ok.ragged("chunk_times").lengths == 4).all()
    assert not [k for k in stage.aggregates if k.startswith("itl")]
    assert stage.aggregates["e2e.p25"] != stage.aggregates["e2e.p50"]
    assert {f.code for f in result.findings} == {"itl_recomputed", "clock_estimated"}
    start = yaml.safe_load((sample / "inference-perf.partial.stage_0.yaml").read_text())["run"]["time"]["start"]
    assert stage.window is not None
    assert abs(stage.window[0] / 1e9 - np.datetime64(start.rstrip("Z"), "ns").astype(np.int64) / 1e9 - 1) < 1e-3
    assert (result.model, result.url) == ("test-model", "http://127.0.0.1:8000")


def _value(scalar: object) -> float:
    assert isinstance(scalar, Measured)
    return scalar.value


def test_the_clock_of_this_machine_is_exact(sample: Path) -> None:
    """A result that was just written here has the machine's clock."""
    entries = json.loads((sample / "per_request_lifecycle_metrics.json").read_text())
    shift = time.perf_counter() - max(e["end_time"] for e in entries)
    for entry in entries:
        entry["start_time"] += shift
        entry["end_time"] += shift
        if entry["info"]["response_metrics"]:
            times = entry["info"]["response_metrics"]["chunk_times"]
            times[:] = [t + shift for t in times]
    (sample / "per_request_lifecycle_metrics.json").write_text(json.dumps(entries))
    (sample / "inference-perf.partial.stage_0.yaml").unlink()
    result = TOOL.parse(sample)
    assert "clock_unknown" not in {f.code for f in result.findings}
    window = result.stages[0].window
    assert window is not None
    assert abs(window[1] / 1e9 - time.time()) < 5


def test_without_a_clock_it_says_so(sample: Path) -> None:
    (sample / "inference-perf.partial.stage_0.yaml").unlink()
    result = TOOL.parse(sample)
    assert "clock_unknown" in {f.code for f in result.findings}
    assert result.stages[0].window is not None
    assert abs(result.stages[0].window[1] / 1e9 - WRITTEN) < 1e-3


def test_older_spellings(sample: Path) -> None:
    """Before 0.3 the times of re-tokenised tokens were all there was, and lay elsewhere."""
    entries = json.loads((sample / "per_request_lifecycle_metrics.json").read_text())
    for entry in entries:
        response = entry["info"].pop("response_metrics")
        entry["info"].pop("request_metrics")
        if response:
            entry["info"]["output_token_times"] = [t for t in response["chunk_times"] for _ in range(3)]
            entry["info"]["output_tokens"] = 12
    (sample / "per_request_lifecycle_metrics.json").write_text(json.dumps(entries))  # on one line, too
    result = TOOL.parse(sample)
    records = result.stages[0].records
    assert records is not None
    ok = records.where(records.labels("status").is_("ok"))
    assert (ok.ragged("chunk_times").lengths == 4).all()
    assert ok.labels("output_source").counts() == {"tokenizer": 8}
    assert "tokens_recounted" in {f.code for f in result.findings}


def test_streams_without_content_are_failures(sample: Path) -> None:
    entries = json.loads((sample / "per_request_lifecycle_metrics.json").read_text())
    good = next(e for e in entries if e["error"] is None)
    good["info"]["response_metrics"]["chunk_times"] = []
    (sample / "per_request_lifecycle_metrics.json").write_text(json.dumps(entries))
    result = TOOL.parse(sample)
    assert result.stages[0].counts["failed"] == 3
    assert "empty_answers" in {f.code for f in result.findings}
    assert "inconsistent_data" not in {f.code for f in result.findings}


def test_stages_are_told_apart(sample: Path) -> None:
    entries = json.loads((sample / "per_request_lifecycle_metrics.json").read_text())
    report = json.loads((sample / "stage_0_lifecycle_metrics.json").read_text())
    later = json.loads(json.dumps(entries[:4]))
    for entry in later:
        entry["start_time"] += 60
        entry["end_time"] += 60
        if entry["info"]["response_metrics"]:
            entry["info"]["response_metrics"]["chunk_times"] = [
                t + 60 for t in entry["info"]["response_metrics"]["chunk_times"]
            ]
    good = sum(e["error"] is None for e in later)
    report["successes"]["count"], report["failures"]["count"] = good, 4 - good
    (sample / "stage_1_lifecycle_metrics.json").write_text(json.dumps(report))
    (sample / "per_request_lifecycle_metrics.json").write_text(json.dumps(later + entries, indent=2))
    stages = TOOL.parse(sample).stages
    assert [s.counts["sent"] for s in stages] == [10, 4]
    assert [s.counts["succeeded"] for s in stages] == [8, good]
    assert stages[0].window is not None
    assert stages[1].window is not None
    assert stages[1].window[0] > stages[0].window[1]


def test_only_a_summary(sample: Path) -> None:
    (sample / "per_request_lifecycle_metrics.json").unlink()
    result = TOOL.parse(sample)
    assert result.stages[0].records is None
    assert result.stages[0].counts == {"sent": 10, "succeeded": 8, "failed": 2}
    assert "no_requests_kept" in {f.code for f in result.findings}
    alone = TOOL.parse(sample / "stage_0_lifecycle_metrics.json")
    assert alone.stages[0].aggregates == result.stages[0].aggregates


def test_requests_are_known_by_their_form(sample: Path) -> None:
    file = sample / "per_request_lifecycle_metrics.json"
    before = TOOL.parse(file).stages[0]
    other = file.rename(sample / "mine.json")
    after = TOOL.parse(other).stages[0]
    assert after.records is not None
    assert after.counts == before.counts
    assert after.load == before.load


def test_contradictions_are_found(sample: Path) -> None:
    report = json.loads((sample / "stage_0_lifecycle_metrics.json").read_text())
    report["successes"]["latency"]["request_latency"]["p90"] = 0.0
    report["successes"]["latency"]["time_per_output_token"]["mean"] *= 2
    (sample / "stage_0_lifecycle_metrics.json").write_text(json.dumps(report))
    texts = [f.message for f in TOOL.parse(sample).findings if f.code == "inconsistent_data"]
    assert any("do not ascend" in t for t in texts)
    assert any("ttft + (n - 1) tpot" in t for t in texts)


def test_a_configuration_of_another_run_is_not_believed(sample: Path) -> None:
    """A report of an open loop in a folder whose configuration is of a closed one."""
    report = json.loads((sample / "stage_0_lifecycle_metrics.json").read_text())
    report["load_summary"] = {"count": 10, "requested_rate": 7.0, "achieved_rate": 7.1, "send_duration": 1.4}
    (sample / "stage_0_lifecycle_metrics.json").write_text(json.dumps(report))
    assert TOOL.parse(sample / "stage_0_lifecycle_metrics.json").stages[0].load == {"rate": 7.0}
    result = TOOL.parse(sample)
    assert result.stages[0].load == {"rate": 7.0}
    (found,) = [f for f in result.findings if "beside it" in f.message]
    assert "is of 7 requests/s" in found.message


@pytest.mark.parametrize("text", ["{}", "[1, 2]", '[{"start_time": 1', ""])
def test_what_is_no_result(tmp_path: Path, text: str) -> None:
    with pytest.raises(GeneratorError, match="looked for per_request_lifecycle_metrics"):
        TOOL.parse(tmp_path)
    (tmp_path / "per_request_lifecycle_metrics.json").write_text(text)
    with pytest.raises(GeneratorError, match=r"per_request_lifecycle_metrics\.json"):
        TOOL.parse(tmp_path)
    (tmp_path / "stage_0_lifecycle_metrics.json").write_text('{"a": 1}')
    with pytest.raises(GeneratorError, match="successes"):
        TOOL.parse(tmp_path)
    with pytest.raises(GeneratorError, match="does not exist"):
        TOOL.parse(tmp_path / "nowhere")


@pytest.mark.generators
def test_the_real_tool_with_failures(tmp_path: Path) -> None:
    """Every fifth request fails; what the tool tells is what the server did."""
    settings = {"concurrency": 4, "num_requests": 40, "input_length": 32, "output_length": 8, "seed": 7}
    records, seen, result = run_live(TOOL, tmp_path, settings, lambda n: "http_500" if n % 5 == 4 else "ok")
    assert len(seen) == len(records) == 40
    assert records.labels("status").counts() == {"ok": 32, "failed": 8}
    assert records.labels("error_class").counts() == {"http_5xx": 8}
    assert not [f for f in result.findings if f.code.startswith("clock")], "its clock is this machine's"
    assert_true(records, seen, clock=time.time_ns() - time.monotonic_ns())
    assert set(records.ints("output_tokens").tolist()) == {8, MISSING}


@pytest.mark.generators
def test_the_real_tool_ends_a_closed_loop_by_time(tmp_path: Path) -> None:
    settings = {"concurrency": 3, "duration": 2, "input_length": 16, "output_length": 4}
    records, seen, _ = run_live(TOOL, tmp_path, settings)
    sent = records.ints("sent")
    assert 1.5 < (sent.max() - sent.min()) / 1e9 < 4.0
    assert 0 <= len(seen) - len(records) <= 3
