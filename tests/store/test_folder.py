"""Run folders: written while the run goes on, read back whatever happened."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest

from llm_d_benchmark.analyze.run import analyze
from llm_d_benchmark.config.layers import load_config, load_resolved
from llm_d_benchmark.domain.errors import StoreError
from llm_d_benchmark.domain.events import Event, EventType
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.domain.result import Measured
from llm_d_benchmark.store.files import write_text_anywhere
from llm_d_benchmark.store.folder import RunFolder, run_input
from llm_d_benchmark.store.parquet import read_records, write_records
from llm_d_benchmark.store.result_json import from_json, make_schema, published_schema, to_json
from llm_d_benchmark.store.writer import RunWriter, new_run_id
from tests.support.records import make_manifest, make_records, stage_events
from tests.support.records import run_input as make_input

OVER = Event(EventType.PHASE, 0, {"phase": "benchmark", "state": "end"})


async def written(
    output: Path, records: Records, events: Sequence[Event] = tuple(stage_events(20)), **manifest: object
) -> RunFolder:
    config = load_config([], env={}, overrides={"spec": {"target": {"type": "local"}}})
    writer = RunWriter.create(output, name="t", config_yaml=config.to_yaml(), manifest=make_manifest(**manifest))
    for event in [*events, OVER]:
        writer.event(event)
    await writer.append(records)
    await writer.close("ok")
    return RunFolder.open(writer.path)


async def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = await written(tmp_path, make_records(200))
    assert folder.complete
    assert sum(map(len, folder.parts())) == 200
    manifest = folder.manifest
    assert manifest["status"] == "ok"
    assert all(len(digest) == 64 for digest in manifest["files"].values())
    assert {"config.yaml", "events.jsonl", "records/part-00000.parquet"} <= set(manifest["files"])
    result = analyze(run_input(folder, load_resolved(folder.config_text)))
    folder.write_result(result)
    assert to_json(folder.result()) == to_json(result)


def test_a_writer_killed_in_mid_run_leaves_a_readable_folder(tmp_path: Path) -> None:
    program = f"""
        import asyncio, os, signal
        from pathlib import Path
        from llm_d_benchmark.store.writer import RunWriter
        from tests.support.records import make_manifest, make_records, stage_events
        async def main():
            w = RunWriter.create(Path({str(tmp_path)!r}), name="t", config_yaml="a: 1", manifest=make_manifest())
            for e in stage_events(20): w.event(e)
            await w.append(make_records(100)); await w.flush()
            await w.append(make_records(50))
            (w.path / "records" / "part-00001.parquet.partial").write_bytes(b"half")
            with (w.path / "events.jsonl").open("a") as f: f.write('{{"time": 1, "ty')
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
    """
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=root, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    (path,) = tmp_path.iterdir()
    folder = RunFolder.open(path)
    assert not folder.complete
    assert folder.manifest["status"] == "running"
    assert sum(map(len, folder.parts())) == 100
    assert folder.events[-1].type is EventType.STAGE_END


async def test_secrets_are_not_written(tmp_path: Path) -> None:
    secret = 's3cret"\\välue'
    writer = RunWriter.create(tmp_path, name="t", config_yaml=f"k: {secret}", manifest={"c": secret}, secrets=[secret])
    writer.event(Event(EventType.LOG, 1, {"line": f"Bearer {secret}"}))
    failed = make_records(2, error=f"no such key: {secret}")
    await writer.append(Records.concat([failed, make_records(1, error="refused"), make_records(1)]))
    writer.log_dir.mkdir()
    (writer.log_dir / "server.log").write_text(f"first\ngot {secret}\nlast\n")
    await writer.close("ok")
    for path in writer.path.rglob("*"):
        assert path.is_dir() or not re.search("s3cret|lue", path.read_text(errors="replace")), path
    assert (writer.log_dir / "server.log").read_text() == "first\ngot ***\nlast\n"
    (part,) = RunFolder.open(writer.path).parts()
    assert part.labels("error").to_list() == ["no such key: ***", "no such key: ***", "refused", None]


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    for make in (
        lambda: RunWriter.create(tmp_path / "out", name="t", config_yaml="", manifest={}),
        lambda: write_text_anywhere(tmp_path / "out" / "plan.json", "{}"),
    ):
        with pytest.raises(StoreError) as caught:
            make()
        assert "a file is in the way" in str(caught.value.advice)


async def test_records_that_could_not_be_written_are_tried_again(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, name="t", config_yaml="a: 1", manifest=make_manifest())
    (writer.path / "records").rename(writer.path / "away")
    await writer.append(make_records(5))
    with pytest.raises(StoreError):
        await writer.flush()
    (writer.path / "away").rename(writer.path / "records")
    await writer.close("ok")
    assert sum(map(len, RunFolder.open(writer.path).parts())) == 5


def test_damage_inside_a_part_names_the_part(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_records(make_records(500), path)
    data = bytearray(path.read_bytes())
    data[200:2000] = b"\xff" * 1800
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"x\.parquet"):
        list(read_records(path))


def test_a_wrong_path_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        RunFolder.open(tmp_path / "x")
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / "manifest.json").write_text("{}")
    with pytest.raises(StoreError) as caught:
        RunFolder.open(tmp_path)
    assert "run-1" in str(caught.value.advice)
    (tmp_path / "run-1" / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        _ = RunFolder.open(tmp_path / "run-1").manifest


def test_run_ids_sort_by_time_and_differ() -> None:
    assert new_run_id("My Run!") != new_run_id("My Run!")
    assert "my-run" in new_run_id("My Run!")


def test_the_result_round_trips_and_fits_its_schema() -> None:
    result = analyze(make_input([make_records(400)], stage_events(40)))
    assert to_json(from_json(to_json(result))) == to_json(result)
    jsonschema.validate(json.loads(to_json(result)), json.loads(published_schema()))


def test_the_published_schema_is_that_of_the_types() -> None:
    assert json.loads(published_schema()) == make_schema()


def test_a_result_never_holds_nan() -> None:
    result = analyze(make_input([make_records(50)], stage_events(5)))
    object.__setattr__(result, "slo_score", Measured(float("nan"), "fraction"))
    with pytest.raises(ValueError):
        to_json(result)
    with pytest.raises(StoreError, match="schema"):
        from_json("{}")


async def test_a_quiet_server_does_not_keep_records_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_d_benchmark.store.writer.PART_AGE_S", 0.2)
    writer = RunWriter.create(tmp_path, name="t", config_yaml="a: 1", manifest=make_manifest())
    await writer.append(make_records(5))
    await asyncio.sleep(0.6)
    assert len(list((writer.path / "records").glob("*.parquet"))) == 1
    await writer.close("ok")


async def test_a_damaged_part_is_told_also_where_no_event_was_written(tmp_path: Path) -> None:
    folder = await written(tmp_path, make_records(100))
    (folder.path / "records" / "part-00007.parquet").write_bytes(b"PAR1 torn")
    (folder.path / "events.jsonl").write_text("")
    result = analyze(run_input(folder, load_resolved(folder.config_text)))
    assert result.status == "partial"
    assert "damaged_part" in {f.code for f in result.findings}


async def test_a_part_that_is_not_whole_is_left_out_and_told(tmp_path: Path) -> None:
    folder = await written(tmp_path, make_records(100))
    (folder.path / "records" / "part-00007.parquet").write_bytes(b"PAR1 torn")
    (folder.path / "events.jsonl").open("a").write("5\n")
    result = analyze(run_input(folder, load_resolved(folder.config_text)))
    assert result.status == "partial"
    assert result.requests.sent == 100
    assert [f.code for f in result.findings if f.code == "damaged_part"] == ["damaged_part"]
