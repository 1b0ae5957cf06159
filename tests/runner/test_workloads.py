"""Mistakes in workloads and their files are said before a server is started or asked, with their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_d_benchmark.config.layers import LoadedConfig, load_config
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.schedule import Shard
from llm_d_benchmark.runner.dryrun import plan
from llm_d_benchmark.runner.prepare import check_workloads
from llm_d_benchmark.runner.run import preflight
from llm_d_benchmark.workload.replay import needs_text

PLACE = r"c.yaml:\d+: spec.benchmark.load_generators.0.config"


def loaded(load: dict[str, Any], folder: Path) -> LoadedConfig:
    file = folder / "c.yaml"
    spec = {"target": {"existing": {"url": "http://127.0.0.1:9"}}, "benchmark": {"load_generators": [
        {"type": "native", "config": load}]}}  # fmt: skip
    file.write_text(yaml.safe_dump({"spec": spec}, sort_keys=False))
    return load_config([file], env={})


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"workload": {"type": "synthethic"}}, r"\.workload: no workload 'synthethic'"),
        ({"workload": {"type": "conversation", "tunrs": 5}}, r"\.workload: .* no key 'tunrs'; did you mean 'turns'"),
        ({"workload": {"type": "dataset", "path": "{}/bad.jsonl"}}, r"\.workload: .*bad.jsonl:2: none of prompt"),
        ({"workload": {"type": "dataset", "path": "{}/empty.jsonl"}}, r"\.workload: .*empty.jsonl holds no rows"),
        ({"workload": {"type": "trace", "path": "{}/none.csv"}, "arrival": "trace"}, r".*none.csv does not exist"),
        ({"arrival": "trace"}, r": arrival 'trace' needs a workload with times"),
        ({"native": {"recever": "python"}}, r": the native generator has no key of its own named recever"),
    ],
)
def test_a_mistake_is_told_with_its_place(load: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    (tmp_path / "empty.jsonl").touch()
    if "path" in load.get("workload", {}):
        load = {**load, "workload": {**load["workload"], "path": load["workload"]["path"].format(tmp_path)}}
    with pytest.raises(ConfigError, match=PLACE + message):
        preflight(loaded(load, tmp_path))


def test_what_a_file_is_short_of_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('[{"conversations": []}, {"prompt": "a"}]')
    config = loaded({"workload": {"type": "dataset", "path": str(tmp_path / "d.json")}}, tmp_path)
    assert [f.code for f in check_workloads(config)] == ["rows_left_out"]
    assert check_workloads(config, read=False) == []


def test_a_conversation_is_text_also_where_a_schedule_holds_it(tmp_path: Path) -> None:
    head = '# prompts: {"stages": [0], "workload": {"type": "%s"}}\nrequest_id,stage\n'
    for kind in ("conversation", "shared_prefix"):
        (tmp_path / kind).with_suffix(".csv").write_text(head % kind)
        options = {"type": "trace", "path": str(tmp_path / f"{kind}.csv")}
        assert needs_text(options) is needs_text({"type": kind}) is (kind == "conversation")


def test_the_plan_of_conversations_counts_their_turns(tmp_path: Path) -> None:
    turns = {"distribution": "uniform", "min": 2, "max": 4}
    load = {"request_rate": 2, "duration": 10, "workload": {"type": "conversation", "turns": turns}}
    assert plan(loaded(load, tmp_path), Shard()).requests == pytest.approx(60, rel=0.05)
