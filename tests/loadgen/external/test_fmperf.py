"""fmperf: what it is told, what its rows mean, and (where it is installed) what it really does."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_d_benchmark.config.layers import load_config
from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Secret
from llm_d_benchmark.domain.errors import ConfigError, GeneratorError
from llm_d_benchmark.domain.events import Severity
from llm_d_benchmark.domain.records import MISSING
from llm_d_benchmark.domain.schedule import Load, Stage
from llm_d_benchmark.loadgen.external import process
from llm_d_benchmark.loadgen.fmperf.generator import FMPerf
from llm_d_benchmark.runner.options import RunOptions
from llm_d_benchmark.runner.run import run
from llm_d_benchmark.runner.smoke import smoke

from .live import installed_or_skip, tool_stage

SAMPLES = Path(__file__).parents[2] / "samples" / "fmperf"
TOOL = FMPerf()


def made(folder: Path, settings: dict[str, Any], **endpoint: Any) -> tuple[list[dict[str, Any]], Any]:
    """The sample requests of a stage, and its only invocation."""
    (invocation,) = TOOL.invocations(tool_stage(TOOL, folder, {"duration": 10, **settings}, **endpoint))
    return json.loads(invocation.files["requests.json"]), invocation


def codes(settings: dict[str, Any]) -> dict[str, Severity]:
    return {f.code: f.severity for f in TOOL.check(LoadConfig.model_validate(settings))}


def test_a_stage_as_its_variables_and_sample_requests(tmp_path: Path) -> None:
    settings = {
        "concurrent_requests": 3, "duration": 10, "warmup": 5, "seed": 1, "parameters": {"top_p": 0.9},
        "input_length": {"distribution": "uniform", "min": 5, "max": 9}, "output_length": 7,
        "native": {"backoff": "2s", "sample_size": 40},
    }  # fmt: skip
    requests, invocation = made(tmp_path, settings, url="http://h:8000/base")
    env = invocation.env
    assert (env["NUM_USERS"], env["DURATION"], env["URL"], env["BACKOFF"]) == ("3", "15s", "h:8000/base", "2s")
    assert len(requests) == 40
    assert {len(r["request"]["prompt"]) for r in requests} == set(range(5, 10))
    for one in requests:
        assert one["config"]["in_tokens"] == len(one["request"]["prompt"])
        assert one["request"]["max_tokens"] == one["config"]["out_tokens"] == 7
        assert one["request"]["stream_options"]["continuous_usage_stats"] is True
        assert one["request"]["ignore_eos"] is False
        assert (one["request"]["top_p"], one["request"]["temperature"]) == (0.9, 0.0)
        assert len(one["expected"]) > 7
    assert made(tmp_path, settings)[0] == requests, "the same seed, the same prompts"
    assert made(tmp_path, settings | {"seed": 2})[0] != requests


def test_a_rate_with_a_cap_runs_as_a_closed_loop_and_says_so() -> None:
    mission = {"concurrent_requests": 10, "request_rate": 5, "input_length": 512, "output_length": 256}
    assert codes(mission)["rate_ignored"] is Severity.WARNING
    assert Severity.ERROR not in codes(mission).values()
    stage = TOOL.runs(Stage(0, "5/s constant, cap 10", Load(5.0, 10), 30.0, num_requests=7))
    assert (stage.name, stage.load.rate, stage.load.concurrency, stage.num_requests) == ("c=10", None, 10, None)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"endpoint": "chat"}, "endpoint_unsupported"),
        ({"request_rate": 5}, "open_loop_unsupported"),
        ({"num_requests": 5}, "requests_unsupported"),
        ({"streaming": False}, "streaming_only"),
        ({"concurrency": 2, "request_rate": 5, "arrival": "poisson"}, "arrival_unsupported"),
        ({"sweep": {"over": "rate"}}, "open_loop_unsupported"),
        ({"native": {"num_users": 3}}, "native_keys"),
        ({"stages": [{"concurrency": 2, "duration": 5}, {"request_rate": 5, "duration": 5}]}, "open_loop_unsupported"),
    ],
)
def test_what_it_cannot_do_refuses_the_run(settings: dict[str, Any], code: str) -> None:
    assert codes(settings)[code] is Severity.ERROR


@pytest.mark.parametrize("endpoint", [{"url": "https://h"}, {"api_key": Secret("k")}, {"headers": {"X": "y"}}])
def test_servers_it_cannot_reach_are_refused(tmp_path: Path, endpoint: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="fmperf"):
        made(tmp_path, {"concurrency": 1}, **endpoint)


def test_rows_of_tokens_become_requests() -> None:
    (stage,) = TOOL.parse(SAMPLES / "results.json").stages
    records = stage.records
    assert records is not None
    assert stage.counts == {"sent": 4, "succeeded": 4, "failed": 0, "cancelled": 0}
    assert (stage.name, stage.load) == ("c=4", {"concurrency": 4})
    sent, first, last = (records.ints(n) for n in ("sent", "first_token", "last_token"))
    assert np.median(first - sent) / 1e6 == pytest.approx(24, abs=5)
    assert np.median(last - first) / 15e6 == pytest.approx(5.3, abs=0.3)
    assert records.ints("output_tokens").tolist() == [16] * 4
    assert records.ints("input_asked").tolist() == records.ints("input_tokens").tolist() == [64] * 4
    assert records.ragged("chunk_times").lengths.tolist() == [16] * 4
    assert set(records.ragged("chunk_tokens").values.tolist()) == {1}
    assert stage.window is not None
    assert stage.window[1] - stage.window[0] == 3_000_000_000


def test_a_sweep_has_a_stage_for_each_number_of_users() -> None:
    stages = TOOL.parse(SAMPLES / "sweep_results_all.json").stages
    assert [(s.name, s.counts["sent"]) for s in stages] == [("c=1", 1), ("c=2", 2)]


def test_a_run_and_a_sweep_in_one_folder_are_both_read() -> None:
    stages = TOOL.parse(SAMPLES).stages
    assert [(s.name, s.counts["sent"]) for s in stages] == [("c=4", 4), ("c=1", 1), ("c=2", 2)]


def row(request: int, index: int, at_ms: float, **more: Any) -> dict[str, Any]:
    start = 1_700_000_000_000_000_000
    return {
        "response": {"text": 'a {"quoted": "}, {\\"response\\": "} word'}, "ok": True, "error": "None",
        "timestamp": start + int(at_ms * 1e6), "exp_num_users": 1, "exp_duration": 3.0, "duration_ms": 10.0,
        "exclude": False, "worker_idx": 0, "request_idx": request, "sample_idx": 0, "response_idx": index,
        "n_tokens": 1, "consistent": False, **more,
    }  # fmt: skip


FAILURES = [
    row(0, 0, 10), row(0, 1, 10, duration_ms=0.0), row(0, 2, 20),
    row(1, 0, 40, ok=False, error="list index out of range", response=None, n_tokens=0),
    row(3, 0, 60), row(3, 1, 65, ok=False, error="('Connection broken: reset by peer', x)", response=None, n_tokens=0),
]  # fmt: skip


def test_failures_chunks_of_several_tokens_and_lost_requests(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"results": FAILURES, "energy": {}}))
    result = TOOL.parse(tmp_path)
    records = result.stages[0].records
    assert records is not None
    assert records.labels("status").to_list() == ["ok", "failed", "failed"]
    assert records.labels("error_class").to_list() == [None, "protocol", "truncated"]
    assert "hides" in str(records.labels("error").to_list()[1])
    assert records.ragged("chunk_times").row(0).tolist() == [10_000, 20_000]
    assert records.ragged("chunk_tokens").row(0).tolist() == [2, 1]
    assert records.ints("output_tokens").tolist() == [3, MISSING, MISSING]
    assert records.ints("first_token").tolist()[1] == MISSING
    assert [f.code for f in result.findings] == ["requests_without_rows", "fmperf_failures"]
    assert "hides the HTTP status" in result.findings[1].message


def test_texts_are_taken_out_and_the_rest_parses_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(SAMPLES / "requests.json", tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"results": FAILURES, "energy": {}}))
    (tmp_path / "results_wid0").write_text(json.dumps(FAILURES))
    before = TOOL.parse(tmp_path).stages[0]
    monkeypatch.setattr("llm_d_benchmark.loadgen.fmperf.results.BLOCK", 700)
    assert TOOL.parse(tmp_path).stages[0].counts == before.counts, "cut into blocks or not"
    TOOL.tidy(tmp_path)
    left = (tmp_path / "results.json").read_text()
    assert "quoted" not in left
    assert json.loads(left)["results"][2] == {**FAILURES[2], "response": None}
    assert not (tmp_path / "results_wid0").exists()
    assert "prompt" not in (tmp_path / "requests.json").read_text()
    after = TOOL.parse(tmp_path).stages[0]
    assert before.records is not None
    assert after.records is not None
    for name in ("sent", "end", "output_tokens", "input_asked"):
        assert after.records.ints(name).tolist() == before.records.ints(name).tolist()


def test_what_is_no_result_is_an_error(tmp_path: Path) -> None:
    for text in ("", '{"results": []}', '{"results": [{"response": null, "ok": tr'):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(GeneratorError, match=r"fmperf|no rows"):
            TOOL.parse(tmp_path)


@pytest.mark.generators
def test_it_agrees_with_the_native_generator() -> None:
    installed_or_skip(TOOL)
    theirs, ours = asyncio.run(smoke("fmperf", {})), asyncio.run(smoke("native", {}))
    assert theirs.problems == ours.problems == ()
    assert theirs.figures["requests"] == pytest.approx(ours.figures["requests"], rel=0.2)
    assert theirs.figures["tpot_p50_s"] == pytest.approx(ours.figures["tpot_p50_s"], rel=0.1)
    assert theirs.figures["ttft_p50_s"] == pytest.approx(ours.figures["ttft_p50_s"], abs=0.01)


@pytest.mark.generators
def test_failures_of_the_server_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_or_skip(TOOL)
    monkeypatch.setattr(process, "GRACE_S", 1.0)
    load = {"concurrency": 4, "duration": 6, "input_length": 32, "output_length": 8, "native": {"backoff": "0s"}}
    spec = {
        "target": {"type": "simulator", "simulator": {"failures": {"http_500_rate": 0.2}}},
        "benchmark": {"load_generators": [{"type": "fmperf", "config": load}], "warmup": 0, "cooldown": 0},
    }
    loaded = load_config([], env={}, overrides={"spec": spec})
    outcome = asyncio.run(run(loaded, RunOptions(output=tmp_path, fail_on=frozenset())))
    requests = outcome.result.stages[0].metrics.requests_total
    assert requests.errors.keys() == {"protocol"}
    assert requests.failed / requests.sent == pytest.approx(0.2, abs=0.08)
