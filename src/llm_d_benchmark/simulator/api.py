"""What the parts of the simulator tell each other. Times are seconds, lengths tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepLoad:
    """The work of one engine step.

    Attributes:
        prefill_tokens: prompt tokens computed in this step (cached ones are not).
        prefill_pairs: query-key pairs of their attention: sum over chunks of n * (context before + (n + 1) / 2).
        decode_seqs: sequences that get one more token.
        decode_context: tokens of KV cache that these sequences read, all together.
    """

    prefill_tokens: int = 0
    prefill_pairs: float = 0.0
    decode_seqs: int = 0
    decode_context: int = 0


class CostModel(Protocol):
    """How long a step takes on one replica, and how much KV cache it holds."""

    @property
    def kv_bytes_per_token(self) -> float: ...

    def step(self, load: StepLoad) -> float:
        """Seconds of one step; above 0 for any load."""
        ...

    def decode_steps(self, seqs: int, context: int, steps: int) -> FloatArray:
        """Seconds of each of ``steps`` successive steps that only decode: a new array of shape (steps,).

        Element k equals ``step(StepLoad(decode_seqs=seqs, decode_context=context + k * seqs))``: the drivers step
        through such ranges at once.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as an engine sees it.

    Attributes:
        blocks: hash of each full block of the prompt, chained: equal hashes mean equal prefixes; empty without
            prefix caching.
        output_tokens: tokens it will generate.
        output_blocks: hash of each further block that the answer fills, where it is known beforehand (the next turn of
            a conversation then finds it).
        output_unseen: no later prompt contains the answer: once it has ended, nobody looks for its blocks.
        transferred_tokens: prompt tokens whose KV cache comes with the request, from the replica that computed it.
    """

    request_id: int
    prompt_tokens: int
    output_tokens: int
    blocks: Sequence[int] = ()
    session: str | None = None
    output_blocks: Sequence[int] = ()
    transferred_tokens: int = 0
    output_unseen: bool = False
