"""``llm-d-benchmark capacity`` as a user calls it: from published figures, from runs, and memory sizing."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import jsonschema
import pytest

from llm_d_benchmark.domain.capacity import CapacityPlan
from llm_d_benchmark.store.comparison_json import from_json, published_schema, to_json

from .command import bench

ROOT = Path(__file__).parents[2]
MISSION = ROOT / "examples" / "mission"
RUN = """
metadata: {name: measured}
spec:
  target: {type: simulator, simulator: {profile: llama-3.1-8b/h100}}
  benchmark:
    duration: 20s
    warmup: 5s
    load_generators:
      - type: native
        config: {arrival: poisson, input_length: 300, output_length: 60, seed: 3,
                 stages: [{request_rate: 4}, {request_rate: 15}, {request_rate: 35},
                          {request_rate: 60}, {request_rate: 80}]}
"""
PLAN = """
spec:
  prices: {gpu_hour: 2.0}
  performance_targets: {slos: [{name: p95_ttft, target: "<300ms"}]}
  capacity_planning:
    scenarios: [{name: peak, multiplier: 2}, {name: out, target_throughput: 1000000, max_replicas: 3}]
"""


def test_the_missions_block_runs_as_it_stands(tmp_path):
    done = bench("capacity", "-c", MISSION / "advanced_config.yaml", "-o", "plan", "--no-check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "from published figures (a roofline), not measured" in done.stdout
    text = (tmp_path / "plan" / "capacity.json").read_text()
    plan = json.loads(text)
    jsonschema.validate(plan, json.loads(published_schema(CapacityPlan)))
    assert to_json(from_json(text, CapacityPlan)) == text
    assert [r["scenario"] for r in plan["requirements"]] == ["peak_load", "steady_state", "scale_out"]
    assert all(r["feasible"] for r in plan["requirements"])
    assert plan["requirements"][0]["rate"] == pytest.approx(2 * plan["requirements"][1]["rate"])
    assert plan["requirements"][2]["output_tokens_per_second"] == pytest.approx(1000)
    for name in ("capacity_matrix", "scaling_curves", "cost_projections"):
        rows = list(csv.DictReader((tmp_path / "plan" / f"{name}.csv").open()))
        assert len(rows) == len(json.loads((tmp_path / "plan" / f"{name}.json").read_text())) > 0
    page = (tmp_path / "plan" / "capacity.html").read_text()
    assert "default-src 'none'" in page
    assert 'src="http' not in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))  # a chart draws into the element of its id


def test_the_missions_use_cases_choose_what_is_made(tmp_path):
    done = bench("capacity", "-c", MISSION / "capacity_planning.yaml", "--no-check", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["outputs"] == ["capacity_matrix", "scaling_curves", "cost_projections"]
    assert plan["recovery"]
    assert any("no scenarios are given" in a for a in plan["assumptions"])


def test_a_plan_from_runs_is_checked_by_the_simulator(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "plan.yaml").write_text(PLAN)
    ran = bench("simulator", "run", "-c", "run.yaml", "-o", "results", "--progress", "none", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    done = bench("capacity", "-c", "plan.yaml", "--runs", "results", "-o", "plan", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan" / "capacity.json").read_text())
    (option,) = plan["options"]
    assert option["basis"] == "fitted"
    assert option["error"]["value"] < 0.06
    jsonschema.validate(plan, json.loads(published_schema(CapacityPlan)))
    peak, out = plan["requirements"]
    assert peak["check"]["agrees"], peak["check"]
    assert peak["rate"] == pytest.approx(2 * plan["base_rate"])
    assert peak["cost"]["hour"]["value"] == pytest.approx(2.0 * peak["replicas"])
    assert peak["slos"][0]["bound"]["value"] >= peak["slos"][0]["value"]["value"]
    assert not out["feasible"]
    assert "max_replicas is 3" in out["reason"]
    assert "infeasible: out on measured" in done.stdout


def test_too_few_levels_are_refused(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN.replace("{request_rate: 60}, {request_rate: 80}", ""))
    (tmp_path / "plan.yaml").write_text(PLAN)
    bench("simulator", "run", "-c", "run.yaml", "-o", "results", "--progress", "none", cwd=tmp_path)
    done = bench("capacity", "-c", "plan.yaml", "--runs", "results", cwd=tmp_path)
    assert done.returncode == 2
    assert "at least 4 levels of load" in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_are_explained(tmp_path):
    assert "nothing to plan for" in bench("capacity", cwd=tmp_path).stderr
    done = bench("capacity", "--set", "spec.capacity_planning.hardware=[{profile: llama-3.1-8b/h10}]", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown hardware 'h10'" in done.stderr


def test_memory(tmp_path):
    done = bench("capacity", "memory", "--model", "llama-3.1-70b", "--gpu", "H100", "--tp", "4", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["gpus"].values()
    assert found["kv_tokens"] == pytest.approx(479_428, rel=0.02)
    small = bench("capacity", "memory", "--model", "llama-3.1-70b", "--gpu", "l4", "--tp", "1", cwd=tmp_path)
    assert small.returncode == 3
    assert "does not fit" in small.stdout
    assert bench("capacity", "memory", "--model", "nothing", cwd=tmp_path).returncode == 2
