"""Comparing from Python: a regression test of simulated versions, and its runs side by side."""

from __future__ import annotations

from pathlib import Path

import llm_d_benchmark as bench


def test_regress_and_compare(tmp_path: Path) -> None:
    load = {"type": "virtual", "config": {"concurrency": 8, "input_length": 32, "output_length": 16}}
    block = {
        "targets": {"baseline": "simulator", "test": {"simulator": {"max_num_seqs": 2}}},
        "test_suite": ["performance_tests"],
        "min_runs": 2,
        "max_runs": 2,
    }
    overrides = {"spec": {"benchmark": {"duration": 10, "load_generators": [load]}, "regression_testing": block}}
    result = bench.regress(bench.load_config(overrides=overrides), tmp_path)
    assert result.verdict == "fail"
    (study,) = tmp_path.iterdir()
    compared = bench.compare(study)
    assert [len(runs) for runs in compared.runs] == [2, 2]
    assert [d.path for d in compared.differences] == ["spec.target.simulator.max_num_seqs"]
