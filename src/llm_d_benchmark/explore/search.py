"""The search itself: who is measured next, how often, and when the present configuration is looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BenchmarkError, TargetError
from ..domain.study import Purpose, Settings, StudyMeasurement
from .adaptive import Adaptive
from .designs import design
from .ledger import Ledger, Standing, front, standing
from .plan import ADAPTIVE, MethodPlan, Plan
from .racing import hopeless
from .space import key_of

GIVE_UP = 5
"""Failed runs with no success at all before the study is given up."""


@dataclass(frozen=True, slots=True)
class Question:
    """A run that is wanted. ``settings``: None for the configuration as it is."""

    settings: Settings | None
    purpose: Purpose
    repeat: int
    method: str


Measure = Callable[[Question], Awaitable[StudyMeasurement]]
Say = Callable[[str], None]


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """The user stopped the study."""


class Explorer:
    """Carries out a plan. Runs that the ledger holds already are not made again, so that a study can go on."""

    def __init__(
        self,
        plan: Plan,
        measure: Measure,
        ledger: Ledger,
        *,
        name: str = "study",
        stop: asyncio.Event | None = None,
        say: Say = lambda _: None,
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self._measure = measure
        self._name = name
        self._stop = stop or asyncio.Event()
        self._say = say
        self._spent = 0

    async def run(self) -> None:
        """Search, then measure the best once more.

        Raises:
            BenchmarkError: nothing that was tried could be measured.
        """
        try:
            await self._ensure(None, "reference", 0, "")
            for method in self.plan.methods:
                self._spent = 0
                if method.method in ADAPTIVE:
                    await self._adaptive(method)
                else:
                    await self._fixed(method)
            await self._finals()
        except Stopped:
            return

    async def _fixed(self, method: MethodPlan) -> None:
        """Rounds over the whole design, each in an order of its own: drift then falls on all alike."""
        seed = self.plan.search.seed
        chosen = design(self.plan.space, method.method, method.trials, seed)
        rng = np.random.default_rng([seed, 1])
        for repeat in range(self.plan.search.repeats):
            order = range(len(chosen)) if repeat == 0 else rng.permutation(len(chosen))
            for settings in (chosen[i] for i in order):
                if repeat and self._out(settings):
                    continue
                if not await self._search(settings, repeat, method):
                    return

    async def _adaptive(self, method: MethodPlan) -> None:
        search = self.plan.search
        proposer = Adaptive(
            self.plan, method.method, method.trials, seed=search.seed, storage=search.storage, name=self._name
        )
        while proposer.finished < method.trials:
            settings = proposer.ask()
            if settings is None:
                return
            for repeat in range(search.repeats):
                if repeat and self._out(settings):
                    break
                if not await self._search(settings, repeat, method):
                    return
            proposer.tell(self.standing(settings))

    def standing(self, settings: Settings) -> Standing:
        return standing(self.plan, settings, self.ledger.of(settings, "search"))

    def standings(self) -> list[Standing]:
        return [self.standing(s) for s in self.ledger.searched()]

    def _out(self, settings: Settings) -> bool:
        return bool(hopeless(self.plan, self.ledger, self.standing(settings), self.standings()))

    async def _search(self, settings: Settings, repeat: int, method: MethodPlan) -> bool:
        """Whether the run is there; False where the method has spent its runs."""
        if len(self.ledger.of(settings, "search")) > repeat:
            self.ledger.propose(settings, method.method)
            return True
        if self._spent >= method.runs:
            return False
        every = self.plan.search.reference_every
        if every and self.ledger.since_reference() >= every:
            await self._ensure(None, "reference", len(self.ledger.of(None, "reference")), "")
        self._spent += 1
        self.ledger.propose(settings, method.method)
        await self._ensure(settings, "search", repeat, method.method)
        return True

    async def _finals(self) -> None:
        """The best again, with the present configuration, in rounds of alternating order with fresh seeds."""
        search = self.plan.search
        chosen = finalists(self.plan, self.standings())[: search.finalists]
        if not chosen:
            return
        field: list[Settings | None] = [None, *(s.settings for s in chosen)]
        self._say(
            f"measuring again: the present configuration and the {len(chosen)} best, {search.finalist_runs} times"
        )
        for turn in range(search.finalist_runs):
            for settings in field if turn % 2 == 0 else field[::-1]:
                await self._ensure(settings, "final", turn, "")

    async def _ensure(self, settings: Settings | None, purpose: Purpose, repeat: int, method: str) -> None:
        if len(self.ledger.of(settings, purpose)) > repeat:
            return
        if self._stop.is_set():
            raise Stopped
        found = await self._measure(Question(settings, purpose, repeat, method))
        self.ledger.add(found)
        if found.state == "interrupted" or self._stop.is_set():
            raise Stopped
        self._tell(found)
        runs = self.ledger.runs
        if len(runs) >= GIVE_UP and all(r.state == "failed" for r in runs):
            raise TargetError(
                f"all of the first {len(runs)} runs failed; the last one: {found.reason}",
                advice="try one by hand: llm-d-benchmark run -c with the same file",
            )

    def _tell(self, run: StudyMeasurement) -> None:
        what = "as it is" if run.settings is None else describe(run.settings)
        said = ", ".join(f"{m} {v:.4g}" for m, v in run.values.items()) if run.state == "ok" else run.reason
        best = front(self.plan, self.standings()) if run.purpose == "search" else []
        suffix = ""
        if len(self.plan.objectives) == 1 and best:
            metric = self.plan.objectives[0].metric
            suffix = f"   [best {best[0].value(metric):.4g}: {describe(best[0].settings)}]"
        elif best:
            suffix = f"   [{len(best)} on the Pareto front]"
        self._say(f"run {len(self.ledger.runs)}, {run.purpose}: {what}: {said}{suffix}")


def finalists(plan: Plan, standings: Sequence[Standing]) -> list[Standing]:
    """Feasible configurations worth measuring again, best first: the front, then what is next behind it."""
    left = [s for s in standings if s.state == "feasible" and s.scores(plan.objectives) is not None]
    found: list[Standing] = []
    while left:
        layer = _spread(front(plan, left))
        found += layer
        taken = {key_of(s.settings) for s in layer}
        left = [s for s in left if key_of(s.settings) not in taken]
    return found


def _spread(layer: list[Standing]) -> list[Standing]:
    """The two ends of a front first, then its middle, and so on, so that the first few cover it."""
    if len(layer) < 3:
        return layer
    order, gaps = [0, len(layer) - 1], [(0, len(layer) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        middle = (low + high) // 2
        if middle in (low, high):
            continue
        order.append(middle)
        gaps += [(low, middle), (middle, high)]
    return [layer[i] for i in order]


def describe(settings: Settings) -> str:
    """``batch_size=8, concurrency=16``."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


__all__ = ["BenchmarkError", "Explorer", "Measure", "Question", "describe", "finalists"]
