"""The generic runner: processes, limits, what is left of a tool, and how its results become a stage."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_d_benchmark.config.load import Length, LoadConfig
from llm_d_benchmark.domain.endpoint import Endpoint, Secret
from llm_d_benchmark.domain.errors import ConfigError, GeneratorError
from llm_d_benchmark.domain.events import EventType, Severity
from llm_d_benchmark.domain.records import MISSING
from llm_d_benchmark.domain.schedule import Load, Shard, Stage
from llm_d_benchmark.loadgen.external import generator, process
from llm_d_benchmark.loadgen.external.api import NativeStage
from llm_d_benchmark.loadgen.external.guard import MARK
from llm_d_benchmark.loadgen.external.plan import options, shorter, without_template
from llm_d_benchmark.loadgen.external.rows import to_records
from llm_d_benchmark.loadgen.external.stage import other_load, share, with_lengths
from llm_d_benchmark.workload.replay import STAGE_IDS
from llm_d_benchmark.workload.synthetic import SyntheticOptions
from tests.loadgen.external.tools import FakeTool
from tests.loadgen.fakes import Ran, Sessions, Stages, collect, make_job

ENDPOINT = Endpoint("http://127.0.0.1:9", "test-model", api_key=Secret("s3cr3t-key"))
KEY = "s3cr3t-key"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of whoever runs the tests is not touched, and what does not end by itself is not waited for long."""
    monkeypatch.setenv("LLM_D_BENCHMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(process, "GRACE_S", 0.7)
    monkeypatch.setattr(generator, "WRITE_S", 0.7)


def run(folder: Path, *stages: Stage, stop_after: float | None = None, **more: Any) -> Ran:
    config = {"native": more.pop("native", {}), **more.pop("settings", {})}

    async def go() -> Ran:
        job = make_job(ENDPOINT, Stages(*stages), Sessions(), folder, config=config, **more)
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, job.stop.set)
        return await collect(FakeTool().run(job))

    return asyncio.run(go())


def closed(count: int = 10, concurrency: int = 2, index: int = 0, **more: Any) -> Stage:
    return Stage(index, f"s{index}", Load(concurrency=concurrency), num_requests=count, **more)


def findings(ran: Ran) -> list[str]:
    return [str(f["code"]) for f in ran.of(EventType.FINDING)]


def left_over() -> list[psutil.Process]:
    """Processes that a tool of these tests left behind (other tools may be running on this machine)."""
    found = []
    for one in psutil.process_iter():
        try:
            mine = one.environ().get("TOOL_KEY") == KEY and MARK in one.environ()
            if mine and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except (psutil.Error, OSError):
            continue
    return found


def test_stages_are_numbered_and_have_their_events(tmp_path: Path) -> None:
    ran = run(tmp_path, closed(), closed(index=1))
    assert ran.error is None
    ids = ran.records.ints("request_id").tolist()
    assert ids == [*range(10), *range(STAGE_IDS, STAGE_IDS + 10)]
    assert ran.records.ints("stage").tolist() == [0] * 10 + [1] * 10
    assert set(ran.labels("model")) == {"test-model"}
    assert [end["known"] for end in ran.of(EventType.STAGE_END)] == [{"chunks": "fake makes its chunks up"}] * 2
    assert [e["stage"] for e in ran.of(EventType.STAGE_START)] == [0, 1]
    for end, first in zip(ran.of(EventType.STAGE_END), (0, 10), strict=True):
        sent = ran.records.ints("sent")[first : first + 10]
        assert end["start"] == end["window_start"] == int(sent.min())
        assert end["window_end"] == int(ran.records.ints("end")[first : first + 10].max()) + 1
        assert end["reason"] == "requests"
    counted = [e for e in ran.of(EventType.INTERVAL) if "sent" in e]
    assert sum(e["sent"] for e in counted) == sum(e["succeeded"] for e in counted) == 20
    assert counted[-1]["in_flight"] == 0


