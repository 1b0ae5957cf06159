"""Least squares for the cost model, on the steps that a run shows.

Each request gives two observations: the time to its first token, and the time from there to its last. Both are sums of
step times, so they are linear in the coefficients once it is said up to how many tokens a step is bound by reading the
weights (the knee): non-negative least squares of relative errors, for the knee that leaves the least error.

Where the steps that only decode were seen often enough with every number of sequences, knots of their time are fitted,
too, and kept if they explain clearly more than the roofline alone. In a request's sum a number of sequences that was
never the whole load comes only beside others, most of all beside the prompt that brings the missing one, and least
squares trade one for the other; so here each of these steps is an observation, too. Requests that come to an idle
server show what happens to them before they are queued.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar, nnls

from ...domain.errors import ConfigError
from ..api import FloatArray
from ..cost import StepCost
from .levels import Level
from .steps import Steps, observed_steps

KNEES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
"""Tokens of a step up to which reading the weights takes longer than the arithmetic; 0: never."""

ROBUST = 0.1
"""Relative errors beyond this count linearly, not squared: a hiccup of the server must not bend the model."""

ROUNDS = 10

KNOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Numbers of sequences whose decode step may get a time of its own; the largest that was seen is another."""

GOOD = 1e-4
"""Loss of a roofline that needs no knots: errors of 1.4 %."""

LEAST_STEPS = 20
"""Decode steps that each knot needs."""

GAIN = 0.15
"""Part of the roofline's loss that knots must do away with to be kept."""

ROOFLINE = 6
"""Columns of the features before those of the knots: fixed, token, sequence, context, pair, request_overhead."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """``request_overhead``: seconds from a request's arrival until it is queued."""

    cost: StepCost
    request_overhead: float


@dataclass(frozen=True, slots=True)
class Observations:
    """Measured times y (m,), and per request the features of the steps it saw; ``weight`` makes levels count alike."""

    features: FloatArray
    y: FloatArray
    weight: FloatArray


def fit(levels: Sequence[Level], max_num_batched_tokens: int) -> Fitted:
    """The cost model that fits these levels best.

    Raises:
        ConfigError: there is no answer that arrived in more than one piece.
    """
    if not any(_spread(level).any() for level in levels):
        raise ConfigError(
            "no answer arrived in more than one piece: the time of a decode step cannot be known",
            advice="measure a server that sends tokens as they are made, with answers of some tens of tokens",
        )
    steps = [observed_steps(level, max_num_batched_tokens) for level in levels]
    roofline, loss = _best(levels, steps, (), singly=False)
    knots = _knots(steps) if loss > GOOD else ()
    if knots:
        _, loss = _best(levels, steps, (), singly=True)
        bent, less = _best(levels, steps, knots, singly=True)
        if less < (1 - GAIN) * loss:
            return bent
    return roofline


def _best(
    levels: Sequence[Level], steps: Sequence[Steps], knots: Sequence[int], *, singly: bool
) -> tuple[Fitted, float]:
    """The best fit with these knots, and its loss."""

    def solve(knee: float) -> tuple[FloatArray, float]:
        seen = _observe(levels, steps, knee, knots, singly=singly)
        values = _solve(seen)
        return values, _mean_loss(seen.features @ values, seen)

    def loss(knee: float) -> float:
        return solve(knee)[1]

    best = int(np.argmin([loss(knee) for knee in KNEES]))
    around = (KNEES[max(best - 1, 0)], KNEES[min(best + 1, len(KNEES) - 1)])
    near = minimize_scalar(loss, bounds=around, method="bounded", options={"maxiter": 20})
    knee = float(near.x) if near.fun < loss(KNEES[best]) else KNEES[best]
    found, least = solve(knee)
    values = found.tolist()
    fixed, token, sequence, context, pair, overhead = values[:ROOFLINE]
    # A step that takes no time would never end; the least is far below what any clock of a client sees.
    times = tuple((n, max(v, 1e-7)) for n, v in zip(knots, values[ROOFLINE:], strict=True))
    cost = StepCost(max(fixed, 1e-7), token * knee, token, sequence, context, pair, decode_knots=times)
    return Fitted(cost, overhead), least


def _knots(steps: Sequence[Steps]) -> Sequence[int]:
    """Numbers of sequences up to the largest batch that decoded; none where one of them was not seen often enough."""
    seqs = np.concatenate([seen.seqs[seen.prefill == 0] for seen in steps])
    if not len(seqs):
        return ()
    most = int(seqs.max())
    knots = [*(n for n in KNOTS if n < most), most]
    return knots if (_hats(seqs, knots).sum(axis=0) >= LEAST_STEPS).all() else ()


