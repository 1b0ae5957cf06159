"""``vllm bench serve``: what it is told, and what its results mean."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import datetime
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
from llm_d_benchmark.loadgen.vllm_bench.generator import LAUNCH, SECONDS_ENV, VllmBench
from llm_d_benchmark.loadgen.vllm_bench.results import NOT_SENT

from .live import API_KEY, assert_true, run_live, tool_stage

SAMPLE = Path(__file__).parents[2] / "samples" / "vllm-bench"
WRITTEN = 1_700_000_000
TOOL = VllmBench()
GAMMA = {"type": "gamma", "burstiness": 0.5}


def options(folder: Path, settings: dict[str, Any], **endpoint: Any) -> dict[str, list[str]]:
    """The command line of a stage, as values by option."""
    (invocation,) = TOOL.invocations(tool_stage(TOOL, folder, settings, **endpoint))
    assert list(invocation.argv[:2]) == ["/env/bin/python", LAUNCH]
    out: dict[str, list[str]] = {}
    for word in invocation.argv[2:]:
        if word.startswith("--"):
            out[word] = []
        else:
            out[list(out)[-1]].append(word)
    return out


def codes(settings: dict[str, Any]) -> dict[str, Severity]:
    return {f.code: f.severity for f in TOOL.check(LoadConfig.model_validate(settings))}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """As of a run on some other machine."""
    folder = Path(shutil.copytree(SAMPLE, tmp_path / "result"))
    os.utime(folder / "vllm-bench.json", (WRITTEN, WRITTEN))
    return folder


def edit(sample: Path, **changes: Any) -> None:
    """Change fields of the result, not when it was written; None removes one."""
    file = sample / "vllm-bench.json"
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    os.utime(file, (WRITTEN, WRITTEN))


def test_a_closed_loop(tmp_path: Path) -> None:
    settings = {
        "concurrent_requests": 4, "num_requests": 50, "input_length": 64, "output_length": 16, "seed": 42,
        "parameters": {"temperature": 0, "ignore_eos": True},
    }  # fmt: skip
    given = options(tmp_path, settings)
    expected = {
        "--backend": "openai", "--base-url": "http://127.0.0.1:9", "--endpoint": "/v1/completions",
        "--model": "test-model", "--tokenizer": "/tokenizer", "--num-prompts": "50", "--max-concurrency": "4",
        "--dataset-name": "random", "--random-input-len": "64", "--random-output-len": "16", "--seed": "42",
        "--extra-body": '{"temperature": 0}',
    }  # fmt: skip
    assert {k: given[k] for k in expected} == {k: [v] for k, v in expected.items()}
    assert given["--ignore-eos"] == given["--save-detailed"] == []
    assert not {"--request-rate", "--insecure", "--header", "--random-range-ratio"} & given.keys()


@pytest.mark.parametrize(
    ("settings", "rate", "burstiness", "prompts"),
    [
        ({"request_rate": 10, "duration": 5}, "10.0", "1000000.0", "50"),
        ({"request_rate": 2.5, "num_requests": 9, "arrival": "poisson"}, "2.5", "1.0", "9"),
        ({"request_rate": 2, "duration": 4, "warmup": 1, "arrival": GAMMA}, "2.0", "0.5", "10"),
    ],
)  # fmt: skip
def test_rates(tmp_path: Path, settings: dict[str, Any], rate: str, burstiness: str, prompts: str) -> None:
    given = options(tmp_path, settings)
    assert (given["--request-rate"], given["--burstiness"], given["--num-prompts"]) == ([rate], [burstiness], [prompts])
    capped = options(tmp_path, {**settings, "concurrency": 3})
    assert capped["--max-concurrency"] == ["3"]


def test_the_missions_closed_loop_by_time(tmp_path: Path) -> None:
    (invocation,) = TOOL.invocations(tool_stage(TOOL, tmp_path, {"connections": 16, "duration": 1800}))
    assert list(invocation.argv[:2]) == ["/env/bin/python", LAUNCH]
    assert invocation.env[SECONDS_ENV] == "1800"
    compile(invocation.files[LAUNCH], LAUNCH, "exec")
    assert invocation.argv[invocation.argv.index("--num-prompts") + 1] == "10000"


def test_what_was_not_sent_any_more_is_no_request(sample: Path) -> None:
    content = json.loads((sample / "vllm-bench.json").read_text())
    more = {
        "output_lens": 0, "ttfts": 0.0, "itls": [], "errors": NOT_SENT, "start_times": 0.0, "queue_times": -9.0,
        "input_lens": 0,
    }  # fmt: skip
    edit(sample, failed=5, **{k: [*content[k], *[v] * 3] for k, v in more.items()})
    result = TOOL.parse(sample)
    assert result.stages[0].counts == {"sent": 10, "succeeded": 8, "failed": 2, "cancelled": 0}
    assert "inconsistent_data" not in {f.code for f in result.findings}


def test_a_result_in_which_nothing_was_sent(sample: Path) -> None:
    """As our launcher leaves it where it is stopped before the first request."""
    edit(sample, completed=0, failed=10, errors=[NOT_SENT] * 10, output_lens=[0] * 10)
    (stage,) = TOOL.parse(sample).stages
    assert stage.records is not None
    assert len(stage.records) == 0
    assert stage.counts == {"sent": 0, "succeeded": 0, "failed": 0, "cancelled": 0}


def test_empty_arrays_are_none(sample: Path) -> None:
    content = json.loads((sample / "vllm-bench.json").read_text())
    edit(sample, **{k: [] for k, v in content.items() if isinstance(v, list)})
    result = TOOL.parse(sample)
    assert result.stages[0].records is None
    assert "no_requests_kept" in {f.code for f in result.findings}


def test_what_is_left_out_of_a_folder_is_told(sample: Path) -> None:
    text = (sample / "vllm-bench.json").read_text()
    (sample / "cut.json").write_text(text[:2000])
    (sample / "deep.json").write_text('{"a":' * 100_000)
    (sample / "lines.json").write_text(json.dumps(json.loads(text)) + "\n" + text[:300].replace("\n", ""))
    (sample / "other.json").write_text("[]")
    (sample / "folder.json").mkdir()
    result = TOOL.parse(sample)
    assert len(result.stages) == 2
    left = [f.message for f in result.findings if f.code == "left_out"]
    assert left == [
        "cut.json is no whole JSON file: left out",
        "deep.json is no whole JSON file: left out",
        "1 of 2 lines of lines.json are no whole JSON: left out",
    ]
    with pytest.raises(GeneratorError, match=r"cut\.json is no whole JSON file"):
        TOOL.parse(sample / "cut.json")


def test_chat_and_uniform_lengths(tmp_path: Path) -> None:
    length = {"distribution": "uniform", "min": 50, "max": 150}
    settings = {"concurrency": 1, "num_requests": 1, "endpoint": "chat", "input_length": length}
    given = options(tmp_path, {**settings, "output_length": {"distribution": "uniform", "min": 5, "max": 15}})
    assert given["--backend"] == ["openai-chat"]
    assert given["--endpoint"] == ["/v1/chat/completions"]
    assert (given["--random-input-len"], given["--random-output-len"]) == (["100"], ["10"])
    assert given["--random-range-ratio"] == ["0.5"]
    assert codes({**settings, "output_length": 7})["length_unsupported"] is Severity.ERROR


def test_secrets_go_by_the_environment_alone(tmp_path: Path) -> None:
    settings = {"concurrency": 1, "num_requests": 1}
    stage = tool_stage(TOOL, tmp_path, settings, api_key=Secret(API_KEY), headers={"X-Team": "a"})
    (invocation,) = TOOL.invocations(stage)
    assert invocation.env["OPENAI_API_KEY"] == API_KEY
    assert not [word for word in invocation.argv if API_KEY in word]
    assert options(tmp_path, settings, headers={"X-Team": "a"})["--header"] == ["X-Team=a"]
    with pytest.raises(ConfigError, match="X-Key"):
        options(tmp_path, settings, headers={"X-Key": Secret("hidden")})


def test_tls(tmp_path: Path) -> None:
    settings = {"concurrency": 1, "num_requests": 1}
    assert options(tmp_path, settings, url="https://h", tls=Tls(verify=False))["--insecure"] == []
    stage = tool_stage(TOOL, tmp_path, settings, url="https://h", tls=Tls(ca_file="/ca.pem"))
    assert TOOL.invocations(stage)[0].env["SSL_CERT_FILE"] == "/ca.pem"


def test_native_options_replace(tmp_path: Path) -> None:
    own = {"num_warmups": 3, "--seed": 7, "save-detailed": False, "lora-modules": ["a", "b"], "environment": "/env"}
    given = options(tmp_path, {"concurrency": 1, "num_requests": 1, "native": own})
    assert (given["--num-warmups"], given["--seed"], given["--lora-modules"]) == (["3"], ["7"], ["a", "b"])
    assert not {"--save-detailed", "--environment"} & given.keys()


def test_workloads(tmp_path: Path) -> None:
    base = {"concurrency": 2, "num_requests": 6, "output_length": 9}
    shared = {"type": "shared_prefix", "groups": 4, "prefix_length": 100, "question_length": 20}
    given = options(tmp_path, {**base, "workload": shared})
    assert given["--dataset-name"] == ["prefix_repetition"]
    assert given["--prefix-repetition-num-prefixes"] == ["4"]
    assert given["--prefix-repetition-output-len"] == ["9"]
    for name, form in (("x.jsonl", "custom"), ("x.json", "sharegpt")):
        given = options(tmp_path, {**base, "workload": {"type": "dataset", "path": str(tmp_path / name)}})
        assert given["--dataset-name"] == [form]
        assert given["--dataset-path"] == [str(tmp_path / name)]
        assert given[f"--{form}-output-len"] == ["9"]


@pytest.mark.parametrize(
    ("settings", "code", "severity"),
    [
        ({"threads": 8, "connections": 16, "duration": 1800}, "closed_loop_timed", Severity.INFO),
        ({"num_requests": 5, "streaming": False}, "streaming_unsupported", Severity.ERROR),
        ({"num_requests": 5, "endpoint": "chat"}, "first_event_is_no_token", Severity.WARNING),
        ({"request_rate": 5, "arrival": "poisson"}, "arrivals_normalised", Severity.INFO),
        ({"num_requests": 5, "workload": {"type": "conversation"}}, "workload_unsupported", Severity.ERROR),
        ({"num_requests": 5, "workload": {"type": "dataset", "path": "x.csv"}}, "dataset_unsupported", Severity.ERROR),
        ({"num_requests": 5, "parameters": {"ignore_eos": False}}, "ignore_eos_forced", Severity.WARNING),
        ({"num_requests": 5}, "ignore_eos_forced", Severity.WARNING),
        ({"num_requests": 5, "workers": 3}, "key_without_effect", Severity.WARNING),
        (
            {"num_requests": 5, "input_length": {"distribution": "normal", "mean": 9, "std_dev": 1}},
            "length_unsupported",
            Severity.ERROR,
        ),
    ],
)
def test_what_it_cannot_do_is_said(settings: dict[str, Any], code: str, severity: Severity) -> None:
    assert codes(settings)[code] is severity
    assert code not in codes({"concurrency": 1, "num_requests": 5, "parameters": {"ignore_eos": True}})


def test_a_result(sample: Path) -> None:
    result = TOOL.parse(sample)
    (stage,) = result.stages
    records = stage.records
    assert records is not None
    assert result.model == "test-model"
    assert stage.load == {"concurrency": 2}
    assert stage.counts == {"sent": 10, "succeeded": 8, "failed": 2, "cancelled": 0}
    assert records.labels("error_class").counts() == {"http_5xx": 2}, "known by its reason phrase alone"
    assert {f.code for f in result.findings} == {"clock_estimated", "failures_without_end"}
    ok = records.where(records.labels("status").is_("ok"))
    ttft = (ok.ints("first_token") - ok.ints("sent")) / 1e9
    tpot = (ok.ints("last_token") - ok.ints("first_token")) / 3e9
    for name, mean in (("ttft", ttft.mean()), ("tpot", tpot.mean())):
        told = stage.aggregates[f"{name}.mean"]
        assert isinstance(told, Measured)
        assert mean == pytest.approx(told.value)
    assert (ok.ragged("chunk_times").lengths == 4).all()
    failed = records.where(records.labels("status").is_("failed"))
    assert set(failed.ints("first_token").tolist()) == {MISSING}, "its ttft of 0 is no time"
    assert stage.aggregates["e2e.p99.9"] != stage.aggregates["e2e.p99"]


def written_now(sample: Path, **changes: Any) -> None:
    """As if it was written now, and its machine's clock read what this machine's reads."""
    content = json.loads((sample / "vllm-bench.json").read_text())
    shift = time.perf_counter() - max(content["start_times"]) - 1
    edit(sample, start_times=[t + shift for t in content["start_times"]], **changes)
    os.utime(sample / "vllm-bench.json")


def test_the_clock_of_this_machine_is_exact(sample: Path) -> None:
    written_now(sample, date=datetime.now().strftime("%Y%m%d-%H%M%S"))
    result = TOOL.parse(sample)
    assert "clock_estimated" not in {f.code for f in result.findings}
    window = result.stages[0].window
    assert window is not None
    assert abs(window[1] / 1e9 - time.time()) < 5


def test_a_copy_from_a_machine_started_when_this_one_was(sample: Path) -> None:
    """Its clock and the file's time fit this machine by chance; the time that it tells does not."""
    written_now(sample)
    result = TOOL.parse(sample)
    assert "clock_estimated" in {f.code for f in result.findings}
    window = result.stages[0].window
    assert window is not None
    told = json.loads((sample / "vllm-bench.json").read_text())["date"]
    assert abs(window[1] / 1e9 - datetime.strptime(told, "%Y%m%d-%H%M%S").timestamp()) < 2


