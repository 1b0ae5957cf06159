"""A tool of the tests' own: a real program, run by a real adapter, that behaves as badly as a test asks for."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from llm_d_benchmark.config.load import LoadConfig
from llm_d_benchmark.domain.errors import GeneratorError
from llm_d_benchmark.domain.events import Finding
from llm_d_benchmark.loadgen.external.api import (
    Environment,
    Invocation,
    NativeResult,
    NativeStage,
    Requirement,
    ToolStage,
)
from llm_d_benchmark.loadgen.external.generator import ExternalLoadGenerator
from llm_d_benchmark.loadgen.external.plan import common_findings, options, tool_keys
from llm_d_benchmark.loadgen.external.rows import failure, to_records
from llm_d_benchmark.workload.synthetic import SyntheticOptions

# Writes a row per request, then does what it was told to: exit with a code, hang, leave children behind.
PROGRAM = """
import json, os, signal, subprocess, sys, time
plan = json.load(open("plan.json"))
print("plan read, key", os.environ.get("TOOL_KEY"), flush=True)
for name in plan.get("ignore", []):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
if plan.get("child"):
    code = "import os, time, signal; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    daemon = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', %r])" % code
    subprocess.run([sys.executable, "-c", daemon])
rows = []
start = time.time_ns()
for i in range(plan["requests"]):
    sent = start + i * plan["gap_ns"]
    rows.append({"input": plan["input"], "sent": sent, "first": sent + 20_000_000, "end": sent + plan["length_ns"],
                 "ok": i % 5 != 4 or not plan.get("fail"), "secret": os.environ.get("TOOL_KEY", "")})
if plan.get("late"):  # writes only at its end, which an interrupt brings about
    try:
        time.sleep(plan["late"])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
if plan.get("results", True):
    open("results.json", "w").write(plan.get("text") or json.dumps(rows))
print("x" * plan.get("noise", 0), flush=True)
time.sleep(plan.get("sleep", 0))
sys.exit(plan.get("exit", 0))
"""


class FakeTool(ExternalLoadGenerator):
    """``native`` of its configuration is the program's plan."""

    name: ClassVar[str] = "fake"
    requirement: ClassVar[Requirement] = Requirement(("fake==1.0",), ">=3.11", "fake")
    known: ClassVar[Mapping[str, str]] = {"chunks": "fake makes its chunks up"}

    def environment(self, config: LoadConfig) -> Environment:
        python = Path(sys.executable)
        return Environment(python, python.parent, "1.0", light=bool(config.native.get("light")))

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        return list(common_findings(self.name, config, arrivals_taken={"constant"}))

    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        made = options(SyntheticOptions, stage.config)
        plan = {
            "input": made.input_length.value,
            "output": made.output_length.value,
            "requests": stage.stage.num_requests or 10,
            "gap_ns": 50_000_000,
            "length_ns": 100_000_000,
        }
        plan |= tool_keys(stage.config)
        key = stage.endpoint.api_key
        return [
            Invocation(
                (str(stage.environment.python), "-c", PROGRAM),
                env={"TOOL_KEY": key.reveal() if key else None},
                files={"plan.json": json.dumps(plan)},
            )
        ]

    def parse(self, path: Path) -> NativeResult:
        try:
            data = json.loads((path / "results.json").read_text())
        except OSError:
            raise GeneratorError("there is no results.json") from None
        rows = [
            {
                "sent": r["sent"], "end": r["end"], "streaming": True, "input_asked": r["input"],
                **({"status": "ok", "first_token": r["first"], "last_token": r["end"], "output_tokens": 9}
                   if r["ok"] else failure("HTTPError", "500")),
            }
            for r in data
        ]  # fmt: skip
        made = json.loads((path / "plan.json").read_text()).get("made", {})
        return NativeResult(self.name, "1.0", [NativeStage("all", made, to_records(rows))])