def test_warm_up_and_cool_down_are_cut_by_us(tmp_path: Path) -> None:
    stage = Stage(0, "s", Load(concurrency=2), duration_s=1.0, warmup_s=0.2, cooldown_s=0.1)
    ran = run(tmp_path, stage, native={"requests": 26})
    (end,) = ran.of(EventType.STAGE_END)
    assert end["window_start"] - end["start"] == 200_000_000
    assert end["window_end"] - end["window_start"] == 1_000_000_000


def test_failures_are_counted_from_records_not_from_the_exit_code(tmp_path: Path) -> None:
    ran = run(tmp_path, closed(), native={"fail": True, "exit": 0})
    assert ran.records.labels("status").counts() == {"ok": 8, "failed": 2}
    assert ran.records.labels("error_class").counts() == {"http_5xx": 2}
    assert "exit_code" not in findings(ran)
    lied = run(tmp_path / "b", closed(), native={"exit": 3})
    assert lied.error is None
    assert len(lied.records) == 10
    assert "exit_code" in findings(lied)


def test_no_data_is_an_error_with_the_log_and_what_to_do(tmp_path: Path) -> None:
    for name, native in {"none": {"results": False}, "empty": {"requests": 0}}.items():
        ran = run(tmp_path / name, closed(), native=native)
        assert isinstance(ran.error, GeneratorError)
        assert ran.error.exit_code == 6
        assert "No data collected from load generator fake" in ran.error.message
        assert "plan read" in ran.error.message
        advice = ran.error.advice or ""
        for part in ("configuration", "network", "timeouts", "generators check fake"):
            assert part in advice


DEEP = "[" * 100_000
ODD = ['[{"input": 1}]', '{"a": ', '[7]', DEEP, '[{"sent": 1e30, "end": 1e30, "first": 1, "input": 1, "ok": 1}]',
       '[{"sent": 1, "end": 9000000000000000000, "first": 1, "input": 1, "ok": 1}]']  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_results_are_no_data_and_no_bug_of_ours(tmp_path: Path, text: str) -> None:
    ran = run(tmp_path, closed(), native={"text": text})
    assert isinstance(ran.error, GeneratorError), ran.error
    assert "not as fake writes it" in ran.error.message
    assert "plan read" in ran.error.message, "the tail of its log"
    assert (ran.error.advice or "").startswith("check the load generator's configuration"), "nothing about imports"
    assert "its whole log" in (ran.error.advice or "")


def test_odd_results_of_a_tool_that_was_stopped_are_no_error(tmp_path: Path) -> None:
    ran = run(tmp_path, closed(), native={"text": "[7]", "sleep": 60}, stop_after=1.0)
    assert ran.error is None
    assert findings(ran) == ["nothing_left"]


def test_secrets_are_hidden_even_where_texts_cannot_be_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tool: FakeTool, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FakeTool, "tidy", full)
    ran = run(tmp_path, closed())
    assert isinstance(ran.error, GeneratorError)
    assert "No space left" in ran.error.message
    assert KEY not in (tmp_path / "stage-0" / "results.json").read_text()


def test_the_command_and_the_native_config_are_kept_without_secrets(tmp_path: Path) -> None:
    run(tmp_path, closed())
    folder = tmp_path / "stage-0"
    assert (folder / "plan.json").exists()
    command = (folder / "command.sh").read_text()
    assert command.startswith("# fake 1.0\nenv TOOL_KEY=*** ")
    for path in folder.rglob("*"):
        assert KEY.encode() not in path.read_bytes(), path
    assert "key ***" in (folder / "fake.log").read_text()
    assert f'"{"*" * len(KEY)}"' in (folder / "results.json").read_text()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "stage-0").write_text("in the way")
    ran = run(tmp_path, closed())
    assert isinstance(ran.error, GeneratorError)
    assert "stage-0" in ran.error.message


def test_our_own_modules_and_proxies_do_not_reach_a_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "NO_PROXY"):
        monkeypatch.setenv(name, "ours")

    async def go() -> None:
        code = "import os; print([os.environ.get(n) for n in ('PYTHONPATH', 'PYTHONHOME', 'NO_PROXY', 'OWN')])"
        tool = await process.ToolProcess.start(
            [sys.executable, "-c", code], env={"OWN": "x"}, cwd=tmp_path, log=tmp_path / "log", hide=[]
        )
        assert await tool.wait(20) == 0
        await tool.end()

    asyncio.run(go())
    assert (tmp_path / "log").read_text() == "[None, None, '*', 'x']\n"