def test_without_starts_there_are_no_requests_but_exact_latencies(sample: Path) -> None:
    whole = TOOL.parse(sample).stages[0]
    assert whole.records is not None
    edit(sample, start_times=None, queue_times=None, latencies=None, failed=None, mean_e2el_ms=None)
    result = TOOL.parse(sample)
    stage = result.stages[0]
    assert stage.records is None
    assert stage.window is None
    assert "starts_unknown" in {f.code for f in result.findings}
    assert stage.counts == {"sent": 10, "succeeded": 8, "failed": 2}
    ok = whole.records.where(whole.records.labels("status").is_("ok"))
    e2e = (ok.ints("last_token") - ok.ints("sent")) / 1e9
    told = stage.aggregates["e2e.mean"]
    assert isinstance(told, Measured)
    assert told.value == pytest.approx(e2e.mean())
    assert isinstance(stage.aggregates["ntpot.p99.9"], Measured)


def test_only_a_summary(sample: Path) -> None:
    gone = dict.fromkeys(("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors", "generated_texts"))
    edit(sample, **gone)
    result = TOOL.parse(sample / "vllm-bench.json")
    assert result.stages[0].records is None
    assert "no_requests_kept" in {f.code for f in result.findings}
    assert isinstance(result.stages[0].aggregates["itl.p99"], Measured)


