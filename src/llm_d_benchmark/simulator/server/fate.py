"""What becomes of each request, drawn from the seed: how long its answer is, and whether something goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from ...config.load import Length
from ...config.simulator import SimulatorTargetConfig
from ...domain.errors import ConfigError
from ...workload.lengths import draw, lengths_of_file
from ..profiles.profile import KEY

_FATES = 0xFA7E


@dataclass(frozen=True, slots=True)
class Fate:
    """Of one request; at most one of the four happens.

    Attributes:
        length: tokens after which the answer ends by itself; None: it does not.
    """

    http_429: bool = False
    http_500: bool = False
    stall: bool = False
    cut: bool = False
    length: int | None = None


class Fates:
    """The n-th request of a server (from 0) has the same fate under the same configuration.

    One of a single token without streaming is left alone, and is not counted: so clients count the tokens of prompts
    before the load.

    Raises:
        ConfigError: the file of ``output_length`` cannot be read.
    """

    def __init__(self, config: SimulatorTargetConfig) -> None:
        failures = config.failures
        rates = (failures.http_429_rate, failures.http_500_rate, failures.stall_rate, failures.cut_rate)
        self._bounds = np.cumsum(rates).tolist()
        self._seed = config.seed
        self._length: Length | None = config.output_length
        self._nothing = Fate()
        self._numbers = count()
        if config.output_length is not None and config.output_length.path is not None:
            _check_file(config.output_length.path)

    def next(self, max_tokens: int, *, streaming: bool) -> Fate:
        """What becomes of the next request."""
        if (max_tokens == 1 and not streaming) or (not self._bounds[-1] and self._length is None):
            return self._nothing
        rng = np.random.default_rng((self._seed, _FATES, next(self._numbers)))
        at = rng.random()
        a, b, c, d = (at < bound for bound in self._bounds)
        length = None if self._length is None else draw(self._length, rng)
        return Fate(http_429=a, http_500=b and not a, stall=c and not b, cut=d and not c, length=length)


def _check_file(path: str) -> None:
    try:
        lengths_of_file(path)
    except ConfigError as error:
        raise ConfigError(f"{KEY}.output_length.path: {error.message}", advice=error.advice) from None
