"""From the replica that computed a prompt to one that decodes: how much KV cache is sent, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.simulator import DisaggregationConfig
from .api import EngineRequest
from .router import Candidate


@dataclass(frozen=True, slots=True)
class KvLink:
    """What carries KV caches; each transfer has all of its bandwidth."""

    rules: DisaggregationConfig
    bytes_per_token: float

    def transfer(self, request: EngineRequest, replica: Candidate) -> tuple[float, float]:
        """Bytes for a replica, and their seconds; what it has of the prompt in its own cache is not sent."""
        size = (request.prompt_tokens - replica.cached_prefix(request)) * self.bytes_per_token
        return size, self.rules.transfer_latency + size / self.rules.transfer_bandwidth
