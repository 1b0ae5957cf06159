"""What translating a configuration for a tool has in common: which keys it can carry out, with which numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ...config.fields import Model
from ...config.load import PROCESSES, Length, LoadConfig, Shape, StageConfig, load_of
from ...domain.endpoint import Endpoint, Secret, headers_over
from ...domain.errors import ConfigError
from ...domain.events import Finding, Severity
from ...domain.quantities import parse_duration
from ...domain.schedule import Load, Stage
from ...workload.options import parse
from ...workload.schedule import workload_options
from ...workload.stages import SHAPED
from ...workload.synthetic import SyntheticOptions

SEED_STEP = 100_003
SEEDS = 2**31


def seed_of(config: LoadConfig, stage: Stage) -> int:
    """The stage's seed: the configured one for the first, another for each further, so that prompts do not repeat."""
    return (config.seed + SEED_STEP * stage.index) % SEEDS


def requests_at_rate(stage: Stage, rate: float) -> int:
    """Requests of an open loop: those asked for, or as many as its time holds, whichever is less."""
    timed = None if stage.load_s is None else max(1, math.ceil(stage.load_s * rate))
    counts = [n for n in (stage.num_requests, timed) if n is not None]
    return min(counts)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a configuration asks of one stage; ``duration`` is None where it leaves that to the run's own."""

    rate: float | None
    arrival: str
    num_requests: int | None
    duration: float | None

    @property
    def closed_loop(self) -> bool:
        return self.rate is None and self.arrival in PROCESSES


def loads_of(config: LoadConfig) -> list[Asked]:
    """The stages of a configuration, each with what it takes from the generator's own keys."""
    found = []
    stages: Sequence[Shape] = config.stages or [config]
    for stage in stages:
        load = load_of(stage, config)
        count = config.num_requests if stage.num_requests is None else stage.num_requests
        duration = config.duration if stage.duration is None else stage.duration
        arrival = load.arrival.type if load.arrival is not None else "constant"
        found.append(Asked(load.request_rate, arrival, count, duration))
    return found


M = TypeVar("M", bound=Model)


def options(model: type[M], config: LoadConfig) -> M:
    """The options of the configured workload, with the same defaults as for every generator.

    Raises:
        ConfigError: a key that the workload does not have.
    """
    return parse(model, workload_options(config))


def workload_type(config: LoadConfig) -> str:
    """``synthetic``, ``shared_prefix``, ``conversation``, ``dataset``, ``trace``, ..."""
    return str(config.workload.get("type", "synthetic"))


def normal(length: Length) -> tuple[float, float] | None:
    """Mean and standard deviation of a fixed or normal length; None of any other."""
    if length.distribution == "fixed":
        return float(length.value or 1), 0.0
    if length.distribution == "normal":
        return float(length.mean or 1), float(length.std_dev or 0)
    return None


def as_closed_loop(stage: Stage) -> Stage:
    """The stage as a tool without request rates runs it: so many users as its cap, each one request after another."""
    load = Load(concurrency=stage.load.concurrency, ramp_s=0.0)
    name = load.label() if stage.name == stage.load.label() else stage.name
    return replace(stage, load=load, name=name)


def closed_loop_findings(tool: str, config: LoadConfig) -> Iterator[Finding]:
    """What a tool without request rates does otherwise: an error where there are no users, else a warning."""
    shapes: Sequence[Shape] = config.stages or [config]
    for shape in shapes:
        rate = shape.request_rate if shape.request_rate is not None else config.request_rate
        users = shape.concurrency if shape.concurrency is not None else config.concurrency
        if rate is not None and users is None:
            yield error(
                "open_loop_unsupported",
                f"{tool} has no request rate: its users send one request after another",
                "set 'concurrency' instead of 'request_rate', or use another load generator",
            )
        elif rate is not None:
            yield warning(
                "rate_ignored",
                f"{tool} has no request rate: {rate:g}/s is not kept, it runs {users} users in a closed loop",
                "leave 'request_rate' out, or use another load generator",
            )
    if config.sweep is not None and config.sweep.over == "rate":
        yield error("open_loop_unsupported", f"{tool} has no request rate to sweep over", "set sweep.over")


