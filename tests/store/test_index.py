"""The index finds what is on disk, whoever else is writing it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm_d_benchmark.domain.errors import ConfigError, StoreError
from llm_d_benchmark.store.filter import RunFilter
from llm_d_benchmark.store.index import FILE, RunIndex

CONFIG = "apiVersion: llm-d.io/v1alpha1\nkind: BenchmarkConfig\nmetadata:\n  labels: {team: %s}\nspec: {}\n"


def make_run(
    root: Path, number: int, *, status: str = "ok", model: str = "m-1b", team: str = "a", p99: float = 0.25
) -> Path:
    """A run folder with the parts the index reads."""
    folder = root / f"2026-{number:05}"
    (folder / "records").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG % team)
    target = {"type": "existing", "model": model, "server": "vLLM", "fingerprint": "f", "url": "u"}
    manifest = {"run_id": folder.name, "tool_version": "0", "config_digest": "d", "started": number, "target": target}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ttft = {"unit": "s", "count": 5, "mean": 0.2, "sd": 0.1, "min": 0.1, "max": 0.3,
            "percentiles": {"p99": {"value": p99, "insufficient": True}}}  # fmt: skip
    metrics = {"ttft": ttft, "goodput": {"absent": "no limits"}, "requests_per_second": {"value": 4.0, "unit": "1/s"}}
    stage = {"index": 0, "name": "s", "load_generator": "native", "label": "c=4", "window": {"seconds": 9.0}}
    slos = [{"verdict": "pass"}, {"verdict": "fail"}]
    result = {"name": f"run {number}", "status": status, "simulated": False, "started": number, "ended": number + 9,
              "target": target, "requests": {"sent": 5, "failed": 1},
              "slos": slos, "stages": [{**stage, "metrics": metrics}]}  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgresql"))


def ids(root: Path, url: str | None, **wanted: object) -> list[str]:
    with RunIndex(root, url) as index:
        index.sync()
        return [r.run_id for r in index.runs(RunFilter(**wanted))]  # type: ignore[arg-type]


def test_it_follows_the_folders(tmp_path: Path, url: str | None) -> None:
    first, second = make_run(tmp_path, 1), make_run(tmp_path / "deeper", 2)
    assert ids(tmp_path, url) == ["2026-00002", "2026-00001"]  # latest first
    make_run(tmp_path, 3)
    shutil.rmtree(first)
    result = json.loads((second / "result.json").read_text())
    (second / "result.json").write_text(json.dumps({**result, "status": "invalid"}))
    with RunIndex(tmp_path, url) as index:
        assert index.sync() == 2
        assert index.sync() == 0
        assert [(r.run_id, r.status) for r in index.runs()] == [("2026-00003", "ok"), ("2026-00002", "invalid")]
        before = index.runs(stages=True)
        assert index.rebuild() == 2
        assert index.runs(stages=True) == before


def test_what_it_keeps_of_a_run(tmp_path: Path, url: str | None) -> None:
    folder = make_run(tmp_path, 7, p99=0.5, team="b")
    with RunIndex(tmp_path, url) as index:
        index.sync()
        run = index.resolve("2026-0")
    assert (run.path, run.model, run.requests, run.failed, run.slos) == (folder, "m-1b", 5, 1, "fail")
    assert run.labels == {"team": "b"}
    assert run.stages[0].load == "c=4"
    assert run.stages[0].metrics["ttft.p99"] == (0.5, "s")
    assert run.stages[0].metrics["requests_per_second"] == (4.0, "1/s")
    assert "goodput" not in run.stages[0].metrics  # absent is not 0


def test_filters(tmp_path: Path, url: str | None) -> None:
    make_run(tmp_path, 1)
    make_run(tmp_path, 2, status="invalid", model="llama-8b")
    make_run(tmp_path, 3, team="b", model="llama-70b")
    assert ids(tmp_path, url, model="llama*") == ["2026-00003", "2026-00002"]
    assert ids(tmp_path, url, status="invalid") == ["2026-00002"]
    assert ids(tmp_path, url, labels=(("team", "b"),)) == ["2026-00003"]
    assert ids(tmp_path, url, since=2, until=3) == ["2026-00002"]
    assert ids(tmp_path, url, name="run 1") == ["2026-00001"]
    assert ids(tmp_path, url, generator="native", target="existing", simulated=False, model="m*") == ["2026-00001"]
    assert ids(tmp_path, url, generator="fmperf") == []


def test_a_folder_beside_is_not_meant(tmp_path: Path, url: str | None) -> None:
    make_run(tmp_path / "results", 1)
    make_run(tmp_path / "results2", 2)
    assert ids(tmp_path, url) == ["2026-00002", "2026-00001"]
    assert ids(tmp_path / "results", url) == ["2026-00001"]


def test_many_writers_at_once_leave_it_right(tmp_path: Path, url: str | None) -> None:
    for number in range(60):
        make_run(tmp_path, number)
    code = (
        "import sys; from pathlib import Path; from llm_d_benchmark.store.index import RunIndex\n"
        "with RunIndex(Path(sys.argv[1]), sys.argv[2] or None) as i: i.sync(); i.rebuild()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), url or ""]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(5)]
    said = [w.communicate(timeout=120) for w in writers]
    assert [w.returncode for w in writers] == [0] * 5, said
    assert len(ids(tmp_path, url)) == 60


def test_tens_of_thousands_of_runs_stay_fast(tmp_path: Path) -> None:
    """Measured against the first time: reading every folder again would take as long."""
    for number in range(3000):
        make_run(tmp_path, number)
    with RunIndex(tmp_path) as index:
        began = time.process_time()
        assert index.sync() == 3000
        first = time.process_time() - began
        began = time.process_time()
        assert index.sync() == 0
        assert len(index.runs(RunFilter(model="m*"), limit=50)) == 50
        assert time.process_time() - began < first / 3


def test_damaged_and_strange_folders_do_not_stop_it(tmp_path: Path) -> None:
    make_run(tmp_path, 1)
    (make_run(tmp_path, 2) / "result.json").write_text("{half")
    (make_run(tmp_path, 3) / "manifest.json").write_text("[]")
    (tmp_path / "other").mkdir()
    with RunIndex(tmp_path) as index:
        index.sync()
        assert [(r.run_id, r.status) for r in index.runs()] == [("2026-00002", "no result"), ("2026-00001", "ok")]


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"):
        RunIndex(tmp_path / "none")
    with pytest.raises(ConfigError, match="not usable"):
        RunIndex(tmp_path, "nonsense")
    with pytest.raises(StoreError, match="cannot be used") as caught:
        RunIndex(tmp_path, "postgresql://u:secret@127.0.0.1:1/x")
    assert "secret" not in caught.value.message
    (tmp_path / FILE).write_text("this is no database" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        RunIndex(tmp_path)
