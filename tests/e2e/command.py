"""Run the command line as a user does: as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOAD = "spec.benchmark.load_generators.0.config"
COMMAND = [sys.executable, "-m", "llm_d_benchmark"]
LENIENT = ["--set", "spec.benchmark.validity.schedule_delay=1s", "--set", "spec.benchmark.validity.loop_lag=1s"]
"""For tests of what a run says of its server, on a machine that is busy with other tests."""
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LLM_D_BENCHMARK_", "OPENAI_"))}


def bench(
    *args: object, cwd: Path, timeout: float = 120, env: dict[str, str] | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        cwd=cwd,
        env={**ENV, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(*args: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *args], cwd=cwd, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def sets(**values: object) -> list[str]:
    """``--set`` options for keys of the first load generator."""
    return [x for k, v in values.items() for x in ("--set", f"{LOAD}.{k.replace('__', '.')}={json.dumps(v)}")]


def only_run(output: Path) -> Path:
    (folder,) = [p for p in output.iterdir() if p.is_dir()]
    return folder


def result_of(output: Path) -> dict[str, Any]:
    return json.loads((only_run(output) / "result.json").read_text())


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def wait_for_event(output: Path, type_: str, timeout: float = 30) -> Path:
    """The run folder, once its events contain one of this type."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for path in output.glob("*/events.jsonl"):
            if any(
                f'"type": "{type_}"' in line or f'"type":"{type_}"' in line for line in path.read_text().splitlines()
            ):
                return path.parent
        time.sleep(0.05)
    raise AssertionError(f"no {type_} event within {timeout} s")
