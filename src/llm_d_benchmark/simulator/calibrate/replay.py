"""A level once more through the engine model: at the times its requests were sent, or as its users would send them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ...domain.records import IntArray
from ..api import CostModel, EngineRequest, FloatArray
from ..engine import Engine, EngineLimits, Step
from ..pace import Pace
from ..progress import Progress
from .levels import Level, Performance, performance


@dataclass(frozen=True, slots=True)
class Replay:
    """What the engine did: n requests in s steps. Times in seconds.

    Attributes:
        first, last: when each request got its first and its last token, shape (n,).
        begin, end: of the steps, shape (s,).
        prefill, pairs, seqs, context: the steps' loads, see ``StepLoad``, shape (s,).
    """

    first: FloatArray
    last: FloatArray
    begin: FloatArray
    end: FloatArray
    prefill: FloatArray
    pairs: FloatArray
    seqs: FloatArray
    context: FloatArray


def replay(level: Level, cost: CostModel, limits: EngineLimits) -> Replay:
    """The level's requests, each arriving when it was really sent."""
    engine = Engine(limits, Pace(cost))
    progress: list[Progress] = []
    steps: list[Step] = []
    now = 0.0
    while len(progress) < len(level) or not engine.idle:
        if engine.idle:
            now = max(now, float(level.sent[len(progress)]))
        while len(progress) < len(level) and level.sent[len(progress)] <= now:
            number = len(progress)
            progress.append(engine.submit(_request(level, number), float(level.sent[number])))
        step = engine.step(now)
        if step is not None:
            steps.append(step)
            now = step.end
    loads = [s.load for s in steps]
    return Replay(
        first=np.array([p.first_token for p in progress], np.float64),
        last=np.array([p.last_token for p in progress], np.float64),
        begin=np.array([s.begin for s in steps]),
        end=np.array([s.end for s in steps]),
        prefill=np.array([x.prefill_tokens for x in loads], np.float64),
        pairs=np.array([x.prefill_pairs for x in loads], np.float64),
        seqs=np.array([x.decode_seqs for x in loads], np.float64),
        context=np.array([x.decode_context for x in loads], np.float64),
    )


def predict(level: Level, cost: CostModel, limits: EngineLimits) -> Performance | None:
    """What the model says of the level's load; nothing of what was measured but the lengths of its requests enters.

    A closed loop sends the level's requests over and over until the window ends, each user the next one when its last
    one is answered; an open loop sends them when they were sent.
    """
    engine = Engine(limits, Pace(cost))
    due = deque([0.0] * level.concurrency if level.concurrency else level.sent.tolist())
    now, end = 0.0, level.window[1]
    progress: list[Progress] = []
    while due or not engine.idle:
        while due and due[0] <= now:
            progress.append(engine.submit(_request(level, len(progress)), due.popleft()))
        step = engine.step(now)
        if step is None:
            now = due[0]
            continue
        now = step.end
        if level.concurrency and now < end:
            due.extend([now] * len(step.finished))
    sent = np.array([p.arrived for p in progress])
    output: IntArray = np.array([p.request.output_tokens for p in progress], np.int64)
    return performance(sent, output, [p.token_times for p in progress], level.window)


def _request(level: Level, number: int) -> EngineRequest:
    row = number % len(level)
    return EngineRequest(number, int(level.prompt[row]), int(level.output[row]))
