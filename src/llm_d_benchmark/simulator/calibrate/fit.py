"""Least squares for the cost model, on requests replayed through the engine.

Each request gives two observations: the time to its first token, and the time from there to its last. Both are sums of
step times, so with the schedule of a replay held fixed they are linear in the coefficients, once it is said up to how
many tokens a step is bound by reading the weights (the knee). So: replay with the present coefficients, solve
non-negative least squares with weights 1/y^2 for each knee, replay again with the best, and so on, as long as it helps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.optimize import nnls

from ...domain.errors import ConfigError
from ..api import FloatArray
from ..cost import StepCost
from ..engine import EngineLimits
from .levels import Level
from .replay import Replay, replay

KNEES = (0, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Tokens of a step up to which reading the weights takes longer than the arithmetic; 0: never."""

ROBUST = 0.1
"""Relative errors beyond this count linearly, not squared: a hiccup of the server must not bend the model."""

MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The cost model as it is fitted: ``values`` are s per step, token, decode sequence, context token and pair."""

    values: FloatArray
    knee: int

    @property
    def cost(self) -> StepCost:
        fixed, token, sequence, context, pair = (float(v) for v in self.values)
        # A step that takes no time would never end; the least is far below what any clock of a client sees.
        return StepCost(max(fixed, 1e-7), token * self.knee, token, sequence, context, pair)

    def towards(self, other: Coefficients, part: float) -> Coefficients:
        return Coefficients(self.values + part * (other.values - self.values), other.knee)


@dataclass(frozen=True, slots=True)
class Observations:
    """Measured times y (m,), and per request the features of the steps it saw; ``weight`` makes levels count alike."""

    features: FloatArray
    y: FloatArray
    weight: FloatArray


def fit(levels: Sequence[Level], limits: EngineLimits) -> StepCost:
    """The cost model that fits these levels best.

    Raises:
        ConfigError: there is no request with more than one token.
    """
    if not any((level.output > 1).any() for level in levels):
        raise ConfigError("no answer has more than one token: the time of a decode step cannot be known")
    present = _start(levels)
    replays = [replay(level, present.cost, limits) for level in levels]
    error = _error(levels, replays)
    for _ in range(MOST_ROUNDS):
        candidate, seen, its_error = _next(levels, replays, present, limits)
        if its_error > error * 0.999:
            break
        present, replays, error = candidate, seen, its_error
    return present.cost


def _start(levels: Sequence[Level]) -> Coefficients:
    """From the least loaded requests alone: all of the first token's time is its prompt, all of the others' fixed."""
    first = np.concatenate(
        [[(c[0] - s) / p for c, s, p in zip(x.chunks, x.sent, x.prompt, strict=True)] for x in levels]
    )
    further = np.concatenate(
        [[(c[-1] - c[0]) / (n - 1) for c, n in zip(x.chunks, x.output, strict=True) if n > 1] for x in levels]
    )
    return Coefficients(np.array([np.quantile(further, 0.1), np.quantile(first, 0.1), 0.0, 0.0, 0.0]), 0)


def _next(
    levels: Sequence[Level], replays: Sequence[Replay], present: Coefficients, limits: EngineLimits
) -> tuple[Coefficients, list[Replay], float]:
    """The best of some steps from the present coefficients towards the solutions for the present schedule."""
    solved = []
    for knee in KNEES:
        seen = _observe(levels, replays, knee)
        values = _solve(seen)
        solved.append((_mean_loss(seen.features @ values, seen), Coefficients(values, knee)))
    solved.sort(key=lambda s: s[0])
    best: tuple[Coefficients, list[Replay], float] | None = None
    for part in (1.0, 0.5, 0.25):
        for _, goal in solved[:3]:
            candidate = present.towards(goal, part)
            replayed = [replay(level, candidate.cost, limits) for level in levels]
            error = _error(levels, replayed)
            if best is None or error < best[2]:
                best = (candidate, replayed, error)
    assert best is not None
    return best


def _observe(levels: Sequence[Level], replays: Sequence[Replay], knee: int) -> Observations:
    groups = Counter(level.label for level in levels)
    parts = [_of_level(level, done, knee) for level, done in zip(levels, replays, strict=True)]
    weight = [np.full(len(y), 1 / len(y) / groups[x.label]) for x, (_, y) in zip(levels, parts, strict=True)]
    return Observations(
        np.concatenate([f for f, _ in parts]), np.concatenate([y for _, y in parts]), np.concatenate(weight)
    )


def _of_level(level: Level, done: Replay, knee: int) -> tuple[FloatArray, FloatArray]:
    """Features and measured times of one level: first tokens, then the rest of the answers."""
    tokens = np.maximum(done.prefill + done.seqs, knee)
    steps = np.stack([np.ones(len(tokens)), tokens, done.seqs, done.context, done.pairs], axis=1)
    until = np.vstack([np.zeros(5), np.cumsum(steps, axis=0)])
    first = np.searchsorted(done.end, done.first)  # the step that made it
    last = np.searchsorted(done.end, done.last)
    # A request arrives during a step, of which it sees the rest.
    arrival = np.searchsorted(done.end, level.sent, side="right")
    seen = np.maximum(done.begin[arrival], level.sent)
    rest = (done.end[arrival] - seen) / (done.end[arrival] - done.begin[arrival])
    ttft = until[first + 1] - until[arrival + 1] + steps[arrival] * rest[:, None]
    more = level.output > 1
    decode = (until[last + 1] - until[first + 1])[more]
    measured_first, measured_rest = _measured(level)
    return np.vstack([ttft, decode]), np.concatenate([measured_first, measured_rest[more]])


def _measured(level: Level) -> tuple[FloatArray, FloatArray]:
    first = np.array([c[0] for c in level.chunks])
    last = np.array([c[-1] for c in level.chunks])
    return first - level.sent, last - first


def _solve(seen: Observations) -> FloatArray:
    """Non-negative least squares of relative errors, each beyond ``ROBUST`` weighted down until it counts linearly."""
    robust = np.ones(len(seen.y))
    relative = seen.features / seen.y[:, None]
    values = np.zeros(relative.shape[1])
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)
    for _ in range(10):
        w = np.sqrt(seen.weight * robust)
        values, _ = nnls(relative / scale * w[:, None], w)
        error = np.abs(relative / scale @ values - 1)
        robust = np.minimum(1.0, ROBUST / np.maximum(error, 1e-12))
    return cast(FloatArray, values / scale)


def _error(levels: Sequence[Level], replays: Sequence[Replay]) -> float:
    """Mean loss of what the replays, with their own schedules, say of the measured times."""
    groups = Counter(level.label for level in levels)
    total = 0.0
    for level, done in zip(levels, replays, strict=True):
        first, rest = _measured(level)
        more = level.output > 1
        ratio = np.concatenate([(done.first - level.sent) / first, ((done.last - done.first)[more]) / rest[more]])
        total += float(np.mean(_loss(ratio))) / groups[level.label]
    return total / len(groups)


def _mean_loss(predicted: FloatArray, seen: Observations) -> float:
    return float(np.sum(seen.weight * _loss(predicted / seen.y)) / np.sum(seen.weight))


def _loss(ratio: FloatArray) -> FloatArray:
    """Huber's loss of the logarithm of predicted over measured."""
    error = np.abs(np.log(np.maximum(ratio, 1e-6)))
    return np.where(error < ROBUST, error * error / 2, ROBUST * (error - ROBUST / 2))
