"""A configured deployment in virtual time, as a load generator finds it."""

from __future__ import annotations

from ..config.simulator import SimulatorTargetConfig
from .cluster import Cluster
from .profiles import load_profile
from .virtual import VirtualLoop


class VirtualDeployment:
    """The deployment of a run, with its clock: what its caches hold stays from one stage to the next.

    Args:
        epoch: epoch ns at which simulated time begins; the server is ready ``startup_time`` later.

    Raises:
        ConfigError: the configuration describes no possible deployment; the message names the key.
    """

    def __init__(self, config: SimulatorTargetConfig, epoch: int) -> None:
        self.config = config
        self.profile = load_profile(config)
        self.loop = VirtualLoop()
        self.cluster = Cluster(config, self.profile, self.loop)
        self.epoch = epoch

    def start(self) -> None:
        """Let the time pass until the server is ready."""
        self.loop.now = max(self.loop.now, self.config.startup_time)

    def now_ns(self) -> int:
        """Simulated time, epoch ns."""
        return self.epoch + round(self.loop.now * 1e9)
