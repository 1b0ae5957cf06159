"""Shards joined by their records give the metrics of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llm_d_benchmark.analyze.run import analyze
from llm_d_benchmark.analyze.windows import stage_windows
from llm_d_benchmark.config.layers import load_resolved
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.result import Measured, RunResult
from llm_d_benchmark.domain.samples import Samples, Series
from llm_d_benchmark.store.folder import RunFolder, run_input
from llm_d_benchmark.store.merge import merge
from llm_d_benchmark.store.samples import write_samples
from tests.store.test_folder import written
from tests.support.records import START, make_records, stage_events


def shard_of(whole: Records, index: int, count: int) -> Records:
    mask = whole.ints("request_id") % count == index
    part = whole.where(mask)
    return Records({**part.columns, "shard": np.full(len(part), index, np.int64)})


async def shards(
    tmp_path: Path, whole: Records, count: int, *, concurrency: int | None = None, **manifest: object
) -> list[RunFolder]:
    events = stage_events(20, concurrency=concurrency)
    return [
        await written(
            tmp_path / f"s{i}", shard_of(whole, i, count), events, shard={"index": i, "count": count}, **manifest
        )
        for i in range(count)
    ]


def result_of(folder: RunFolder) -> RunResult:
    return analyze(run_input(folder, load_resolved(folder.config_text)))


async def test_the_merged_metrics_are_those_of_the_whole(tmp_path: Path) -> None:
    whole = make_records(600, rate=30.0, failed=20)
    single = result_of(await written(tmp_path / "whole", whole))
    path = await merge_(await shards(tmp_path, whole, 3), tmp_path / "m")
    merged = result_of(RunFolder.open(path))
    assert merged.status == single.status
    assert merged.stages[0].metrics == single.stages[0].metrics
    assert merged.requests == single.requests
    assert {w.worker for w in merged.validity.workers} == {"0/0", "1/0", "2/0"}


async def test_a_part_of_the_shards_is_held_against_its_part_of_the_rate(tmp_path: Path) -> None:
    folders = await shards(tmp_path, make_records(600, rate=30.0), 3)
    one, two = folders[0], RunFolder.open(await merge_(folders[:2], tmp_path / "m"))
    (planned,) = {e.data["load"]["rate"] for e in one.events if e.type is EventType.STAGE_START}
    for folder, share in ((one, 1 / 3), (two, 2 / 3)):
        result = result_of(folder)
        assert result.stages[0].metrics.requested_rate == Measured(planned * share, "requests/s")
        assert "rate_not_reached" not in {f.code for f in result.findings}


async def test_shards_of_a_capped_load_have_as_much_of_its_rate_as_of_its_cap(tmp_path: Path) -> None:
    folders = await shards(tmp_path, make_records(600, rate=30.0), 3, concurrency=4)
    one, two = folders[0], RunFolder.open(await merge_(folders[1:], tmp_path / "m"))
    (planned,) = {e.data["load"]["rate"] for e in one.events if e.type is EventType.STAGE_START}
    for folder in (one, two):
        assert result_of(folder).stages[0].metrics.requested_rate == Measured(planned / 2, "requests/s")


async def merge_(folders: list[RunFolder], output: Path) -> Path:
    import asyncio

    return await asyncio.to_thread(merge, folders, output)


async def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folders = await shards(tmp_path, make_records(90), 3)
    path = await merge_([folders[0], folders[2]], tmp_path / "m")
    merged = result_of(RunFolder.open(path))
    assert list(merged.missing_shards) == [1]
    assert merged.status == "partial"
    assert set(RunFolder.open(path).manifest["merged_from"]) == {"0", "2"}


async def test_time_series_are_those_of_one_shard_and_a_finding_says_where_the_others_are(tmp_path: Path) -> None:
    """All shards watch one server: its totals would count twice."""
    folders = await shards(tmp_path, make_records(90), 3)
    for folder in folders[1:]:
        (folder.path / "samples").mkdir()
        series = Series("http://server/metrics", "vllm:num_requests_running")
        rows = [(i * 1_000_000_000, series, 1.0) for i in range(5)]
        write_samples(Samples.from_rows(rows), folder.path / "samples" / "part-00001.parquet")
    merged = RunFolder.open(await merge_(folders, tmp_path / "m"))
    assert sum(map(len, merged.samples())) == 5
    assert "samples/shard-001-part-00001.parquet" in merged.manifest["files"]
    (finding,) = [e.data for e in merged.events if e.data.get("code") == "samples_of_one_shard"]
    assert "shard 1" in finding["message"]
    assert str(folders[2].path) in finding["advice"]


async def test_the_merged_events_tell_which_load_generator_had_a_stage(tmp_path: Path) -> None:
    """Of shards whose generators began at different times, too: the first one to begin comes second here."""
    folders = []
    for shard, late in enumerate((3_000_000_000, 0)):
        events: list[Event] = []
        for index in range(2):
            start = START + late + index * 10_000_000_000
            events.append(Event(EventType.GENERATOR_START, start - 1, {"generator": "native", "index": index}))
            events += stage_events(5, index=index, start=start)
        part = {"index": shard, "count": 2}
        folders.append(await written(tmp_path / f"s{shard}", shard_of(make_records(60), shard, 2), events, shard=part))
    merged = RunFolder.open(await merge_(folders, tmp_path / "m"))
    windows = stage_windows(run_input(merged, load_resolved(merged.config_text)))
    assert [(w.index, w.position) for w in windows] == [(0, 0), (1, 1)]
    assert [e.data["index"] for e in merged.events if e.type is EventType.GENERATOR_START] == [0, 1]


async def test_what_is_no_set_of_shards_is_refused(tmp_path: Path) -> None:
    records = make_records(30)
    folders = await shards(tmp_path, records, 2)
    with pytest.raises(ConfigError, match="same shard"):
        await merge_([folders[0], folders[0]], tmp_path / "m")
    other = await written(tmp_path / "o", records, shard={"index": 1, "count": 2}, config_digest="other")
    with pytest.raises(ConfigError, match="configuration"):
        await merge_([folders[0], other], tmp_path / "m")
    alone = await written(tmp_path / "p", records)
    with pytest.raises(ConfigError, match="not one shard of several"):
        await merge_([alone], tmp_path / "m")
    with pytest.raises(ConfigError, match="nothing to merge"):
        await merge_([], tmp_path / "m")
