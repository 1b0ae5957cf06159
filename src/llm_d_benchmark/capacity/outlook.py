"""Objectives at a rate per replica: what is expected of each, and whether its bound keeps the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..config.blocks import Slo
from ..domain.capacity import Outlook
from ..domain.result import Absent, Measured, Scalar
from ..perfmodel.queueing import Unstable
from ..perfmodel.service import Latencies, Requests, Service, capacity, latencies

LATENCIES = frozenset({"ttft", "tpot", "itl", "e2e", "ntpot", "ttft_scheduled", "e2e_scheduled"})
THROUGHPUTS = frozenset(
    {"output_tokens_per_second", "input_tokens_per_second", "total_tokens_per_second", "requests_per_second"}
)
PRICES = frozenset({"cost_per_token", "costper_request"})
STATISTICS = frozenset({"mean", "p50", "p90", "p95", "p99", "p99.9"})


@dataclass(frozen=True)
class Replica:
    """One replica: as expected (``service``) and at its 95 % bound (the same where the basis has no error)."""

    service: Service
    bound: Service
    requests: Requests

    @cached_property
    def capacity(self) -> float:
        """Requests/s that one replica serves at most."""
        return capacity(self.service, self.requests)

    @cached_property
    def sure_capacity(self) -> float:
        """The same at the bound."""
        return self.capacity if self.bound is self.service else capacity(self.bound, self.requests)


def is_latency(slo: Slo) -> bool:
    return slo.metric.metric in LATENCIES and slo.metric.statistic in STATISTICS and slo.target.is_upper


def keeps(replica: Replica, slos: Sequence[Slo], rate: float, *, at_bound: bool = True) -> bool:
    """Whether every latency objective holds at ``rate`` requests/s on one replica."""
    wanted = [s for s in slos if is_latency(s)]
    found = latencies(replica.bound if at_bound else replica.service, replica.requests, rate)
    if isinstance(found, Unstable):
        return False
    return all(_under(found, s, replica.requests) for s in wanted)


def _under(found: Latencies, slo: Slo, requests: Requests) -> bool:
    """Whether a latency objective holds: of a percentile, by the share of requests beyond the limit."""
    metric, statistic = slo.metric.metric.removesuffix("_scheduled"), slo.metric.statistic or "p50"
    if statistic == "mean":
        return slo.target.holds(read(found, slo, requests))
    limit = slo.target.value
    if metric == "ntpot":
        metric, limit = "e2e", limit * requests.output.mean
    return found.of(metric).tail(limit) <= 1 - float(statistic[1:]) / 100


def read(found: Latencies, slo: Slo, requests: Requests) -> float:
    """The value of a latency objective's metric, s."""
    metric, statistic = slo.metric.metric.removesuffix("_scheduled"), slo.metric.statistic or "p50"
    if metric == "ntpot":
        return found.at("e2e", statistic) / requests.output.mean
    return found.at(metric, statistic)


def outlooks(
    slos: Sequence[Slo], replica: Replica, rate: float, busiest: float, replicas: int, hour: Scalar
) -> list[Outlook]:
    """Each objective with so many replicas.

    Args:
        rate: requests/s of all replicas together.
        busiest: requests/s of the busiest replica.
        hour: cost of all replicas, USD.
    """
    expected = latencies(replica.service, replica.requests, busiest)
    bound = latencies(replica.bound, replica.requests, busiest)
    return [_outlook(s, replica, rate, replicas, hour, expected, bound) for s in slos]


def _outlook(
    slo: Slo,
    replica: Replica,
    rate: float,
    replicas: int,
    hour: Scalar,
    expected: Latencies | Unstable,
    bound: Latencies | Unstable,
) -> Outlook:
    metric = slo.metric
    value: Scalar
    limit: Scalar
    message = ""
    if is_latency(slo):
        value, limit = _latency(expected, slo, replica), _latency(bound, slo, replica)
        message = "" if isinstance(limit, Measured) else "more load than the replicas serve"
    elif metric.metric in THROUGHPUTS:
        scale = per_request(metric.metric, replica.requests) * replicas
        value, limit = (
            Measured(replica.capacity * scale, metric.unit),
            Measured(replica.sure_capacity * scale, metric.unit),
        )
        message = "what the replicas can serve; the load may ask for less"
    elif metric.metric in PRICES:
        per = replica.requests.output.mean if metric.metric == "cost_per_token" else 1.0
        value = limit = hour if isinstance(hour, Absent) else Measured(hour.value / 3600 / rate / per, metric.unit)
        message = "" if isinstance(hour, Measured) else f"cannot be judged: {hour.absent}"
    else:
        none = Absent(f"a capacity plan does not predict {metric.path}")
        return Outlook(slo.name, metric.path, str(slo.target), slo.weight, "not_judged", none, none, none.absent)
    if isinstance(limit, Absent):
        verdict = "not_judged" if metric.metric in PRICES else "fail"
    else:
        verdict = "pass" if slo.target.holds(limit.value) else "fail"
    return Outlook(slo.name, metric.path, str(slo.target), slo.weight, verdict, value, limit, message)  # type: ignore[arg-type]


def _latency(found: Latencies | Unstable, slo: Slo, replica: Replica) -> Scalar:
    if isinstance(found, Unstable):
        return Absent(f"unstable: the queue grows by {found.backlog:.3g} requests/s on each replica")
    return Measured(read(found, slo, replica.requests), "s")


def per_request(metric: str, requests: Requests) -> float:
    return {
        "output_tokens_per_second": requests.output.mean,
        "input_tokens_per_second": requests.input.mean,
        "total_tokens_per_second": requests.output.mean + requests.input.mean,
        "requests_per_second": 1.0,
    }[metric]


def score(found: Sequence[Outlook]) -> Scalar:
    """Weight of the objectives that pass over the weight of those judged; one without a weight counts 1."""
    judged = [o for o in found if o.verdict != "not_judged"]
    weights = [1.0 if o.weight is None else o.weight for o in judged]
    if not sum(weights):
        return Absent("no objective could be judged" if found else "no SLOs are configured")
    return Measured(
        sum(w for w, o in zip(weights, judged, strict=True) if o.verdict == "pass") / sum(weights), "fraction"
    )
