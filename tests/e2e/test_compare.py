"""llm-d-benchmark compare: real runs side by side, the same numbers in table, CSV, JSON and page."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from llm_d_benchmark.domain.comparison import Comparison
from llm_d_benchmark.report.comparison_table import delta_text, scale_for, value_text
from llm_d_benchmark.store.comparison_json import from_json, published_schema
from tests.e2e.command import LENIENT, bench


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slow and a fast simulated deployment, two loads each."""
    path = tmp_path_factory.mktemp("compare")
    for name, more in (("slow", {"max_num_seqs": 2}), ("fast", {})):
        spec: dict[str, Any] = {
            "target": {"type": "simulator", "simulator": more},
            "benchmark": {
                "duration": "30s",
                "load_generators": [
                    {
                        "type": "virtual",
                        "config": {"stages": [{"concurrency": 2}, {"concurrency": 8}], "output_length": 32},
                    }
                ],
            },
        }
        file = path / f"{name}.yaml"
        file.write_text(json.dumps({"kind": "BenchmarkConfig", "metadata": {"name": name}, "spec": spec}))
        done = bench("run", "-c", str(file), "-o", "runs", *LENIENT, cwd=path)
        assert done.returncode == 0, done.stderr
    return path


def test_table_csv_json_and_page_say_the_same(folder: Path) -> None:
    runs = sorted(map(str, (folder / "runs").iterdir()))
    runs.sort(key=lambda r: "fast" in r)
    shown = bench("compare", *runs, "--csv", "out/c.csv", "-o", "out/c.html", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    told = bench("compare", *runs, "--json", cwd=folder)
    jsonschema.validate(json.loads(told.stdout), json.loads(published_schema(Comparison)))
    found = from_json(told.stdout, Comparison)
    assert found.columns == ["slow", "fast"]
    assert [d.path for d in found.differences] == ["spec.target.simulator.max_num_seqs"]
    rows = list(csv.DictReader((folder / "out/c.csv").read_text().splitlines()))
    page = (folder / "out/c.html").read_text()
    assert [(r["load"], r["metric"]) for r in rows] == [(m.load, m.metric) for m in found.metrics]
    assert {m.load for m in found.metrics} == {"c=2", "c=8"}
    table = " ".join(shown.stdout.split())
    for row, metric in zip(rows, found.metrics, strict=True):
        for name, value in zip(found.columns, metric.values, strict=True):
            assert value is not None
            number = getattr(value.value, "value", None)
            assert row[name] == ("" if number is None else str(number))
            text = f"{value_text(value, scale_for(metric))} {delta_text(value)}"
            assert " ".join(text.split()) in table
            if number is not None:
                assert f'value="{number!r}"' in page
    assert re.search(r"ttft.mean .*-\d+\.\d %", shown.stdout)
    assert 'id="overlay-1-ttft"' in page
    assert 'id="across-loads"' in page
    assert "http-equiv" in page


def test_what_cannot_be_compared_is_told(folder: Path) -> None:
    run = next(iter((folder / "runs").iterdir()))
    one = bench("compare", str(run), cwd=folder)
    assert one.returncode == 2
    assert "two runs or more" in one.stderr
    metric = bench("compare", "runs", "--metrics", "ttfft.p99", cwd=folder)
    assert metric.returncode == 2
    assert "ttft" in metric.stderr