def test_a_full_disk_does_not_stop_the_tool(tmp_path: Path) -> None:
    """/dev/full takes nothing; a tool whose output nobody read would wait for ever."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")

    async def go() -> int | None:
        tool = await process.ToolProcess.start(
            [sys.executable, "-c", "print('x' * 1000000)"], env={}, cwd=tmp_path, log=Path("/dev/full"), hide=["key"]
        )
        code = await tool.wait(20)
        await tool.end()
        return code

    assert asyncio.run(go()) == 0


def test_the_log_is_written_while_the_tool_runs(tmp_path: Path) -> None:
    async def go() -> tuple[str, Ran]:
        job = make_job(
            Endpoint("http://127.0.0.1:9", "m"),
            Stages(closed()),
            Sessions(),
            tmp_path,
            config={"native": {"sleep": 30}},
        )
        running = asyncio.create_task(collect(FakeTool().run(job)))
        log = tmp_path / "stage-0" / "fake.log"
        deadline = time.monotonic() + 10
        while not (log.exists() and "plan read" in log.read_text()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        early = log.read_text()
        job.stop.set()
        return early, await running

    early, ran = asyncio.run(go())
    assert "plan read" in early
    assert ran.error is None


@pytest.mark.parametrize("native", [{"sleep": 60, "child": True}, {"sleep": 60, "ignore": ["SIGTERM", "SIGINT"]}])
def test_stop_ends_the_whole_tree_and_keeps_what_was_left(tmp_path: Path, native: dict[str, Any]) -> None:
    began = time.monotonic()
    ran = run(tmp_path, closed(), native=native, stop_after=1.5)
    assert time.monotonic() - began < 20
    assert left_over() == []
    assert len(ran.records) == 10
    (end,) = ran.of(EventType.STAGE_END)
    assert end["reason"] == "interrupted"


@pytest.mark.parametrize("how", [{"stop_after": 1.5}, {"native": {"time_limit": 1.5}}])
def test_a_tool_is_asked_to_write_what_it_has_before_it_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    monkeypatch.setattr(generator, "WRITE_S", 20.0)
    ran = run(tmp_path, closed(), **{**how, "native": {"late": 60, **how.get("native", {})}})
    assert len(ran.records) == 10
    assert "interrupted" in (tmp_path / "stage-0" / "fake.log").read_text()


def test_a_tool_that_is_stopped_before_it_wrote_anything(tmp_path: Path) -> None:
    ran = run(tmp_path, closed(), closed(index=1), native={"sleep": 60, "results": False}, stop_after=1.0)
    assert ran.error is None
    assert len(ran.records) == 0
    assert findings(ran) == ["nothing_left"]
    (end,) = ran.of(EventType.STAGE_END)
    assert (end["stage"], end["reason"]) == (0, "interrupted")
    assert end["window_start"] <= end["window_end"]


def test_a_tool_that_ends_leaves_no_daemon_behind(tmp_path: Path) -> None:
    ran = run(tmp_path, closed(), native={"child": True})
    assert len(ran.records) == 10
    assert left_over() == []


@pytest.mark.parametrize("wrong", ["ten minutes", 0, "-5s", True, float("nan")])
def test_a_time_limit_that_is_none_is_found_before_the_run(wrong: object) -> None:
    (finding,) = FakeTool().check(LoadConfig(native={"time_limit": wrong}))
    assert finding.severity is Severity.ERROR
    assert finding.message.startswith("native.time_limit: '")


def test_the_time_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = run(tmp_path, closed(), native={"sleep": 60, "time_limit": "1500ms"})
    assert time.monotonic() - began < 15
    assert isinstance(ran.error, GeneratorError)
    assert "time limit of 1.5 s; the 10 requests" in ran.error.message
    assert len(ran.records) == 10
    (end,) = ran.of(EventType.STAGE_END)
    assert end["reason"] == "interrupted"
    none = run(tmp_path / "none", closed(), native={"sleep": 60, "results": False, "time_limit": 1})
    assert isinstance(none.error, GeneratorError)
    assert "time limit" in none.error.message


def test_cancelling_the_run_ends_the_tool(tmp_path: Path) -> None:
    async def go() -> None:
        job = make_job(ENDPOINT, Stages(closed()), Sessions(), tmp_path, config={"native": {"sleep": 60}})
        running = asyncio.create_task(collect(FakeTool().run(job)))
        await asyncio.sleep(1.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(go())
    assert left_over() == []


def test_a_tool_does_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.loadgen.external import test_generator as t\n"
        "t.run(Path(sys.argv[1]), t.closed(), native={'sleep': 60, 'child': True})"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": "."})
    try:
        deadline = time.monotonic() + 30
        while len(left_over()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(left_over()) >= 2, "the tool and its daemon"
    finally:
        killed.kill()
        killed.wait()
    while left_over() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_over() == []


def test_progress_while_it_runs(tmp_path: Path) -> None:
    ran = run(tmp_path, closed(), native={"sleep": 2.5})
    elapsed = [e["elapsed"] for e in ran.of(EventType.INTERVAL) if "elapsed" in e]
    assert elapsed == sorted(elapsed)
    assert 2 <= len(elapsed) <= 4


def test_a_concurrency_that_was_not_reached_is_told(tmp_path: Path) -> None:
    assert "concurrency_not_reached" in findings(run(tmp_path, closed(30, 8)))
    assert "concurrency_not_reached" not in findings(run(tmp_path / "b", closed(30, 2)))


def test_another_load_than_the_stage_s_is_told(tmp_path: Path) -> None:
    """What under ``native`` overrides the load; the tool's results say what it really made."""
    ran = run(tmp_path, closed(30, 8), native={"made": {"rate": 5.0, "arrival": "poisson"}})
    (told,) = [f for f in ran.of(EventType.FINDING) if f["code"] == "load_overridden"]
    assert told["message"] == "stage s0: asked for c=8, fake made another load: 5/s poisson"
    assert "concurrency_not_reached" not in findings(ran)


