"""How a request finds its replica: the policies of ``RouterConfig``. Without a clock; deterministic under a seed.

Among replicas that a policy takes for equal the seed decides. Scores of ``weighted`` are those of the llm-d router,
each 0 to 1: queue (1 for the shortest, 0 for the longest, 1 where all are equal), kv-cache-utilization (1 - usage) and
prefix-cache (part of the prompt's tokens in the cache). The caches are asked themselves, as with llm-d's precise
prefix-cache scorer, rather than guessed from what was sent where.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ..config.simulator import RouterConfig
from .api import EngineRequest


class Candidate(Protocol):
    """What a router may ask of a replica; ``Engine`` answers all of it."""

    @property
    def waiting(self) -> int: ...

    @property
    def running(self) -> int: ...

    def kv_usage(self) -> float: ...

    def cached_prefix(self, request: EngineRequest) -> int: ...


class Router:
    """One router over the replicas it is shown; they must be the same in every call."""

    def __init__(self, config: RouterConfig, seed: int = 0) -> None:
        self._config = config
        self._seed = seed
        self._random = random.Random(seed)
        self._turn = 0
        policies: Mapping[str, Callable[[EngineRequest, Sequence[Candidate]], int]] = {
            "random": lambda _, replicas: self._random.randrange(len(replicas)),
            "round_robin": self._next,
            "least_requests": lambda _, replicas: self._least([_requests(r) for r in replicas]),
            "least_kv": lambda _, replicas: self._least([(r.kv_usage(), _requests(r)) for r in replicas]),
            "prefix_aware": lambda request, replicas: self._least(
                [(-r.cached_prefix(request), _requests(r)) for r in replicas]
            ),
            "session_affinity": self._own,
            "weighted": lambda request, replicas: self._least([-s for s in self._scores(request, replicas)]),
        }
        self._policy = policies[config.policy]

    def pick(self, request: EngineRequest, replicas: Sequence[Candidate]) -> int:
        """Index of the replica for a request.

        random: any. round_robin: one after another. least_requests: fewest waiting and running. least_kv: least KV
        cache in use, then fewest requests. prefix_aware: most of the prompt in the prefix cache, then fewest requests.
        session_affinity: the same for every request of a session (by its hash; a request without one is its own).
        weighted: the greatest weighted sum of the scores.
        """
        return self._policy(request, replicas) if len(replicas) > 1 else 0

    def _least(self, costs: Sequence[object]) -> int:
        least = min(costs)  # type: ignore[type-var]
        equal = [i for i, cost in enumerate(costs) if cost == least]
        return equal[0] if len(equal) == 1 else self._random.choice(equal)

    def _next(self, _: EngineRequest, replicas: Sequence[Candidate]) -> int:
        turn, self._turn = self._turn, self._turn + 1
        return turn % len(replicas)

    def _own(self, request: EngineRequest, replicas: Sequence[Candidate]) -> int:
        key = request.session if request.session is not None else str(request.request_id)
        return random.Random(f"{self._seed} {key}").randrange(len(replicas))

    def _scores(self, request: EngineRequest, replicas: Sequence[Candidate]) -> list[float]:
        config = self._config
        waiting = [r.waiting for r in replicas]
        longest, spread = max(waiting), max(waiting) - min(waiting)
        of_queue, of_usage = config.queue_weight, config.kv_cache_utilization_weight
        of_prefix = config.prefix_cache_weight / request.prompt_tokens
        scores = []
        for replica, queue in zip(replicas, waiting, strict=True):
            score = of_queue * ((longest - queue) / spread) if spread else of_queue
            score += of_usage * (1.0 - replica.kv_usage()) if of_usage else 0.0
            score += of_prefix * replica.cached_prefix(request) if of_prefix else 0.0
            scores.append(score)
        return scores


def _requests(replica: Candidate) -> int:
    return replica.waiting + replica.running
