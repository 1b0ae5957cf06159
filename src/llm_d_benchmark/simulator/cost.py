"""How long one step of an engine takes: a roofline per kernel, in nine coefficients.

A step runs its matrix products, its attention and the rest one after the other, so their times add up; each of them
is bound by memory or by arithmetic. With n = prefill tokens + decode sequences, S decode sequences, C tokens of KV
cache that they read and P query-key pairs of prefill attention:

    step = fixed + max(weights + experts * (1 - (1 - expert_share) ** n), token * n)
         + transfer * n + sequence * S + context * C + pair * P

``profiles`` derives the coefficients from published figures of a model and of hardware, ``calibrate`` fits them to
measured runs: both give the same kind of profile.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .api import FloatArray, StepLoad


@dataclass(frozen=True, slots=True)
class StepCost:
    """The cost model of one replica (all of its GPUs together); implements ``CostModel``.

    Attributes:
        fixed: s; what every step takes: scheduling, kernel launches, latency of the collectives.
        weights: s; reading the weights that every step touches.
        experts: s; reading all routed experts of a mixture-of-experts model; 0 for a dense one.
        expert_share: fraction of the routed experts that one token is sent to; n independent tokens then touch
            ``1 - (1 - expert_share) ** n`` of them.
        token: s/token; arithmetic of the matrix products, for prefill and decode tokens alike.
        transfer: s/token; moving activations between the GPUs of a tensor-parallel replica.
        sequence: s/sequence; what a decoding sequence adds: the vocabulary projection, sampling, bookkeeping.
        context: s/token; reading one token of KV cache while decoding.
        pair: s/pair; one query-key pair of prefill attention.
        kv_bytes_per_token: bytes; one copy of a token's KV cache, whatever the number of GPUs that share it.

    Raises:
        ValueError: a coefficient is negative or not finite, or ``expert_share`` above 1, or a step could take no time.
    """

    fixed: float
    weights: float
    token: float
    sequence: float
    context: float
    pair: float
    transfer: float = 0.0
    experts: float = 0.0
    expert_share: float = 0.0
    kv_bytes_per_token: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{field.name}: {value} is not a finite number of at least 0")
        if self.expert_share > 1:
            raise ValueError(f"expert_share: {self.expert_share} is above 1")
        if self.fixed + self.weights <= 0:
            raise ValueError("fixed and weights are both 0: a step would take no time")

    def step(self, load: StepLoad) -> float:
        """Seconds of one step; at least ``fixed`` plus ``weights``, whatever the load."""
        n = load.prefill_tokens + load.decode_seqs
        return (
            self._linear(n)
            + self.sequence * load.decode_seqs
            + self.context * load.decode_context
            + self.pair * load.prefill_pairs
        )

    def decode_steps(self, seqs: int, context: int, steps: int) -> FloatArray:
        """Seconds of ``steps`` successive steps of ``seqs`` sequences that read ``context`` tokens in the first one.

        Shape (steps,); element k is ``step(StepLoad(decode_seqs=seqs, decode_context=context + k * seqs))``.
        """
        base = self._linear(seqs) + self.sequence * seqs
        return base + self.context * (context + seqs * np.arange(steps, dtype=np.float64))

    def _linear(self, n: int) -> float:
        read = self.weights
        if self.experts:
            read += self.experts * (1.0 - (1.0 - self.expert_share) ** n)
        compute = self.token * n
        return self.fixed + (read if read > compute else compute) + self.transfer * n
