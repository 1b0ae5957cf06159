"""The steps of a server, told from outside: tokens of all requests that arrive together were made by one step.

In a step each decoding sequence gets one token, so a token that comes later than ``TOGETHER``, or is its request's
second one, is of a new step. What the step computed follows from the records: who got a token decodes, with its prompt
and its answer so far as context, and a request that got its first one had its prompt computed, where it does not fit
into a step with the end of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...domain.records import IntArray
from ..api import FloatArray
from .levels import Level

TOGETHER = 0.25
"""Tokens of one step arrive within this part of the level's median gap between the tokens of a request."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The s steps of a level and when its n requests were part of them. Times in seconds.

    Attributes:
        begin, end: shape (s,).
        prefill, pairs, seqs, context: the loads, see ``StepLoad``, shape (s,).
        woke: steps that began as a request came to a server with nothing to do, shape (s,).
        first, last: step that made a request's first and last token, shape (n,).
    """

    begin: FloatArray
    end: FloatArray
    prefill: FloatArray
    pairs: FloatArray
    seqs: FloatArray
    context: FloatArray
    woke: npt.NDArray[np.bool_]
    first: IntArray
    last: IntArray


def observed_steps(level: Level, max_num_batched_tokens: int) -> Steps:
    """The steps of one replica that served the level alone."""
    times, owner, index = _tokens(level)
    step = _grouped(times, owner, TOGETHER * _median_gap(level))
    count = int(step[-1]) + 1
    end = np.full(count, np.inf)
    np.minimum.at(end, step, times)
    first, last = np.empty(len(level), np.int64), np.empty(len(level), np.int64)
    first[owner[index == 0]] = step[index == 0]
    final = index == level.output[owner] - 1
    last[owner[final]] = step[final]
    decoding = index > 0
    seqs = np.bincount(step[decoding], minlength=count).astype(np.float64)
    context = np.bincount(step[decoding], (level.prompt[owner] + index)[decoding], count).astype(np.float64)
    prefill, pairs = _prompts(level, first, seqs, max_num_batched_tokens)
    begin, woke = _begins(level, end, first, last)
    return Steps(begin, end, prefill, pairs, seqs, context, woke, first, last)


def _tokens(level: Level) -> tuple[FloatArray, IntArray, IntArray]:
    """Arrival, request and number of every token in order of arrival; those of one chunk are spread to the next."""
    times = [
        c if len(c) == n else np.interp(np.linspace(0, len(c) - 1, n), np.arange(len(c)), c)
        for c, n in zip(level.chunks, level.output, strict=True)
    ]
    at = np.concatenate(times)
    order = np.argsort(at, kind="stable")
    owner = np.repeat(np.arange(len(level)), level.output)
    index = np.concatenate([np.arange(n) for n in level.output])
    return at[order], owner[order], index[order]


def _median_gap(level: Level) -> float:
    gaps = [(c[-1] - c[0]) / (n - 1) for c, n in zip(level.chunks, level.output, strict=True) if n > 1]
    return float(np.median(gaps)) if gaps else 0.0


def _grouped(times: FloatArray, owner: IntArray, together: float) -> IntArray:
    """The step of each token."""
    step = np.empty(len(owner), np.int64)
    number, seen, until = -1, set[int](), -np.inf
    for i, (time, request) in enumerate(zip(times.tolist(), owner.tolist(), strict=True)):
        if time > until or request in seen:
            number += 1
            until = time + together
            seen.clear()
        seen.add(request)
        step[i] = number
    return step


def _prompts(level: Level, first: IntArray, seqs: FloatArray, budget: int) -> tuple[FloatArray, FloatArray]:
    """Prompt tokens and query-key pairs per step: the end of a prompt in the step of its first token, what does not fit
    in the steps before. What was cached is not computed, but each token that is looks at it."""
    prefill, pairs = np.zeros(len(seqs)), np.zeros(len(seqs))
    computed, cached = level.computed, level.cached
    for request in np.argsort(first, kind="stable").tolist():
        left, step = int(computed[request]), int(first[request])
        while left > 0:
            room = int(budget - seqs[step] - prefill[step])
            chunk = left if step == 0 or room >= left else max(room, 0)
            prefill[step] += chunk
            pairs[step] += chunk * (cached[request] + left - chunk + (chunk + 1) / 2)
            left -= chunk
            step -= 1
    return prefill, pairs


def _begins(level: Level, end: FloatArray, first: IntArray, last: IntArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """A step begins where the last one ended, or, if nobody was there then, when the first of its requests was sent;
    whether it was so."""
    begin = np.concatenate([[-np.inf], end[:-1]])
    earliest = np.full(len(end), np.inf)
    np.minimum.at(earliest, first, level.sent)
    present = np.zeros(len(end) + 1)  # requests that decode in a step: from the one after their first to their last
    np.add.at(present, first + 1, 1)
    np.add.at(present, last + 1, -1)
    idle = np.cumsum(present)[:-1] <= 0
    woke = idle & (earliest >= begin)
    return np.where(woke, earliest, begin), woke
