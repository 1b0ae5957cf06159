"""A simulated deployment is made to suffer from one thing at a time, and the run says from which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.command import LENIENT, bench, result_of, sets

LOAD = {"duration": 4, "input_length": 256, "output_length": 64}


def diagnosed(tmp_path: Path, load: dict[str, object], **server: object) -> dict[str, dict[str, Any]]:
    knobs = [x for k, v in server.items() for x in ("--set", f"spec.target.simulator.{k}={json.dumps(v)}")]
    done = bench(
        "run", "--target", "simulator", *knobs, *sets(**{**LOAD, **load}), *LENIENT, "-o", tmp_path, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return {c["claim"]: c for c in result_of(tmp_path)["diagnosis"]}


def test_a_queue_is_found_with_its_length(tmp_path: Path) -> None:
    claims = diagnosed(tmp_path, {"concurrency": 16}, max_num_seqs=2, max_num_batched_tokens=2048)
    claim = claims["requests waited in the server's queue"]
    assert claim["confidence"] == "high"
    assert any("server_waiting 1" in e for e in claim["evidence"])
    assert "max-num-seqs" in claim["advice"]


def test_a_full_cache_is_found_with_its_preemptions(tmp_path: Path) -> None:
    claims = diagnosed(tmp_path, {"concurrency": 16, "output_length": 400}, num_gpu_blocks=160, max_model_len=2000)
    claim = claims["the KV cache was full"]
    assert claim["confidence"] == "high"
    assert any(e.startswith("preemptions") for e in claim["evidence"])


def test_an_idle_server_is_said_to_decode(tmp_path: Path) -> None:
    claims = diagnosed(tmp_path, {"concurrency": 1})
    assert claims["decoding took most of a request's time"]["confidence"] == "high"
    assert "the KV cache was full" not in claims
    assert "requests waited in the server's queue" not in claims


def test_without_the_servers_metrics_it_is_less_sure(tmp_path: Path) -> None:
    loads = sets(**{**LOAD, "concurrency": 1})
    done = bench("run", "--target", "simulator", "--set", "spec.collectors.scrape=[]", *loads, *LENIENT, "-o", tmp_path,
                 cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    claims = {c["claim"]: c for c in result_of(tmp_path)["diagnosis"]}
    claim = claims["decoding took most of a request's time"]
    assert claim["confidence"] == "medium"
    assert "client" in claim["evidence"][0]
