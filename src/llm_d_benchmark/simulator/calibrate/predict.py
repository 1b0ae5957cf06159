"""What a cost model says of a level: its load once more, through the engine model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...domain.records import IntArray
from ..api import CostModel, EngineRequest, FloatArray
from ..engine import Engine, EngineLimits
from ..pace import Pace
from ..progress import Progress
from .levels import Level, Performance, performance


def predict(level: Level, cost: CostModel, limits: EngineLimits) -> Performance | None:
    """What the model says of the level's load; nothing of what was measured but the lengths of its requests enters.

    A closed loop sends the level's requests over and over until the window ends, each user the next one when its last
    one is answered; an open loop sends them when they were sent.
    """
    end = level.window[1]
    due = deque([0.0] * level.concurrency if level.concurrency else level.sent.tolist())
    drive = _Drive(level, Engine(limits, Pace(cost)), due)
    for ends, finished in drive.steps():
        if level.concurrency and ends[-1] < end:
            due.extend([float(ends[-1])] * finished)
    progress = drive.progress
    sent = np.array([p.arrived for p in progress])
    output: IntArray = np.array([p.request.output_tokens for p in progress], np.int64)
    return performance(sent, output, [p.token_times for p in progress], level.window)


@dataclass(slots=True)
class _Drive:
    """One engine from arrival to arrival; ``due`` are the times of the next ones, its caller may add to them."""

    level: Level
    engine: Engine
    due: deque[float]
    progress: list[Progress] = field(default_factory=list)

    def steps(self) -> Iterator[tuple[FloatArray, int]]:
        """Ends of some steps in a row, and how many requests ended with the last of them."""
        now = 0.0
        while self.due or not self.engine.idle:
            while self.due and self.due[0] <= now:
                self.progress.append(self.engine.submit(self._request(), self.due.popleft()))
            ends = self.engine.begin(now)
            if ends is None:
                now = self.due[0]
                continue
            if self.due:  # the step in which the next one arrives is the last before it counts
                ends = ends[: np.searchsorted(ends, self.due[0]) + 1]
            _, finished = self.engine.end(len(ends))
            yield ends, len(finished)
            now = float(ends[-1])

    def _request(self) -> EngineRequest:
        number = len(self.progress)
        row = number % len(self.level)
        return EngineRequest(number, int(self.level.prompt[row]), int(self.level.output[row]))
