"""A short real run of one load generator against the built-in simulated server: does it work here?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.layers import load_config
from ..domain.events import Event, EventType
from ..domain.result import Absent, Distribution, StageResult
from .options import RunOptions
from .run import run

SECONDS = 10.0
CONCURRENCY = 4
INPUT, OUTPUT = 64, 16


@dataclass(frozen=True, slots=True)
class Smoke:
    """What came of it.

    Attributes:
        ok: it sent requests, all of them succeeded and were as long as asked for.
        problems: what was wrong.
        figures: of the result: requests, ttft_p50_s, tpot_p50_s, output_tokens_mean; absent ones are left out.
    """

    generator: str
    ok: bool
    problems: tuple[str, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    version: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.generator,
            "ok": self.ok,
            "version": self.version,
            "problems": list(self.problems),
            "figures": dict(self.figures),
        }


async def smoke(generator: str, native: Mapping[str, Any]) -> Smoke:
    """Run it for ten seconds at a concurrency of four.

    Args:
        native: the generator's own keys.

    Raises:
        ConfigError: it is not installed.
        GeneratorError, TargetError: it could not run.
    """
    config = {
        "concurrency": CONCURRENCY, "duration": SECONDS, "input_length": INPUT, "output_length": OUTPUT,
        "parameters": {"ignore_eos": True}, "native": dict(native),
    }  # fmt: skip
    spec = {
        "target": {"type": "simulator"},
        "benchmark": {"load_generators": [{"type": generator, "config": config}], "warmup": 0, "cooldown": 0},
    }
    loaded = load_config([], env={}, overrides={"spec": spec})
    versions: list[str] = []

    def watch(event: Event) -> None:
        if event.type is EventType.STAGE_START and "tool" in event.data:
            versions.append(str(event.data["tool"]["version"]))

    with tempfile.TemporaryDirectory(prefix="llm-d-benchmark-check-") as folder:
        outcome = await run(loaded, RunOptions(output=Path(folder), fail_on=frozenset()), observers=[watch])
    if outcome.failure is not None:
        raise outcome.failure
    problems: list[str] = []
    figures: dict[str, float] = {}
    for stage in outcome.result.stages:
        figures |= _figures(stage)
        problems += _problems(stage)
    return Smoke(generator, not problems, tuple(problems), figures, versions[0] if versions else None)


def _figures(stage: StageResult) -> dict[str, float]:
    m = stage.metrics
    out = {"requests": float(m.requests_total.sent), "failed": float(m.requests_total.failed)}
    for name in ("ttft", "tpot", "e2e"):
        found = getattr(m, name)
        if isinstance(found, Distribution) and not isinstance(p50 := found.percentiles["p50"], Absent):
            out[f"{name}_p50_s"] = p50.value
    return out


def _problems(stage: StageResult) -> list[str]:
    counted = stage.metrics.requests_total
    found = []
    if not counted.succeeded:
        found.append("no request succeeded")
    if counted.failed:
        errors = ", ".join(f"{n} {name}" for name, n in sorted(counted.errors.items()))
        found.append(f"{counted.failed} of {counted.sent} requests failed: {errors}")
    achieved = stage.metrics.output_length.achieved
    if not isinstance(achieved, Absent) and abs(achieved.value - OUTPUT) > 0.5:
        found.append(f"answers had {achieved.value:.1f} tokens instead of {OUTPUT}")
    return found
