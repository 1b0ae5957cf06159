"""A request on its way through an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .api import EngineRequest, FloatArray
from .blocks import Held


@dataclass(slots=True, eq=False)
class Progress:
    """What an engine knows of a request. Callers read the first group; the rest is the engine's own bookkeeping.

    Attributes:
        arrived, started, first_token, last_token: seconds; None until they happen. ``started``: its first step began.
        cached_tokens: prompt tokens found in the prefix cache when it first started.
        preemptions: how often it had to give its blocks back.
        generated: tokens made before it joined the present batch; all of them once it has ended.

        chain: hashes of its blocks in order, as far as they are known.
        computed: tokens of it in the KV cache; of one that decodes, when it joined the batch.
        joined: number of the step that made the first token of its present stay in the batch.
        named: leading blocks that were given their hashes, or have none.
        held: the blocks it holds that have a hash.
        pieces: token times of each stay in the batch.
    """

    request: EngineRequest
    arrived: float
    started: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    cached_tokens: int = 0
    preemptions: int = 0
    generated: int = 0

    chain: Sequence[int] = ()
    computed: int = 0
    joined: int = -1
    named: int = 0
    held: list[Held] = field(default_factory=list)
    pieces: list[FloatArray] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens that must be in the KV cache before the next one can be made."""
        return self.request.prompt_tokens + self.generated

    @property
    def received_tokens(self) -> int:
        """Prompt tokens whose KV cache came from another replica, beyond what was cached here."""
        return max(0, min(self.request.transferred_tokens, self.request.prompt_tokens - 1) - self.cached_tokens)

    @property
    def last_step(self) -> int:
        """Number of the step that makes its last token, while it decodes."""
        return self.joined + self.request.output_tokens - self.generated - 1

    @property
    def token_times(self) -> FloatArray:
        """When each token was made, seconds: shape (generated,). Complete once it has ended or was aborted."""
        return self.pieces[0] if len(self.pieces) == 1 else np.concatenate(self.pieces or [np.empty(0)])
