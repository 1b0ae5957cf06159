"""From a configuration to the engines of its replicas."""

from __future__ import annotations

from ..config.simulator import SimulatorTargetConfig
from .engine import Engine, EngineLimits
from .pace import Pace
from .profiles import Profile


def build_engines(config: SimulatorTargetConfig, profile: Profile) -> list[Engine]:
    """One engine per replica, in order; those of a disaggregated deployment that only prefill come first."""
    limits = EngineLimits(
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        block_size=config.block_size,
        num_gpu_blocks=profile.num_gpu_blocks(config),
        enable_prefix_caching=config.enable_prefix_caching,
    )
    slow = config.failures.slow_replicas
    return [
        Engine(
            limits,
            Pace(profile.cost, factor=slow.get(str(number), 1.0), noise=config.step_noise, seed=config.seed + number),
        )
        for number in range(config.replicas)
    ]
