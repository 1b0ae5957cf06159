"""Loads that are more than single requests one after the other, sent by the virtual clock's own client: calibration
finds the server again, and predicts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_d_benchmark.analyze.api import RunInput
from llm_d_benchmark.config.layers import load_resolved
from llm_d_benchmark.config.simulator import SimulatorTargetConfig
from llm_d_benchmark.domain.errors import ConfigError
from llm_d_benchmark.domain.records import Records
from llm_d_benchmark.simulator.api import StepLoad
from llm_d_benchmark.simulator.calibrate import Calibration, calibrate
from llm_d_benchmark.simulator.profiles import load_profile
from llm_d_benchmark.store.folder import RunFolder, run_input
from tests.e2e.command import bench, only_run, sets

LEVELS = [{"concurrency": users} for users in (1, 4, 16, 48)]
LOADS = [
    StepLoad(decode_seqs=1, decode_context=600),
    StepLoad(decode_seqs=64, decode_context=64 * 600),
    StepLoad(prefill_tokens=512, prefill_pairs=512 * 513 / 2, decode_seqs=16, decode_context=16 * 600),
]


def simulated(folder: Path, *options: str, **load: Any) -> RunInput:
    done = bench("simulator", "run", *sets(**load), *options, "-o", "out", "--fail-on", "none", cwd=folder)
    assert done.returncode == 0, done.stderr
    run = RunFolder.open(only_run(folder / "out"))
    return run_input(run, load_resolved(run.config_text))


def assert_found(found: Calibration, within: float) -> None:
    """The server of these runs is the default of the simulator, without noise."""
    truth = load_profile(SimulatorTargetConfig()).cost
    for load in LOADS:
        assert found.cost.step(load) == pytest.approx(truth.step(load), rel=0.02), load
    assert {q: found.worst(q) for q in ("throughput", "ttft", "tpot") if found.worst(q) > within} == {}


def test_prefixes_that_are_cached_are_context_and_share_their_memory(tmp_path: Path) -> None:
    """48 prompts of 6,000 shared tokens are in a cache that holds eleven of them alone."""
    run = simulated(
        tmp_path,
        "--set",
        "spec.target.simulator.num_gpu_blocks=4096",
        stages=LEVELS,
        duration="8s",
        warmup="3s",
        workload={
            "type": "shared_prefix", "groups": 4, "prefix_length": 6000, "output_length": 64,
            "question_length": {"distribution": "uniform", "min": 32, "max": 256}, "share_across_stages": True,
        },
    )  # fmt: skip
    found = calibrate([run])
    assert_found(found, 0.05)
    assert found.ranges["prompt_tokens"][0] > 6000
    assert found.ranges["computed_prompt_tokens"][0] < 300
    assert found.served.assumed == []


@pytest.mark.parametrize("think_time", ["0s", "2s"])
def test_conversations_pause_where_they_did(tmp_path: Path, think_time: str) -> None:
    run = simulated(
        tmp_path,
        stages=LEVELS,
        duration="30s",
        workload={
            "type": "conversation", "turns": 4, "first_length": 300, "input_length": 80, "output_length": 100,
            "think_time": think_time,
        },
    )  # fmt: skip
    assert_found(calibrate([run]), 0.08)


def test_a_number_of_requests_is_sent_once(tmp_path: Path) -> None:
    run = simulated(
        tmp_path,
        stages=[{**level, "num_requests": 3 * level["concurrency"] + 5} for level in LEVELS],
        input_length=512,
        output_length={"distribution": "uniform", "min": 20, "max": 200},
    )
    assert_found(calibrate([run]), 0.05)


def test_levels_that_never_overlap_are_no_levels_of_the_batch(tmp_path: Path) -> None:
    run = simulated(
        tmp_path,
        stages=[{"request_rate": rate} for rate in (1, 2, 3, 4)],
        duration="10s",
        input_length=64,
        output_length=20,
    )
    with pytest.raises(ConfigError, match="decoded together in these levels: 1; 4 different ones are needed") as e:
        calibrate([run])
    assert "more requests at once" in e.value.advice


def test_an_open_loop_says_which_batches_it_has_seen(tmp_path: Path) -> None:
    run = simulated(
        tmp_path,
        stages=[{"request_rate": rate, "arrival": "poisson"} for rate in (2, 8, 16, 32)],
        duration="10s",
        input_length=512,
        output_length=128,
    )
    low, high = calibrate([run]).ranges["sequences"]
    assert low == 1
    assert 0.9 * most_at_once(run) < high <= most_at_once(run)


def most_at_once(run: RunInput) -> int:
    """Requests of one stage that had a first token and not the last one yet."""
    records = Records.concat(list(run.parts()))
    found = 0
    for stage in set(records.ints("stage").tolist()):
        of_stage = records.where(records.ints("stage") == stage)
        times = [(t, 1) for t in of_stage.ints("first_token")] + [(t, -1) for t in of_stage.ints("last_token")]
        found = max(found, *np.cumsum([step for _, step in sorted(times)]))
    return found
