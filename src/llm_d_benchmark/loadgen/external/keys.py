"""The common keys an external tool can and cannot carry out, and what its user set of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...config.load import LoadConfig, StageConfig
from ...domain.events import Finding, Severity
from ...workload.stages import SHAPED

ENVIRONMENT = "environment"
TIME_LIMIT = "time_limit"
OURS = frozenset({ENVIRONMENT, TIME_LIMIT})
"""Keys of ``native`` that are for the runner of external tools; every other one is the tool's own."""

ALWAYS = frozenset(
    {
        "concurrency", "request_rate", "arrival", "num_requests", "duration", "warmup", "cooldown", "input_length",
        "output_length", "seed", "streaming", "endpoint", "stages", "sweep", "native", "workers",
    }
)  # fmt: skip
"""Keys that every adapter looks at by itself."""


def tool_keys(config: LoadConfig) -> dict[str, Any]:
    """What of ``native`` is the tool's own."""
    return {k: v for k, v in config.native.items() if k not in OURS}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid over it, mapping by mapping; lists and scalars of ``over`` replace."""
    out = dict(base)
    for key, value in over.items():
        mine = out.get(key)
        out[key] = merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return out


def arrivals(config: LoadConfig) -> set[str]:
    """Arrival types that the stages of this configuration ask for (of the open ones)."""
    shapes: list[LoadConfig | StageConfig] = [config, *config.stages]
    return {s.arrival.type for s in shapes if s.arrival is not None}


def common_findings(
    name: str, config: LoadConfig, *, arrivals_taken: Collection[str], keys_taken: Collection[str] = ()
) -> Iterator[Finding]:
    """Errors for loads that no external tool or not this one can make, warnings for keys without effect.

    Args:
        arrivals_taken: arrival types the tool has, e.g. ``{"constant", "poisson"}``.
        keys_taken: common keys it carries out beyond ``ALWAYS``: parameters, models, timeouts, retries, ramp, workload.
    """
    for kind in sorted(arrivals(config) - set(arrivals_taken)):
        taken = ", ".join(sorted(arrivals_taken)) or "none"
        yield Finding(
            "arrival_unsupported",
            Severity.ERROR,
            f"{name} cannot make arrival '{kind}' (it has: {taken})",
            "the native generator can; " + _instead(kind),
        )
    if "workload" not in keys_taken and config.workload.get("type", "synthetic") != "synthetic":
        yield Finding(
            "workload_unsupported",
            Severity.ERROR,
            f"{name} makes its own synthetic prompts; workload '{config.workload['type']}' is not passed to it",
            "use the native generator for this workload, or name the tool's own data source under 'native'",
        )
    for key, info in type(config).model_fields.items():
        if key in ALWAYS or key in keys_taken or key == "workload":
            continue
        if getattr(config, key) != info.default:
            yield Finding(
                "key_without_effect",
                Severity.WARNING,
                f"{name} has no '{key}'; it runs without",
                "remove it, or use the native generator",
            )
    if "ramp" not in keys_taken and any(s.ramp for s in config.stages):
        yield Finding("key_without_effect", Severity.WARNING, f"{name} has no 'ramp'; it runs without")


def _instead(kind: str) -> str:
    return "or list the rates as 'stages'" if kind in SHAPED else "or choose another arrival"