def label(load: Mapping[str, Any]) -> str:
    """Short text for what a result says was asked for: ``c=8``, ``10/s poisson, cap 8``."""
    rate, concurrency = load.get("rate"), load.get("concurrency")
    if rate is None and concurrency is None:
        return str(load.get("arrival") or "load not told")
    return Load(rate, concurrency, {"type": load.get("arrival") or "unknown"}).label()


def secret_headers(endpoint: Endpoint) -> dict[str, str]:
    """Headers that must not be in a command line or a file: the API key, and those marked as secret."""
    secret = {k: v.reveal() for k, v in endpoint.headers.items() if isinstance(v, Secret)}
    return headers_over(secret, {"Authorization": f"Bearer {endpoint.api_key.reveal()}"} if endpoint.api_key else {})


def plain_headers(endpoint: Endpoint) -> dict[str, str]:
    """Headers that may be shown."""
    return {k: v for k, v in endpoint.headers.items() if not isinstance(v, Secret)}


def tls_environment(endpoint: Endpoint, tool: str) -> dict[str, str]:
    """Variables by which a Python program trusts the endpoint's CA.

    Raises:
        ConfigError: certificates are not to be verified, which the tool cannot do.
    """
    if not endpoint.secure:
        return {}
    if not endpoint.tls.verify:
        raise ConfigError(
            f"{tool} always verifies the server's certificate",
            advice="give the server's CA certificate as ca_file",
        )
    return {"SSL_CERT_FILE": endpoint.tls.ca_file} if endpoint.tls.ca_file else {}


def parameter_findings(tool: str, config: LoadConfig, taken: set[str]) -> Iterator[Finding]:
    """A warning for request parameters that the tool cannot send."""
    lost = sorted(config.parameters.keys() - taken)
    if lost:
        yield Finding(
            "parameters_not_sent",
            Severity.WARNING,
            f"{tool} cannot send {', '.join(lost)}; the server uses its defaults",
            "remove them here, or use a generator that sends them (native, aiperf, vllm-bench)",
        )


def error(code: str, message: str, advice: str) -> Finding:
    return Finding(code, Severity.ERROR, message, advice)


def warning(code: str, message: str, advice: str | None = None) -> Finding:
    return Finding(code, Severity.WARNING, message, advice)


def info(code: str, message: str, advice: str | None = None) -> Finding:
    return Finding(code, Severity.INFO, message, advice)


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


def own_time_limit(config: LoadConfig) -> float | None:
    """Seconds that the configuration gives each stage; None where it says nothing.

    Raises:
        ConfigError: it is no duration, or none to run in.
    """
    value = config.native.get(TIME_LIMIT)
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
        if not seconds > 0:
            raise ValueError(f"'{value}' leaves no time to run in")
    except ValueError as error:
        raise ConfigError(f"native.{TIME_LIMIT}: {error}", advice="write seconds, or e.g. '10m'") from None
    return seconds


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
    try:
        own_time_limit(config)
    except ConfigError as problem:
        yield Finding("time_limit", Severity.ERROR, problem.message, problem.advice)
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


def without_template(config: LoadConfig, tokens: int) -> LoadConfig:
    """The configuration whose prompts, with ``tokens`` added by the server, have the lengths that were asked for.

    Only of synthetic prompts; a length from a file stays as it is.
    """
    if tokens == 0 or workload_type(config) != "synthetic":
        return config
    length = options(SyntheticOptions, config).input_length
    if length.distribution == "file":
        return config
    return with_length(config, "input_length", shorter(length, tokens))


def with_length(config: LoadConfig, key: str, length: Length) -> LoadConfig:
    """The configuration with another length of its synthetic workload, wherever it was given."""
    workload = {k: v for k, v in config.workload.items() if k != key}
    return config.model_copy(update={key: length, "workload": workload})


def shorter(length: Length, tokens: int) -> Length:
    """The distribution moved down by so many tokens, to one token at least."""
    moved: Mapping[str, float] = {
        key: max(1, value - tokens)
        for key in ("value", "mean", "min", "max")
        if (value := getattr(length, key)) is not None
    }
    return length.model_copy(update=dict(moved))
