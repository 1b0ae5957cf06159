"""What every load generator must do, as tests: subclass ``LoadGeneratorConformance`` and give it two fixtures.

class TestMine(LoadGeneratorConformance):
    native = {}                                         # the generator's own keys, where it needs any

    @pytest.fixture
    def generator(self):
        return MyLoadGenerator()

    @pytest.fixture
    def endpoint(self):
        return Endpoint("http://127.0.0.1:8000", "model")   # a server that answers well

For failures, secrets and exact times the suite brings a server of its own.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..config.load import LoadConfig
from ..domain.endpoint import Endpoint
from ..domain.events import EventType
from ..domain.records import MISSING, RECORD_COLUMNS, Records, Status
from ..domain.schedule import Load, Shard, Stage
from ..loadgen.api import LoadGenerator
from .jobs import NumberedSessions, Outcome, closed, open_loop, run
from .server import ExactServer

KEY = "not-a-real-key-6f1d"


class LoadGeneratorConformance:
    """Tests of one load generator. Needs no pytest plugin.

    Attributes:
        native: its own keys, as under ``config.native``.
        accuracy_ms: how far its median TTFT and chunk gaps may lie from the server's own times.
    """

    native: ClassVar[Mapping[str, Any]] = {}
    accuracy_ms: ClassVar[float] = 3.0

    def test_it_has_a_name_and_takes_the_common_keys(self, generator: LoadGenerator) -> None:
        assert generator.name
        found = generator.check(LoadConfig(concurrency=2, num_requests=4, native=dict(self.native)))
        assert inspect.isawaitable(found) is False
        assert [f.message for f in found if f.severity == "error"] == []

    def test_every_request_is_recorded_once_with_all_columns(
        self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path
    ) -> None:
        records = self._run(generator, endpoint, tmp_path, stages=2, count=12).records
        assert set(records.columns) == {c.name for c in RECORD_COLUMNS}
        assert sorted(records.ints("request_id").tolist()) == list(range(24))
        assert records.labels("status").counts() == {"ok": 24}
        assert records.labels("model").counts() == {endpoint.model: 24}
        assert (records.ints("session") == records.ints("request_id")).all()
        assert (records.ints("output_asked") == 4).all()
        for stage in (0, 1):
            assert int((records.ints("stage") == stage).sum()) == 12

    def test_times_are_epoch_and_in_order(self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path) -> None:
        before = time.time_ns()
        records = self._run(generator, endpoint, tmp_path, stages=1, count=8).records
        after = time.time_ns()
        sent, first, last, end = (records.ints(n) for n in ("sent", "first_token", "last_token", "end"))
        assert (sent > before).all()
        assert (end < after).all()
        known = first != MISSING
        assert known.any()
        assert (sent[known] <= first[known]).all()
        assert (first[known] <= last[known]).all()
        assert (last[known] <= end[known]).all()
        chunks = records.ragged("chunk_times")
        for row in np.flatnonzero(chunks.lengths > 0):
            times = chunks.row(int(row))
            assert (np.diff(times) >= 0).all()
            assert abs(int(times[0]) * 1000 - int(first[row] - sent[row])) < 1_000_000

    def test_each_stage_has_its_events(self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path) -> None:
        ran = self._run(generator, endpoint, tmp_path, stages=2, count=8)
        assert [e["stage"] for e in ran.of(EventType.STAGE_START)] == [0, 1]
        ends = ran.of(EventType.STAGE_END)
        assert [e["stage"] for e in ends] == [0, 1]
        for end in ends:
            assert end["window_start"] <= end["window_end"] <= end["end"]
            assert end["reason"] == "requests"
        assert sum(e["sent"] for e in ran.of(EventType.INTERVAL)) == 16
        assert sum(e["succeeded"] for e in ran.of(EventType.INTERVAL)) == 16

    def test_a_shard_sends_its_own_part(self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path) -> None:
        records = self._run(generator, endpoint, tmp_path, stages=1, count=9, shard=Shard(1, 2)).records
        assert sorted(records.ints("request_id").tolist()) == [1, 3, 5, 7]
        assert set(records.ints("shard").tolist()) == {1}

    def test_stop_ends_it_and_loses_nothing(self, generator: LoadGenerator, endpoint: Endpoint, tmp_path: Path) -> None:
        ran = self._run(generator, endpoint, tmp_path, stages=1, count=1_000_000, stop_after=1.5)
        assert ran.seconds < 15
        ids = ran.records.ints("request_id").tolist()
        assert len(set(ids)) == len(ids) > 0
        counts = ran.records.labels("status").counts()
        assert sum(counts.get(s, 0) for s in Status) == len(ran.records)
        assert sum(e["sent"] for e in ran.of(EventType.INTERVAL)) == len(ran.records)
        assert [e["reason"] for e in ran.of(EventType.STAGE_END)] == ["interrupted"]

    def test_progress_is_told_every_second(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer(ttft=0.02, itl=0.02) as server:
            stage = Stage(0, "three", Load(concurrency=4), duration_s=2.0, warmup_s=0.5, cooldown_s=0.5)
            ran = self._on(server, generator, tmp_path, [stage], NumberedSessions(10_000, "exact"))
        intervals = ran.of(EventType.INTERVAL)
        assert 3 <= len(intervals) <= 5
        for one, other in pairwise(intervals):
            assert one["end"] == other["start"]
        assert all(i["sent"] > 0 and i["chunks"] > 0 for i in intervals[:3])
        assert sum(i["chunks"] for i in intervals) == len(ran.records.ragged("chunk_times").values)
        assert len(ran.of(EventType.CLIENT)) >= 2
        (end,) = ran.of(EventType.STAGE_END)
        assert end["reason"] == "duration"
        assert end["window_end"] - end["window_start"] == 2_000_000_000
        assert end["window_start"] - end["start"] == 500_000_000
        assert abs(end["load_end"] - end["start"] - 3e9) < 0.2e9
        assert ran.records.ints("sent").max() < end["start"] + 3.1e9
        assert ran.records.labels("status").counts() == {"ok": len(ran.records)}

    def test_a_closed_loop_keeps_its_concurrency(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer() as server:
            ran = self._on(server, generator, tmp_path, [closed(0, 60, 5)], NumberedSessions(60, "exact"))
            assert server.most_at_once == 5
        assert (ran.records.ints("scheduled") == MISSING).all()

    def test_an_open_loop_keeps_its_times_whatever_the_server_does(
        self, generator: LoadGenerator, tmp_path: Path
    ) -> None:
        with ExactServer(ttft=0.5) as server:  # slower than the arrivals
            ran = self._on(server, generator, tmp_path, [open_loop(40, 50.0)], NumberedSessions(40, "exact"))
        records, (start,) = _by_id(ran.records), ran.of(EventType.STAGE_START)
        planned = start["start"] + np.arange(40) * 20_000_000
        assert (records.ints("scheduled") == planned).all()
        late = records.ints("sent") - planned
        assert late.min() > -2_000_000
        assert np.median(late) < 20_000_000
        assert late.max() < 300_000_000

    def test_ready_is_when_it_was_free_to_go(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer(ttft=0.1) as server:
            stage = Stage(0, "capped", Load(rate=100.0, concurrency=2), num_requests=8)
            records = _by_id(self._on(server, generator, tmp_path, [stage], NumberedSessions(8, "exact")).records)
            assert server.most_at_once == 2
        scheduled, ready, sent = (records.ints(name) for name in ("scheduled", "ready", "sent"))
        assert (ready >= scheduled).all()
        assert (sent - ready > -2_000_000).all()
        assert (ready - scheduled)[4:].min() > 50_000_000  # held back by the cap, not by the client
        assert np.median(sent - ready) < 20_000_000

    def test_failures_are_rows_with_their_class(self, generator: LoadGenerator, tmp_path: Path) -> None:
        wrong = {"http_500": ("http_5xx", 500), "http_429": ("http_429", 429), "http_400": ("http_4xx", 400),
                 "cut": ("truncated", 200), "error_event": ("server_error_event", 200), "empty": ("no_content", 200),
                 "not_json": ("protocol", 200)}  # fmt: skip
        names = ["ok", *wrong]
        with ExactServer() as server:
            server.behaviour = lambda n: names[n % len(names)]
            ran = self._on(server, generator, tmp_path, [closed(0, 32, 1)], NumberedSessions(32, "exact"))
            said = {int(s.body["user"]): s.behaviour for s in server.served}
        records = ran.records
        assert sorted(records.ints("request_id").tolist()) == list(range(32))
        assert records.labels("status").counts() == {"ok": 4, "failed": 28}
        classes, codes = records.labels("error_class").to_list(), records.ints("http_status").tolist()
        for number, found, code in zip(records.ints("request_id").tolist(), classes, codes, strict=True):
            expected = wrong.get(said[number], (None, 200))
            assert (found, code) == expected, said[number]
        cut = records.where(records.labels("error_class").is_("truncated"))
        assert (cut.ints("first_token") != MISSING).all()
        assert (cut.ragged("chunk_times").lengths == 2).all()
        assert sum(i["failed"] for i in ran.of(EventType.INTERVAL)) == 28

    def test_a_server_that_is_gone_is_a_failure_of_each_request(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer() as server:
            gone = server.endpoint
        ran = self._run(generator, gone, tmp_path, stages=1, count=6)
        assert ran.records.labels("error_class").counts() == {"connect": 6}
        assert (ran.records.ints("http_status") == MISSING).all()

    def test_time_limits(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer() as server:
            server.behaviour = lambda _: "stall"
            limits = {"timeouts": {"connect": 2, "first_token": 0.3, "total": 5}}
            ran = self._on(server, generator, tmp_path, [closed(0, 4)], NumberedSessions(4, "exact"), limits)
        assert ran.records.labels("error_class").counts() == {"timeout_first_token": 4}
        took = (ran.records.ints("end") - ran.records.ints("sent")) / 1e9
        assert (took > 0.25).all()
        assert (took < 1.5).all()

    def test_what_is_in_flight_at_the_end_of_the_drain_is_cancelled(
        self, generator: LoadGenerator, tmp_path: Path
    ) -> None:
        with ExactServer() as server:
            server.behaviour = lambda _: "stall"
            stage = Stage(0, "stalled", Load(concurrency=3), duration_s=0.3)
            ran = self._on(server, generator, tmp_path, [stage], NumberedSessions(9, "exact"), drain_s=0.3)
        assert ran.records.labels("status").counts() == {"cancelled": 3}
        assert ran.records.labels("error_class").counts() == {}
        assert ran.seconds < 10

    def test_completions_take_text_and_token_ids(self, generator: LoadGenerator, tmp_path: Path) -> None:
        stage = closed(0, 4, endpoint="completions")
        for ids in (False, True):
            with ExactServer() as server:
                schedule = NumberedSessions(4, "exact", token_ids=ids)
                ran = self._on(server, generator, tmp_path, [stage], schedule, {"endpoint": "completions"})
                prompts = [s.body["prompt"] for s in server.served]
                assert {s.path for s in server.served} == {"/v1/completions"}
            assert sorted(prompts) == ([[k, 2, 3] for k in range(4)] if ids else
                                       [f"Say the number {k}." for k in range(4)])  # fmt: skip
            assert ran.records.labels("status").counts() == {"ok": 4}

    def test_the_body_is_the_workload_and_the_users_parameters(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer() as server:
            more = {"parameters": {"temperature": 0.5}}
            self._on(server, generator, tmp_path, [closed(0, 1)], NumberedSessions(1, "exact"), more)
            (served,) = server.served
        assert served.body == {
            "model": "exact", "messages": [{"role": "user", "content": "Say the number 0."}], "max_tokens": 4,
            "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5, "user": "0",
        }  # fmt: skip

    def test_a_conversation_goes_on_with_the_answers(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer() as server:
            workload = {"workload": {"type": "conversation"}}
            schedule = NumberedSessions(3, "exact", turns=3)
            ran = self._on(server, generator, tmp_path, [closed(0, 9, 2)], schedule, workload)
            said = {int(s.body["user"]): s.body["messages"] for s in server.served}
            assert server.most_at_once == 2
        assert sorted(ran.records.ints("request_id").tolist()) == list(range(9))
        assert [len(said[k]) for k in range(9)] == [1, 3, 5] * 3
        assert said[5][1] == {"role": "assistant", "content": "word word word word "}
        assert (_by_id(ran.records).ints("turn") == np.tile(np.arange(3), 3)).all()

    def test_without_streaming_there_are_no_token_times(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer() as server:
            stage = closed(0, 4, streaming=False)
            ran = self._on(server, generator, tmp_path, [stage], NumberedSessions(4, "exact"), {"streaming": False})
            assert all(s.body["stream"] is False for s in server.served)
        assert ran.records.labels("status").counts() == {"ok": 4}
        assert (ran.records.ints("first_token") == MISSING).all()
        assert (ran.records.ints("output_tokens") == 4).all()
        assert not ran.records.bools("streaming").any()

    def test_an_api_key_is_used_and_left_nowhere(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer(api_key=KEY) as server:
            ran = self._on(server, generator, tmp_path, [closed(0, 4)], NumberedSessions(4, "exact"))
        assert ran.records.labels("status").counts() == {"ok": 4}
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or KEY.encode() not in file.read_bytes()

    def test_an_adaptive_source_is_told_of_each_stage(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer() as server:
            stages = [closed(0, 8), closed(1, 8)]
            ran = self._on(server, generator, tmp_path, stages, NumberedSessions(8, "exact"), adaptive=True)
        assert [(o.sent, o.succeeded, o.failed) for o in ran.outcomes] == [(8, 8, 0)] * 2
        assert all(o.requests_per_second > 0 and o.ttft_p50 for o in ran.outcomes)

    def test_its_numbers_are_the_servers(self, generator: LoadGenerator, tmp_path: Path) -> None:
        with ExactServer(ttft=0.05, itl=0.01) as server:
            ran = self._on(server, generator, tmp_path, [closed(0, 24, 2)], NumberedSessions(24, "exact"))
            truth = {int(s.body["user"]): s for s in server.served}
        records = _by_id(ran.records)
        assert (records.ints("output_tokens") == 4).all()
        assert (records.ints("input_tokens") == 7).all()
        assert records.labels("output_source").counts() == {"usage": 24}
        first, sent = records.ints("first_token"), records.ints("sent")
        on_wire, gaps = [], []
        for k in range(24):
            served = truth[k]
            on_wire.append((first[k] - ran.clock_offset - served.chunks[0]) / 1e6)
            on_wire.append((served.received - (sent[k] - ran.clock_offset)) / 1e6)
            theirs = np.diff(np.asarray(served.chunks)) / 1e6
            gaps += (np.diff(records.ragged("chunk_times").row(k)) / 1e3 - theirs).tolist()
        assert min(on_wire) > -1.0  # nothing is received before it was sent
        assert np.median(on_wire) < self.accuracy_ms
        assert np.median(np.abs(gaps)) < self.accuracy_ms

    def _run(
        self, generator: LoadGenerator, endpoint: Endpoint, folder: Path, *, stages: int, count: int, **more: Any
    ) -> Outcome:
        loads = [closed(i, count) for i in range(stages)]
        schedule = NumberedSessions(count, endpoint.model or "")
        config = {"concurrency": 4, "num_requests": count, "native": dict(self.native)}
        return run(generator, endpoint, folder, loads, schedule, config=config, **more)

    def _on(
        self,
        server: ExactServer,
        generator: LoadGenerator,
        folder: Path,
        stages: list[Stage],
        schedule: NumberedSessions,
        config: Mapping[str, Any] | None = None,
        *,
        drain_s: float = 5.0,
        adaptive: bool = False,
    ) -> Outcome:
        keys = {"native": dict(self.native), **(config or {})}
        return run(
            generator, server.endpoint, folder, stages, schedule, config=keys, drain_s=drain_s, adaptive=adaptive
        )


def _by_id(records: Records) -> Records:
    order = np.argsort(records.ints("request_id"))
    return Records({k: v[order] if isinstance(v, np.ndarray) else v.take(order) for k, v in records.columns.items()})
