"""runs list, show, export and delete on real run folders."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.e2e.command import bench, sets
from tests.support.openai_server import OpenAIServer


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of different names, in ./results."""
    folder = tmp_path_factory.mktemp("results")
    with OpenAIServer(ttft=0.01, itl=0.002) as server:
        for name in ("first", "second"):
            load = sets(concurrency=2, num_requests=8, input_length=8, output_length=4)
            bench("run", "--url", server.url, *load, "--set", f"metadata.name={name}",
                  "--set", "metadata.labels.team=a", "--fail-on", "none", cwd=folder)  # fmt: skip
    return folder


def listed(folder: Path, *options: str) -> list[dict[str, object]]:
    done = bench("runs", "list", "--json", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_list_shows_what_is_there_and_filters(results: Path) -> None:
    both = listed(results)
    assert [r["name"] for r in both] == ["second", "first"]
    assert [r["name"] for r in listed(results, "--name", "f*", "--label", "team=a", "--since", "1h")] == ["first"]
    assert listed(results, "--label", "team=b") == []
    truth = json.loads((Path(str(both[0]["path"])) / "result.json").read_text())
    ttft = both[0]["stages"][0]["metrics"]["ttft.p50"]["value"]  # type: ignore[index]
    assert ttft == truth["stages"][0]["metrics"]["ttft"]["percentiles"]["p50"]["value"]
    table = bench("runs", "list", cwd=results)
    assert "first" in table.stdout
    assert str(both[1]["run_id"]) in table.stdout


def test_show_takes_the_beginning_of_an_id(results: Path) -> None:
    run = str(listed(results, "--name", "first")[0]["run_id"])
    done = bench("runs", "show", run[:-2], cwd=results)
    assert done.returncode == 0, done.stderr
    assert "TTFT" in done.stdout
    assert run in done.stdout
    unclear = bench("runs", "show", "2", cwd=results)
    assert unclear.returncode != 0
    assert "means 2 runs" in unclear.stderr


def test_export_writes_the_metrics_and_the_folders(results: Path, tmp_path: Path) -> None:
    assert bench("runs", "export", "-o", tmp_path / "all.csv", cwd=results).returncode == 0
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["name"] for r in rows} == {"first", "second"}
    assert any(r["metric"] == "ttft.mean" and r["unit"] == "s" and float(r["value"]) > 0 for r in rows)
    assert bench("runs", "export", "-o", tmp_path / "one.zip", "--name", "first", cwd=results).returncode == 0
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        archive.extractall(tmp_path / "out")
    folder = next((tmp_path / "out").iterdir())
    before = json.loads((folder / "result.json").read_text())
    assert bench("analyze", folder, cwd=tmp_path).returncode == 0
    assert json.loads((folder / "result.json").read_text())["stages"] == before["stages"]
    wrong = bench("runs", "export", "-o", tmp_path / "all.doc", cwd=results)
    assert wrong.returncode == 2
    assert ".csv" in wrong.stderr


def test_delete_asks_and_deletes(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    run = Path(str(listed(copy, "--name", "first")[0]["path"]))
    kept = bench("runs", "delete", run.name, cwd=copy, stdin="n\n")
    assert kept.returncode != 0
    assert run.is_dir()
    gone = bench("runs", "delete", run.name, "--yes", cwd=copy)
    assert gone.returncode == 0, gone.stderr
    assert not run.exists()
    assert [r["name"] for r in listed(copy)] == ["second"]
