"""One schedule on several machines: processes stand in for machines here, which share this machine's clock."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.e2e.command import LENIENT, bench, only_run, result_of, sets, start
from tests.support.openai_server import OpenAIServer

LOAD = LENIENT + sets(request_rate=60, arrival="constant", duration="3s", input_length=16, output_length=8)


def shards(count: int, *options: str, server: OpenAIServer, cwd: Path) -> list[Path]:
    """The run folders of all shards of one run."""
    start_at = str(time.time() + 8)  # one instant for all: '+8' would be each process's own
    known = ("--url", server.url, "--start-at", start_at, *options)
    parts = [start("run", "-o", f"part{i}", "--shard", f"{i}/{count}", *known, cwd=cwd) for i in range(count)]
    for part in parts:
        _, err = part.communicate(timeout=60)
        assert part.returncode == 0, err
    return [only_run(cwd / f"part{i}") for i in range(count)]


def test_three_shards_merge_into_one_schedule(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        folders = shards(3, *LOAD, server=server, cwd=tmp_path)
        posts = [r for r in server.requests if "completions" in r.path]
    done = bench("merge", *folders, "-o", "merged", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    merged = json.loads(done.stdout)
    each = [result_of(tmp_path / f"part{i}")["requests"]["sent"] for i in range(3)]
    assert each == [60, 60, 60]
    assert merged["requests"]["sent"] == 180
    assert merged["status"] == "ok"
    assert len(posts) >= 180
    rate = merged["stages"][0]["metrics"]["requests_per_second"]["value"]
    assert 55 < rate < 65
    cv = merged["stages"][0]["metrics"]["sent_gap_cv"]["value"]
    assert cv < 0.5, "the shards interleave on one constant schedule"


def test_every_load_generator_of_all_shards_starts_at_one_time(tmp_path: Path) -> None:
    """The second one starts its workers while the first one's drain time lasts."""
    load = {"concurrency": 2, "input_length": 8, "output_length": 4}
    chats = {"type": "conversation", "turns": 2}
    generators = [{"type": "native", "config": {**load, **more}} for more in ({}, {"workload": chats})]
    own = {"load_generators": generators, "warmup": "0s", "cooldown": "0s", "duration": "0.5s", "drain": "4s"}
    options = [x for k, v in own.items() for x in ("--set", f"spec.benchmark.{k}={json.dumps(v)}")]
    with OpenAIServer() as server:
        folders = shards(2, *LENIENT, *options, server=server, cwd=tmp_path)
    done = bench("merge", *folders, "-o", "merged", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    merged = json.loads(done.stdout)
    assert len(merged["stages"]) == 2
    assert "shard_starts" not in {f["code"] for f in merged["findings"]}
    head, _ = (only_run(tmp_path / "merged") / "schedule.csv").read_text().split("\n", 1)
    assert json.loads(head.removeprefix("# prompts: "))["stages"] == [1]


def test_a_shard_without_a_request_is_not_a_failed_one(tmp_path: Path) -> None:
    load = sets(request_rate=5, num_requests=1, input_length=16, output_length=8)
    with OpenAIServer() as server:
        folders = shards(2, *LENIENT, *load, server=server, cwd=tmp_path)
    idle = result_of(tmp_path / "part1")
    assert (idle["status"], idle["requests"]["sent"]) == ("ok", 0)
    assert "idle_shard" in {f["code"] for f in idle["findings"]}
    assert not {f["code"] for f in idle["findings"]} & {"no_success", "rate_not_reached"}
    merged = json.loads(bench("merge", *folders, "-o", "merged", "--json", cwd=tmp_path).stdout)
    assert (merged["status"], merged["requests"]["succeeded"]) == ("ok", 1)


def test_a_missing_shard_is_named_and_the_result_partial(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        for i in (0, 2):
            bench("run", "--url", server.url, "-o", f"part{i}", "--shard", f"{i}/3", *LOAD, cwd=tmp_path)
    done = bench(
        "merge", str(only_run(tmp_path / "part0")), str(only_run(tmp_path / "part2")), "-o", "m", "--json", cwd=tmp_path
    )
    merged = json.loads(done.stdout)
    assert merged["status"] == "partial"
    assert merged["missing_shards"] == [1]
    wrong = bench("merge", str(only_run(tmp_path / "part0")), "-o", "wrong", "--fail-on", "bogus", cwd=tmp_path)
    assert wrong.returncode == 2
    assert not (tmp_path / "wrong").exists()


def test_a_sweep_cannot_be_sharded(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        done = bench("run", "--url", server.url, "--shard", "0/2", *sets(sweep={"over": "rate"}), cwd=tmp_path)
    assert done.returncode == 2
    assert "sweep" in done.stderr
