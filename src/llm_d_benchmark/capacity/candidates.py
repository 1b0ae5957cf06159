"""Kinds of replica to plan with: from published figures or a calibrated profile, or from a fitted model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config.blocks import CapacityHardware
from ..config.load import Length
from ..config.simulator import SimulatorTargetConfig
from ..domain.result import Absent, Measured, Scalar
from ..perfmodel.model import PerformanceModel
from ..perfmodel.queueing import Unstable
from ..perfmodel.service import Lengths, Requests, latencies
from ..simulator.cost import StepCost
from ..simulator.engine import EngineLimits
from ..simulator.profiles import Profile, load_profile
from ..workload.lengths import draw
from .outlook import Replica
from .plan import Candidate
from .scaling import LINEAR, Scaling
from .steps import StepService

SAMPLE = 5000
NO_ERROR = Absent("a roofline of published figures, not a measurement: its error is not known")
NO_PRICE = Absent("no price of a GPU: give spec.prices.gpu_hour")


def lengths(length: Length) -> Lengths:
    """A distribution of the configuration as a few equally likely values."""
    if length.distribution == "fixed":
        return Lengths.fixed(float(length.value or 1))
    rng = np.random.default_rng(0)
    return Lengths.of([draw(length, rng) for _ in range(SAMPLE)])


def simulator_of(hardware: CapacityHardware) -> SimulatorTargetConfig:
    """A replica of the simulator that is this hardware."""
    return SimulatorTargetConfig(
        profile=hardware.profile,
        tensor_parallel_size=hardware.tensor_parallel_size,
        max_num_seqs=hardware.max_num_seqs,
        max_num_batched_tokens=max(8192, hardware.max_num_seqs),
    )


def limits_of(config: SimulatorTargetConfig, profile: Profile) -> EngineLimits:
    """Of a replica whose requests share no prefixes."""
    blocks = profile.num_gpu_blocks(config)
    return EngineLimits(config.max_num_seqs, config.max_num_batched_tokens, config.block_size, blocks, False)


def price(hour: float | None) -> Scalar:
    """Of a GPU."""
    return NO_PRICE if hour is None else Measured(hour, "USD/hour")


def from_profile(
    config: SimulatorTargetConfig, requests: Requests, *, name: str | None = None, gpu_hour: float | None = None
) -> Candidate:
    """A replica of the simulator.

    Raises:
        ConfigError: an unknown profile, or one that does not fit its GPUs; see ``load_profile``.
    """
    profile = load_profile(config)
    service = StepService(profile.cost, limits_of(config, profile), requests)
    roofline = profile.source.startswith("roofline")
    tp = config.tensor_parallel_size
    return Candidate(
        name=name or f"{config.profile}{f' x {tp}' if tp > 1 else ''}",
        hardware=profile.hardware,
        gpus=tp,
        basis="roofline" if roofline else "calibrated",
        source=profile.source,
        replica=Replica(service, service, requests),
        gpu_hour=price(gpu_hour),
        error=NO_ERROR if roofline else Absent("the profile's file tells the errors of its calibration"),
    )


def from_model(
    model: PerformanceModel,
    requests: Requests,
    *,
    name: str,
    hardware: str,
    gpus: int,
    gpu_hour: float | None,
    notes: Sequence[str] = (),
    scaling: Scaling = LINEAR,
) -> Candidate:
    """A replica as it was measured."""

    def outside(rate: float) -> list[str]:
        found = latencies(model, requests, rate)
        batch = float(model.places) if isinstance(found, Unstable) else found.queue.in_service
        return model.outside(requests, batch)

    itl, ttft = model.itl_curve.quality, model.ttft_curve.quality
    return Candidate(
        name=name,
        hardware=hardware,
        gpus=gpus,
        basis="fitted",
        source=(
            f"ITL = {model.itl_curve.curve.formula} (held out: {itl.error:.1%} of {itl.held_out}, coverage "
            f"{itl.coverage:.0%}); TTFT = {model.ttft_curve.curve.formula} (held out: {ttft.error:.1%})"
        ),
        replica=Replica(model, model.pessimistic(), requests),
        gpu_hour=price(gpu_hour),
        error=Measured(itl.error, "fraction"),
        notes=[f"{model.places} requests in service at once: {model.places_source}", *model.notes, *notes],
        scaling=scaling,
        outside=outside,
    )


def engine_of(model: PerformanceModel, requests: Requests) -> tuple[StepCost, EngineLimits]:
    """A simulated engine that is as fast as a fitted model: for the cross-check, which its queueing must stand."""
    found = model.coefficients(requests)
    cost = StepCost(found.fixed, 0.0, found.token, found.sequence, found.context, 0.0)
    longest = max(requests.input.values) + max(requests.output.values)
    blocks = int(model.places * longest / 16) + 16
    return cost, EngineLimits(model.places, max(8192, model.places), 16, blocks, False)
