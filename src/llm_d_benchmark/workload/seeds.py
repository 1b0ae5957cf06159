"""One random stream for every purpose and position, so that no draw depends on how many came before it."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Use(IntEnum):
    """What a stream is drawn for."""

    PROMPT = 1
    LENGTH = 2
    ARRIVAL = 3
    MODEL = 4
    PREFIX = 5
    ORDER = 6
    SIZER = 7


def generator(seed: int, use: Use, *position: int) -> np.random.Generator:
    """The stream of ``use`` at ``position`` (stage, session, ...) under ``seed``."""
    key = np.random.SeedSequence([abs(seed), int(seed < 0), int(use), *position])
    return np.random.Generator(np.random.PCG64(key))
