"""LLMeter: what it is told, what its responses mean, and (where it is installed) what it really does."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.endpoint import Secret, Tls
from llm_d_benchmark.domain.errors import ConfigError, GeneratorError
from llm_d_benchmark.domain.events import Severity
from llm_d_benchmark.domain.records import MISSING
from llm_d_benchmark.domain.result import Measured
from llm_d_benchmark.loadgen.llmeter import HEADERS_ENV, LAUNCH, PLAN, PROMPTS, LLMeter
from llm_d_benchmark.runner.ingest import import_results

from .live import API_KEY, matched, run_live, stage_of, tool_stage

SAMPLE = Path(__file__).parents[2] / "samples" / "llmeter"
TOOL = LLMeter()


def planned(folder: Path, settings: dict[str, Any], **endpoint: Any) -> tuple[dict[str, Any], Any]:
    """What the launcher reads, and the only invocation."""
    (invocation,) = TOOL.invocations(tool_stage(TOOL, folder, settings, **endpoint))
    compile(invocation.files[LAUNCH], LAUNCH, "exec")
    return json.loads(invocation.files[PLAN]), invocation


def codes(settings: dict[str, Any]) -> dict[str, Severity]:
    return {f.code: f.severity for f in TOOL.check(LoadConfig.model_validate(settings))}


def test_a_closed_loop_by_requests_and_one_by_time(tmp_path: Path) -> None:
    settings = {"concurrency": 4, "num_requests": 10, "input_length": 20, "output_length": 8, "seed": 3}
    plan, _ = planned(tmp_path, {**settings, "parameters": {"ignore_eos": True}, "timeouts": {"total": 30}})
    assert plan["run"] == {"clients": 4, "timeout": 40.0, "n_requests": 3}, "of each user, rounded up"
    assert plan["endpoint"]["base_url"] == "http://127.0.0.1:9/v1"
    texts = [p["messages"][0]["content"] for p in plan["payloads"]]
    assert len(set(texts)) == 12
    assert {len(t.split()) for t in texts} == {20}
    assert plan["payloads"][0]["max_tokens"] == 8
    assert plan["payloads"][0]["extra_body"] == {"ignore_eos": True}
    timed, _ = planned(tmp_path, {"concurrency": 2, "duration": 9, "warmup": 1, "native": {"low_memory": True}})
    assert timed["run"] == {"clients": 2, "timeout": 610.0, "run_duration": 10.0, "low_memory": True}
    assert len(timed["payloads"]) == PROMPTS


def test_what_it_cannot_do_refuses_the_run_or_is_told() -> None:
    assert codes({"request_rate": 3})["open_loop_unsupported"] is Severity.ERROR
    assert codes({"request_rate": 3, "concurrency": 4})["rate_ignored"] is Severity.WARNING
    assert codes({"endpoint": "completions"})["endpoint_unsupported"] is Severity.ERROR
    assert codes({"retries": {"max": 1}})["key_without_effect"] is Severity.WARNING
    assert codes({"concurrency": 2, "duration": 5, "num_requests": 9})["requests_ignored"] is Severity.WARNING
    assert set(codes({"concurrency": 2}).values()) == {Severity.INFO}
    stage = stage_of(LoadConfig.model_validate({"request_rate": 3, "concurrency": 4}))
    assert TOOL.runs(stage).name == "c=4"


def test_secrets_go_through_the_environment_only(tmp_path: Path) -> None:
    headers = {"X-Tenant": Secret("t-9"), "X-Plain": "p"}
    plan, invocation = planned(
        tmp_path, {}, api_key=Secret(API_KEY), headers=headers, url="https://h", tls=Tls(ca_file="/ca.pem")
    )
    written = json.dumps([*invocation.argv, *invocation.files.values()])
    assert API_KEY not in written
    assert "t-9" not in written
    assert plan["headers"] == {"X-Plain": "p"}
    assert invocation.env["OPENAI_API_KEY"] == API_KEY
    assert json.loads(str(invocation.env[HEADERS_ENV])) == {"X-Tenant": "t-9"}
    assert invocation.env["SSL_CERT_FILE"] == "/ca.pem"
    with pytest.raises(ConfigError, match="always verifies"):
        planned(tmp_path, {}, url="https://h", tls=Tls(verify=False))


def test_its_responses_under_our_definitions() -> None:
    """Forty requests of two users, every fifth refused, 20 ms to the first token and 5 ms for each of 15 more."""
    result = TOOL.parse(SAMPLE)
    (stage,) = result.stages
    records = stage.records
    assert records is not None
    assert stage.counts == {"sent": 40, "succeeded": 32, "failed": 8, "cancelled": 0}
    assert (stage.name, result.model) == ("c=2", "test-model")
    assert set(records.labels("error_class").to_list()) == {None, "http_5xx"}
    ok = records.where(records.labels("status").is_("ok"))
    assert set(ok.ints("output_tokens").tolist()) == {16}
    assert set(ok.ints("input_tokens").tolist()) == {71}, "64 words and the chat template"
    assert set(ok.labels("output_source").to_list()) == {"usage"}
    sent, first, last = (ok.ints(n) for n in ("sent", "first_token", "last_token"))
    assert (first - sent).min() > 20e6
    assert np.median((last - first) / 15) == pytest.approx(5e6, rel=0.02)
    mean = stage.aggregates["ttft.mean"]
    assert isinstance(mean, Measured)
    assert mean.value == pytest.approx(float((first - sent).mean()) / 1e9, rel=1e-6)
    failed = records.where(records.labels("status").is_("failed"))
    assert (failed.ints("end") == failed.ints("sent")).all()
    assert [f.code for f in result.findings] == ["failures_without_end"]


def test_a_result_of_its_own_use_rounds_times_and_may_count_words(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (SAMPLE / "responses.jsonl").read_text().splitlines()]
    for line in lines:
        line["request_time"] = line["request_time"].split(".")[0] + "Z"
    (tmp_path / "responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = TOOL.parse(tmp_path)
    assert [f.code for f in result.findings][1:] == ["times_rounded", "token_source_unknown"]
    assert result.stages[0].records is not None
    assert set(result.stages[0].records.labels("output_source").to_list()) == {None}


def test_texts_are_taken_out_and_the_rest_parses_as_before(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SAMPLE, tmp_path / "llmeter" / "run"))
    before = TOOL.parse(tmp_path).stages[0]
    quoting = '{"request_time":"2026-11-24T19:16:53.5+00:00","time_to_last_token":0.1,"response_text":"quoted"}\n'
    with (folder / "responses.jsonl").open("a") as file:
        file.write(quoting)
    for name in (tmp_path / PLAN, folder / "payload.jsonl"):
        name.write_text("quoted")
    TOOL.tidy(tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and "quoted" in p.read_text()]
    assert TOOL.parse(tmp_path).stages[0].counts["sent"] == before.counts["sent"] + 1


def test_tidy_keeps_nothing_of_a_line_that_is_no_response(tmp_path: Path) -> None:
    """Its error would take the place of the one that says why there is no result."""
    file = tmp_path / "responses.jsonl"
    good = '{"request_time":"2026-11-24T19:16:53.5+00:00","time_to_last_token":0.1}\n'
    file.write_text(f'{{"response_text": ["quoted"]\n{good}"quoted"\n{good}{{"request_time":"quo')
    TOOL.tidy(tmp_path)
    assert "quo" not in file.read_text()
    assert TOOL.parse(tmp_path).stages[0].counts["sent"] == 2


def test_what_is_no_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match=r"looked for responses\.jsonl"):
        TOOL.parse(tmp_path)
    for text in ("", '{"a": 1}\n'):
        (tmp_path / "responses.jsonl").write_text(text)
        with pytest.raises(GeneratorError, match=r"llmeter|no responses"):
            TOOL.parse(tmp_path)


def test_it_is_found_out_and_imported(tmp_path: Path) -> None:
    _, result = import_results([("auto", SAMPLE)], tmp_path)
    (stage,) = result.stages
    assert (stage.load_generator, stage.label) == ("llmeter", "c=2")
    assert stage.metrics.requests.failed == 8


def test_a_model_whose_name_is_a_number_is_imported(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SAMPLE, tmp_path / "run"))
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"model_id": 7}))
    _, result = import_results([("auto", folder)], tmp_path)
    assert TOOL.parse(folder).model == "7"
    assert result.stages


@pytest.mark.generators
@pytest.mark.parametrize("failing", [False, True])
def test_it_measures_what_the_server_knows(tmp_path: Path, failing: bool) -> None:
    clock = time.time_ns() - time.monotonic_ns()
    settings = {"concurrency": 2, "num_requests": 60, "input_length": 64, "output_length": 16}
    behaviour = (lambda n: "http_500" if n % 5 == 4 else "ok") if failing else "ok"
    records, seen, _ = run_live(TOOL, tmp_path, settings, behaviour)
    assert records.labels("status").counts() == ({"ok": 48, "failed": 12} if failing else {"ok": 60})
    assert len({r.raw for r in seen}) == 60, "every request has a prompt of its own"
    ok = records.where(records.labels("status").is_("ok"))
    assert ok.ints("input_tokens").tolist() == [
        r.prompt_tokens for r in sorted(seen, key=lambda r: r.received) if r.sent
    ]
    assert set(records.ints("output_tokens").tolist()) - {MISSING} == {16}
    ttft, tpot, true_ttft, true_tpot = matched(records, seen, clock=clock)
    assert 0 < ttft.min() - true_ttft.min() < 0.03, "it makes its request within its own ttft"
    assert abs(np.median(tpot) - np.median(true_tpot)) < 0.001


@pytest.mark.generators
def test_an_interrupt_ends_its_load_and_keeps_what_there_is(tmp_path: Path) -> None:
    settings = {"concurrency": 2, "duration": 60, "input_length": 64, "output_length": 16}
    records, seen, _ = run_live(TOOL, tmp_path, settings, interrupt_after=20)
    assert 15 < records.labels("status").counts()["ok"] <= len(seen) < 30
    assert set(records.labels("status").to_list()) == {"ok"}