def _hats(seqs: FloatArray, knots: Sequence[int]) -> FloatArray:
    """How much of each knot linear interpolation takes: shape (len(seqs), len(knots)), rows add up to 1."""
    return np.stack([np.interp(seqs, knots, unit) for unit in np.eye(len(knots))], axis=1)


def _observe(
    levels: Sequence[Level], steps: Sequence[Steps], knee: float, knots: Sequence[int], *, singly: bool
) -> Observations:
    """What the requests of these levels saw; ``singly``: and what each step took that only decodes."""
    groups = Counter(level.label for level in levels)
    parts, weights = [], []
    for level, seen in zip(levels, steps, strict=True):
        features = _features(seen, knee, knots)
        for part in (_of_level(level, seen, features), *([_of_steps(seen, features)] if singly else [])):
            parts.append(part)
            weights.append(np.full(len(part[1]), 1 / max(len(part[1]), 1) / groups[level.label]))
    return Observations(
        np.concatenate([f for f, _ in parts]), np.concatenate([y for _, y in parts]), np.concatenate(weights)
    )


def _of_steps(steps: Steps, features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Features and measured times of the steps that only decode, one by one."""
    took = steps.end - steps.begin
    alone = (steps.prefill == 0) & (steps.seqs > 0) & np.isfinite(took) & (took > 0)
    return features[alone], took[alone]


def _features(steps: Steps, knee: float, knots: Sequence[int]) -> FloatArray:
    """What each step took of each coefficient, see ``ROOFLINE``."""
    tokens = np.maximum(steps.prefill + steps.seqs, knee)
    roofline = np.stack([np.ones(len(tokens)), tokens, steps.seqs], axis=1)
    rest = np.stack([steps.context, steps.pairs, steps.woke], axis=1)
    if not knots:
        return np.hstack([roofline, rest])
    decodes = (steps.prefill == 0)[:, None]
    return np.hstack([np.where(decodes, 0.0, roofline), rest, np.where(decodes, _hats(steps.seqs, knots), 0.0)])


def _of_level(level: Level, steps: Steps, features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Features and measured times of one level: first tokens, then the rest of the answers."""
    until = np.vstack([np.zeros(features.shape[1]), np.cumsum(features, axis=0)])
    # A request arrives during a step, of which it sees the rest.
    arrival = np.minimum(np.searchsorted(steps.end, level.sent, side="right"), steps.first)
    seen = np.clip(level.sent, steps.begin[arrival], steps.end[arrival])
    rest = (steps.end[arrival] - seen) / np.maximum(steps.end[arrival] - steps.begin[arrival], 1e-9)
    ttft = until[steps.first + 1] - until[arrival + 1] + features[arrival] * rest[:, None]
    more = _spread(level)
    decode = (until[steps.last + 1] - until[steps.first + 1])[more]
    measured_first, measured_rest = _measured(level)
    return np.vstack([ttft, decode]), np.concatenate([measured_first, measured_rest[more]])


def _spread(level: Level) -> npt.NDArray[np.bool_]:
    """Answers whose last token came after their first."""
    return (level.output > 1) & (_measured(level)[1] > 0)


def _measured(level: Level) -> tuple[FloatArray, FloatArray]:
    first = np.array([c[0] for c in level.chunks])
    last = np.array([c[-1] for c in level.chunks])
    return first - level.sent, last - first


def _solve(seen: Observations) -> FloatArray:
    """Non-negative least squares of relative errors, each beyond ``ROBUST`` weighted down until it counts linearly.

    Relative to what is predicted: relative to what was measured, times that happen to be short would weigh most, and
    the fit of noisy times would be too fast.
    """
    scale = np.maximum((seen.features / seen.y[:, None]).max(axis=0), 1e-300)
    features = seen.features / scale
    predicted, robust = seen.y, np.ones(len(seen.y))
    for _ in range(ROUNDS):
        w = np.sqrt(seen.weight * robust) / predicted
        values, _ = nnls(features * w[:, None], seen.y * w)
        predicted = np.maximum(features @ values, 1e-3 * seen.y)
        error = np.abs(seen.y / predicted - 1)
        robust = np.minimum(1.0, ROBUST / np.maximum(error, 1e-12))
    return cast(FloatArray, values / scale)


def _mean_loss(predicted: FloatArray, seen: Observations) -> float:
    return float(np.sum(seen.weight * _loss(predicted / seen.y)) / np.sum(seen.weight))


def _loss(ratio: FloatArray) -> FloatArray:
    """Huber's loss of the logarithm of predicted over measured."""
    error = np.abs(np.log(np.maximum(ratio, 1e-6)))
    return np.where(error < ROBUST, error * error / 2, ROBUST * (error - ROBUST / 2))