def test_several_results_one_a_line(sample: Path) -> None:
    file = sample / "vllm-bench.json"
    once = json.loads(file.read_text())
    second = once | {"request_rate": 5.0, "burstiness": 1.0, "max_concurrency": None}
    file.write_text(json.dumps(once) + "\n" + json.dumps(second))
    stages = TOOL.parse(sample).stages
    assert [s.load for s in stages] == [{"concurrency": 2}, {"rate": 5.0, "arrival": "poisson"}]
    assert stages[1].records is not None
    assert (stages[1].records.ints("scheduled") != MISSING).all()


def test_errors_are_classified_and_keep_no_text(sample: Path) -> None:
    trace = (
        "Traceback (most recent call last):\n  File secret text\n"
        "aiohttp.client_exceptions.ClientPayloadError: Response payload is not completed"
    )
    never = "Never received a valid chunk to calculate TTFT.This response will be marked as failed!"
    errors = [trace, never, "Too Many Requests", *[""] * 7]
    edit(sample, errors=errors, output_lens=[0, 0, 0, 0, *[4] * 6], completed=6, failed=4)
    result = TOOL.parse(sample)
    records = result.stages[0].records
    assert records is not None
    assert records.labels("error_class").counts() == {"truncated": 1, "no_content": 1, "http_429": 1}
    assert records.labels("error").counts()["ClientPayloadError"] == 1
    assert "failures_without_reason" in {f.code for f in result.findings}
    assert "inconsistent_data" not in {f.code for f in result.findings}


