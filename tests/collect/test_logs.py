"""Logs are followed while they are written; what means trouble is counted and told, and nothing else is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_d_benchmark.collect.api import CollectJob
from llm_d_benchmark.collect.log_patterns import BUILT_IN, patterns_of
from llm_d_benchmark.collect.logs import LogCollector
from llm_d_benchmark.collect.run import collecting
from llm_d_benchmark.domain.endpoint import Endpoint
from llm_d_benchmark.domain.events import Finding, Severity
from llm_d_benchmark.domain.samples import Samples

Step = Callable[[], object]
Counts = dict[tuple[str, str], list[float]]


def follow(
    folder: Path, collector: LogCollector, *steps: Step
) -> tuple[dict[tuple[str, str], list[float]], list[Finding]]:
    """Counts by (file, pattern) at every tick where they are not always 0; a step each 0.15 s."""
    kept: list[Samples] = []
    told: list[Finding] = []

    async def keep(samples: Samples) -> None:
        kept.append(samples)

    async def go() -> None:
        offset = time.time_ns() - time.monotonic_ns()
        job = CollectJob(Endpoint("http://127.0.0.1:1"), asyncio.Event(), offset, folder, interval_s=0.05)
        async with collecting([collector], job, keep, told.append):
            for step in steps:
                await asyncio.sleep(0.15)
                step()

    asyncio.run(go())
    samples = Samples.concat(kept)
    named = {(dict(s.labels)["file"], dict(s.labels)["pattern"]): i for i, s in enumerate(samples.series)}
    counts = {key: samples.of(i)[1].tolist() for key, i in named.items()}
    return {key: values for key, values in counts.items() if any(values)}, told


def collector(*paths: str, **patterns: str) -> LogCollector:
    return LogCollector(paths, patterns_of(patterns))


def write(path: Path, text: str) -> Step:
    def append() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(text)

    return append


def test_lines_are_counted_as_they_come_and_told_at_the_end(tmp_path: Path) -> None:
    log = tmp_path / "tool" / "server.log"
    counts, told = follow(
        tmp_path,
        collector(),
        write(log, "INFO all is well\ntorch.OutOfMemoryError: CUDA out of"),
        write(log, " memory. Tried to allocate 2 GiB\n"),
        write(log, "Sequence group 7 is preempted by RECOMPUTE\nSequence group 8 is preempted"),
    )
    memory, preempted = counts["tool/server.log", "gpu_out_of_memory"], counts["tool/server.log", "preemption"]
    assert (memory[-1], preempted[-1]) == (1, 1)
    assert memory == sorted(memory)  # a total
    assert {f.code: f.severity for f in told} == {
        "log_gpu_out_of_memory": Severity.WARNING,
        "log_preemption": Severity.INFO,
    }
    assert "2 lines" in next(f.message for f in told if f.code == "log_preemption")  # the last one has no end
    assert "Tried to allocate 2 GiB" in told[0].message


def test_prompts_and_secrets_do_not_get_into_findings(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    lines = [
        "ERROR Received request cmpl-1: prompt: my diary",
        'ERROR {"messages": [{"content": "my diary"}]}',
        "ERROR cannot parse 'my diary'",
        "ERROR api_key=sk-1234567890abcdef Authorization: Bearer my-diary-key",
        "ERROR at http://user:my-diary@host/ and " + "my-diary-" * 5,
        "ERROR " + "x y " * 1000,
    ]
    write(log, "\n".join(lines) + "\n")()
    counts, told = follow(tmp_path, collector(), lambda: None)
    assert counts["server.log", "error_line"][-1] == 4
    assert "diary" not in told[0].message
    assert "1234567890" not in told[0].message
    assert len(told[0].message) < 600


def test_a_log_that_is_rotated_or_cut_is_followed(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    counts, _ = follow(
        tmp_path,
        collector(str(tmp_path / "*.log*")),
        write(log, "ERROR one\nERROR two\n"),
        lambda: log.rename(tmp_path / "server.log.1"),
        write(log, "ERROR three\n"),
        lambda: log.write_text(""),
        write(log, "ERROR\n"),
        log.unlink,
    )
    assert {key: values[-1] for key, values in counts.items()} == {("server.log", "error_line"): 4}


def test_logs_of_the_system_are_read_from_where_they_end(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other.log"
    write(other, "ERROR of yesterday\n")()
    counts, _ = follow(run, collector(str(other)), write(other, "ERROR of today\n"), lambda: None)
    assert counts[str(other), "error_line"][-1] == 1


def test_a_user_s_patterns_are_added_and_replace_the_built_in_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.log", "slow path taken\nERROR x\n")()
    counts, told = follow(tmp_path, collector(slow="slow path", error_line="never"), lambda: None)
    assert {key[1] for key in counts} == {"slow"}
    assert [f.code for f in told] == ["log_slow"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", {"gpu_out_of_memory"}),
        ("Out of memory: Killed process 4242 (vllm)", {"host_out_of_memory"}),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", {"gpu_error"}),
        ("[rank0]: NCCL WARN Cuda failure", {"nccl"}),
        ("WARNING Sequence group 1 is preempted by PreemptionMode.RECOMPUTE", {"preemption"}),
        ("asyncio.exceptions.TimeoutError", {"timeout"}),
        ('INFO: 10.0.0.1:5 - "POST /v1/completions HTTP/1.1" 503 Service Unavailable', {"http_5xx"}),
        ("Traceback (most recent call last):", {"traceback"}),
        ("Segmentation fault (core dumped)", {"crash"}),
        ("ConnectionError: connection refused", {"connection"}),
        ('{"level":"error","msg":"x"}', {"error_line"}),
        # healthy lines of servers
        ('INFO: 10.0.0.1:5 - "POST /v1/completions HTTP/1.1" 200 OK', set()),
        ("INFO args: Namespace(timeout_keep_alive=5, preemption_mode=None, disable_nccl=False, swap_space=4)", set()),
        ("INFO Avg generation throughput: 500.0 tokens/s, Running: 5 reqs, GPU KV cache usage: 0.5%", set()),
        ("INFO NCCL version 2.21.5+cuda12.4", set()),
        ("Graph capturing finished in 20 secs, took 0.52 GiB; errors 0", set()),
    ],
)
def test_patterns_know_trouble_from_health(line: str, names: set[str]) -> None:
    assert {p.name for p in BUILT_IN if p.pattern.search(line)} == names
