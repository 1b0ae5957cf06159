"""llm-d-benchmark trend over run folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from llm_d_benchmark.domain.comparison import History
from llm_d_benchmark.store.comparison_json import published_schema
from tests.e2e.command import LENIENT, bench, only_run


def slowed(value: Any, factor: float) -> Any:
    """A result whose latencies are ``factor`` times as long."""
    if isinstance(value, dict):
        scaled = {k: slowed(v, factor) for k, v in value.items()}
        return {**scaled, "mean": value["mean"] * factor} if value.get("unit") == "s" and "mean" in value else scaled
    return [slowed(v, factor) for v in value] if isinstance(value, list) else value


def test_the_history_of_a_benchmark(tmp_path: Path) -> None:
    sets = [
        "spec.benchmark.load_generators.0={type: virtual, config: {concurrency: 2, output_length: 8}}",
        "spec.benchmark.duration=10s",
        "metadata.name=nightly",
    ]
    done = bench(
        "run", "--target", "simulator", "-o", "one", *LENIENT, *(x for s in sets for x in ("--set", s)), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    first = only_run(tmp_path / "one")
    rng = np.random.default_rng(1)
    for i in range(16):
        copy = tmp_path / "results" / f"run-{i:02}"
        shutil.copytree(first, copy, ignore=shutil.ignore_patterns("records", "*.html"))
        result = slowed(
            json.loads((copy / "result.json").read_text()), float(np.exp(rng.normal(0, 0.01))) * (1.1 if i > 9 else 1)
        )
        result |= {"run_id": copy.name, "started": result["started"] + i * 86400 * 10**9}
        (copy / "result.json").write_text(json.dumps(result))
        config = (copy / "config.yaml").read_text()
        (copy / "config.yaml").write_text(config.replace("labels: {}", f"labels: {{commit: abc{i:02}}}", 1))
    shown = bench(
        "trend", "results", "--by", "commit", "--metrics", "e2e.mean", "-o", "t.html", "--csv", "t.csv", cwd=tmp_path
    )
    assert shown.returncode == 0, shown.stderr
    assert "after abc09, by abc10" in shown.stdout
    assert "worse" in shown.stdout
    assert 'id="history-0-0"' in (tmp_path / "t.html").read_text()
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 17
    told = bench("trend", "results", "--last", "6", "--json", cwd=tmp_path)
    found = json.loads(told.stdout)
    jsonschema.validate(found, json.loads(published_schema(History)))
    assert {len(t["values"]) for t in found["trends"]} == {6}
    none = bench("trend", "results", "--label", "arm=x", cwd=tmp_path)
    assert none.returncode == 2
    assert "no run fits" in none.stderr