def test_contradictions_and_chat_are_said(sample: Path) -> None:
    edit(sample, completed=10, failed=0, p90_ttft_ms=1.0, backend="openai-chat")
    found = TOOL.parse(sample).findings
    texts = [f.message for f in found if f.code == "inconsistent_data"]
    assert any("counts 10 succeeded" in t for t in texts)
    assert any("do not ascend" in t for t in texts)
    assert "first_event_is_no_token" in {f.code for f in found}


@pytest.mark.parametrize(
    ("backend", "before", "after", "expected"),
    [
        ("openai", [], [1e-5], {"events_without_content"}),
        ("openai-chat", [0.004], [1e-5], {"events_without_content"}),
        ("openai-chat", [0.004], [], {"first_event_is_no_token"}),
        ("openai", [], [0.005], set()),  # perhaps a token
    ],
)
def test_events_without_content(
    sample: Path, backend: str, before: list[float], after: list[float], expected: set[str]
) -> None:
    """Its arrays have the event with the role and that with the finish reason as if they were tokens."""
    content = json.loads((sample / "vllm-bench.json").read_text())
    whole = TOOL.parse(sample).stages[0].records
    itls = [[*before, *gaps, *after] if gaps else [] for gaps in content["itls"]]
    ttfts = [t - sum(before) if t else 0.0 for t in content["ttfts"]]
    edit(sample, backend=backend, itls=itls, ttfts=ttfts)
    result = TOOL.parse(sample)
    codes = {"events_without_content", "first_event_is_no_token"}
    assert {f.code for f in result.findings} & codes == expected
    if "events_without_content" in expected:
        records = result.stages[0].records
        assert records is not None
        assert whole is not None
        for name in ("first_token", "last_token"):
            assert (
                np.abs((records.ints(name) - records.ints("sent")) - (whole.ints(name) - whole.ints("sent"))).max() < 3
            )