OPEN = Load(rate=5.0, concurrency=8, arrival={"type": "poisson"})


@pytest.mark.parametrize(
    ("asked", "told", "another"),
    [
        (Load(concurrency=8), {"concurrency": 8}, False),
        (Load(concurrency=8), {"concurrency": 4}, True),
        (Load(concurrency=8), {}, False),
        (OPEN, {"rate": 5.0, "arrival": "poisson", "concurrency": 8}, False),
        (OPEN, {"rate": 5.0}, False),
        (OPEN, {"rate": 5.0, "arrival": "constant"}, True),
        (OPEN, {"rate": 6.0}, True),
        (OPEN, {"concurrency": 8}, True),
        (Load(arrival={"type": "trace"}), {"arrival": "trace", "concurrency": 9}, False),
        (Load(arrival={"type": "trace"}), {"arrival": "poisson", "rate": 9.0}, True),
        (Load(rate=5.0, arrival={"type": "gamma", "burstiness": 1.0}), {"rate": 5.0, "arrival": "poisson"}, False),
    ],
)
def test_only_what_is_told_can_be_another_load(asked: Load, told: dict[str, object], another: bool) -> None:
    stage = Stage(0, "s", asked, num_requests=3)
    assert bool(list(other_load("fake", stage, [NativeStage("s", told, None)]))) == another


@pytest.mark.parametrize(("endpoint", "told"), [("chat", 93), ("completions", 100)])
def test_what_a_chat_template_adds_is_not_asked_of_the_tool(tmp_path: Path, endpoint: str, told: int) -> None:
    settings = {"endpoint": endpoint, "input_length": 100}
    ran = run(tmp_path, closed(), settings=settings, template_tokens=7)
    assert json.loads((tmp_path / "stage-0" / "plan.json").read_text())["input"] == told
    assert set(ran.records.ints("input_asked").tolist()) == {100}


