"""What translating a stage for a tool has in common: how many requests, of which lengths, with which seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ...config.fields import Model
from ...config.load import PROCESSES, Length, LoadConfig, Shape, load_of
from ...domain.endpoint import Endpoint, Secret
from ...domain.errors import ConfigError
from ...domain.events import Finding, Severity
from ...domain.schedule import Load, Stage
from ...workload.options import parse
from ...workload.schedule import workload_options

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


def label(load: Mapping[str, Any]) -> str:
    """Short text for what a result says was asked for: ``c=8``, ``10/s poisson, cap 8``."""
    rate, concurrency = load.get("rate"), load.get("concurrency")
    if rate is None and concurrency is None:
        return str(load.get("arrival") or "load not told")
    return Load(rate, concurrency, {"type": load.get("arrival") or "constant"}).label()


def secret_headers(endpoint: Endpoint) -> dict[str, str]:
    """Headers that must not be in a command line or a file: the API key, and those marked as secret."""
    secret = {k: v.reveal() for k, v in endpoint.headers.items() if isinstance(v, Secret)}
    if endpoint.api_key:
        secret.setdefault("Authorization", f"Bearer {endpoint.api_key.reveal()}")
    return secret


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
            advice="give the server's CA certificate as tls.ca_file",
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