def test_tidy_leaves_no_text(sample: Path) -> None:
    TOOL.tidy(sample.parent)
    assert "generated_texts" not in (sample / "vllm-bench.json").read_text()
    assert TOOL.parse(sample).stages[0].counts["sent"] == 10


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"completed": 1'])
def test_what_is_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(GeneratorError, match=r"looked for a \.json file with 'completed'"):
        TOOL.parse(tmp_path)


def test_damaged_arrays_are_told(sample: Path) -> None:
    edit(sample, itls="none")
    with pytest.raises(GeneratorError, match="'itls'"):
        TOOL.parse(sample)


@pytest.mark.generators
def test_the_real_tool_with_failures(tmp_path: Path) -> None:
    """Every fifth request fails; what the tool tells is what the server did."""
    settings = {"concurrency": 4, "num_requests": 40, "input_length": 32, "output_length": 8, "seed": 7}
    records, seen, _ = run_live(TOOL, tmp_path, settings, lambda n: "http_500" if n % 5 == 4 else "ok")
    assert len(seen) == len(records) == 40
    assert records.labels("status").counts() == {"ok": 32, "failed": 8}
    assert records.labels("error_class").counts() == {"http_5xx": 8}
    assert_true(records, seen, clock=time.time_ns() - time.monotonic_ns())
    ok = records.where(records.labels("status").is_("ok"))
    assert (ok.ragged("chunk_times").lengths == 8).all(), "the event with the finish reason is no token"


@pytest.mark.generators
def test_the_real_tool_ends_a_closed_loop_by_time(tmp_path: Path) -> None:
    settings = {"concurrency": 3, "duration": 2, "input_length": 16, "output_length": 4}
    records, seen, _ = run_live(TOOL, tmp_path, settings)
    sent = records.ints("sent")
    assert len(seen) == len(records)
    assert 1.0 < (sent.max() - sent.min()) / 1e9 < 2.5


def test_stages_are_judged_with_what_they_inherit() -> None:
    """A stage without a load of its own takes the rate; one with a concurrency does not."""
    open_loop = {"request_rate": 5, "duration": 9, "stages": [{"duration": 3}]}
    assert "closed_loop_timed" not in codes(open_loop)
    assert "closed_loop_timed" in codes({**open_loop, "stages": [{"duration": 3}, {"concurrency": 2}]})