@pytest.mark.parametrize(
    ("settings", "native", "asked"),
    [
        ({"output_length": 60}, {}, 60),
        ({"workload": {"type": "synthetic", "output_length": 60}}, {"gap_ns": 60_000_000}, 60),
        ({"output_length": 60}, {"output": 9}, MISSING),
    ],
)
def test_the_length_asked_for_is_known_where_the_tool_keeps_none_and_was_asked(
    tmp_path: Path, settings: dict[str, Any], native: dict[str, Any], asked: int
) -> None:
    """What is under ``native`` can ask the tool for another one."""
    ran = run(tmp_path, closed(), settings=settings, native=native)
    assert set(ran.records.ints("output_asked").tolist()) == {asked}
    assert set(ran.records.ints("input_asked").tolist()) == {256}, "which it keeps itself"


@pytest.mark.parametrize(
    ("requests", "sd", "asked"),
    [(10, 0, 20), (10, 8, MISSING), (1000, 8, 20), (10, 2, 20)],
    ids=["fixed", "few may be so far off by chance", "many are not", "nor are they so far off"],
)
def test_the_mean_of_a_distribution_is_asked_for_where_chance_does_not_explain_what_came(
    requests: int, sd: float, asked: int
) -> None:
    """Of 20 tokens on average 16 came."""
    rows = [{"sent": n, "status": "ok", "output_tokens": 16} for n in range(requests)]
    found = with_lengths(to_records(rows), {"output": Length(distribution="normal", mean=20, std_dev=sd)})
    assert set(found.ints("output_asked").tolist()) == {asked}
    small = with_lengths(to_records(rows), {"output": Length(distribution="uniform", min=1, max=2)})
    assert small.ints("output_asked").mean() == 1.5
    cut = Length(distribution="normal", mean=20, std_dev=sd, min=20)
    assert set(with_lengths(to_records(rows), {"output": cut}).ints("output_asked").tolist()) == {
        20 if sd == 0 else MISSING
    }, "every tool cuts in its own way"


def test_every_form_of_length_is_shortened() -> None:
    normal = Length(distribution="normal", mean=50, std_dev=9, min=5, max=90)
    assert shorter(normal, 8) == Length(distribution="normal", mean=42, std_dev=9, min=1, max=82)
    assert shorter(Length(distribution="uniform", min=20, max=30), 5) == Length(distribution="uniform", min=15, max=25)
    own = LoadConfig.model_validate({"workload": {"type": "synthetic", "input_length": 40}})
    assert options(SyntheticOptions, without_template(own, 8)).input_length.value == 32
    other = LoadConfig.model_validate({"workload": {"type": "conversation"}})
    assert without_template(other, 8) == other


def test_a_light_installation_is_told_once(tmp_path: Path) -> None:
    assert findings(run(tmp_path, closed(), closed(index=1), native={"light": True})) == ["light_installation"]


def test_a_tool_that_gave_up_half_way_is_told(tmp_path: Path) -> None:
    assert "requests_missing" in findings(run(tmp_path / "a", closed(100, 2), native={"requests": 20}))
    timed = Stage(0, "s", Load(concurrency=2), duration_s=10.0)
    assert "ended_early" in findings(run(tmp_path / "b", timed, native={"requests": 40}))
    whole = Stage(0, "s", Load(concurrency=2), duration_s=2.0)
    assert findings(run(tmp_path / "c", whole, native={"requests": 40})) == []


def test_a_shard_numbers_its_own_part(tmp_path: Path) -> None:
    ran = run(tmp_path, closed(9, 4), shard=Shard(1, 2))
    assert ran.records.ints("request_id").tolist() == [1, 3, 5, 7]
    assert set(ran.records.ints("shard").tolist()) == {1}


@pytest.mark.parametrize(("index", "requests"), [(0, 6), (1, 3)])
def test_a_shard_is_asked_for_as_many_requests_as_it_has_streams(index: int, requests: int) -> None:
    part = share(closed(9, 3), Shard(index, 2))
    assert (part.num_requests, part.load.concurrency) == (requests, requests // 3)


def test_a_shard_without_a_stream_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="shards"):
        share(closed(9, 2), Shard(2, 3))
