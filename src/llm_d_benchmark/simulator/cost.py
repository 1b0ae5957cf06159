"""How long one step of an engine takes: a roofline per kernel, in nine coefficients, and measured knots where it fails.

A step runs its matrix products, its attention and the rest one after the other, so their times add up; each of them
is bound by memory or by arithmetic. With n = prefill tokens + decode sequences, S decode sequences, C tokens of KV
cache that they read and P query-key pairs of prefill attention:

    step = fixed + max(weights + experts * (1 - (1 - expert_share) ** n), token * n)
         + transfer * n + sequence * S + context * C + pair * P

Kernels that change with the batch can make four sequences faster than three, which no roofline does. Where
``decode_knots`` are known, they say what a step without prefill takes, and the roofline is of steps with prefill only:

    step = knots(S) + context * C

``profiles`` derives the coefficients from published figures of a model and of hardware, ``calibrate`` fits them to
measured runs: both give the same kind of profile.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

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
        decode_knots: (sequences, s), in ascending order; what a step that only decodes so many sequences takes, reading
            the KV cache aside. Linear in between, the first one's below it, and with the roofline's growth beyond the
            last one. Empty: the roofline holds for every step.

    Raises:
        ValueError: a coefficient is negative or not finite, or ``expert_share`` above 1, or a step could take no time,
            or the knots are not in order.
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
    decode_knots: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name == "decode_knots":
                continue
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{field.name}: {value} is not a finite number of at least 0")
        if self.expert_share > 1:
            raise ValueError(f"expert_share: {self.expert_share} is above 1")
        if self.fixed + self.weights <= 0:
            raise ValueError("fixed and weights are both 0: a step would take no time")
        seqs = [at for at, _ in self.decode_knots]
        if seqs and (seqs[0] < 1 or any(a >= b for a, b in pairwise(seqs))):
            raise ValueError(f"decode_knots: {seqs} are not ascending numbers of sequences")
        for at, seconds in self.decode_knots:
            if not 0 < seconds < float("inf"):
                raise ValueError(f"decode_knots: {seconds} at {at} sequences is not a finite number above 0")

    def step(self, load: StepLoad) -> float:
        """Seconds of one step; without knots at least ``fixed`` plus ``weights``, whatever the load."""
        if load.prefill_tokens:
            base = self._roofline(load.prefill_tokens, load.decode_seqs)
        else:
            base = self._decode(load.decode_seqs)
        return base + self.context * load.decode_context + self.pair * load.prefill_pairs

    def decode_steps(self, seqs: int, context: int, steps: int) -> FloatArray:
        """Seconds of ``steps`` successive steps of one sequence or more that read ``context`` tokens in the first one.

        Shape (steps,); element k is ``step(StepLoad(decode_seqs=seqs, decode_context=context + k * seqs))``.
        """
        read: FloatArray = np.arange(float(context), context + seqs * (steps - 0.5), seqs)  # exact: whole numbers
        read *= self.context
        read += self._decode(seqs)
        return read

    def _decode(self, seqs: int) -> float:
        """A step without prefill, but for reading the KV cache."""
        if not self.decode_knots:
            return self._roofline(0, seqs)
        last, seconds = self.decode_knots[-1]
        if seqs > last:
            return seconds + self._roofline(0, seqs) - self._roofline(0, last)
        at, took = zip(*self.decode_knots, strict=True)
        return float(np.interp(seqs, at, took))

    def _roofline(self, prefill: int, seqs: int) -> float:
        n = prefill + seqs
        read = self.weights
        if self.experts:
            read += self.experts * (1.0 - (1.0 - self.expert_share) ** n)
        compute = self.token * n
        return self.fixed + (read if read > compute else compute) + self.transfer * n + self.sequence * seqs
