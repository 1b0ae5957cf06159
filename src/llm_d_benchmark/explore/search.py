"""The search itself: who is measured next, how often, and when the present configuration is looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..domain.errors import BenchmarkError, TargetError
from ..domain.study import Purpose, Settings, StudyMeasurement
from .adaptive import Adaptive
from .budget import Budget
from .designs import design
from .ledger import Ledger, Standing, front, standing
from .parsimony import contenders, effects_of, idle
from .plan import ADAPTIVE, MethodPlan, Plan
from .racing import hopeless
from .sharing import Sharing
from .space import key_of

GIVE_UP = 5
"""Failed runs with no success at all before the study is given up."""
MORE_ROUNDS = 3
"""Rounds of the last comparison are at most this many times ``finalist_runs``, where a time budget leaves time."""


@dataclass(frozen=True, slots=True)
class Question:
    """A run that is wanted. ``settings``: None for the configuration as it is."""

    settings: Settings | None
    purpose: Purpose
    repeat: int
    method: str


Became = Literal["there", "taken", "spent"]
"""Of a run that is wanted: it is there; another worker is at it; the method has spent its runs or its time."""
POLL_S = 0.5
"""How often other workers are asked for what they do."""
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
        budget: Budget | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self._measure = measure
        self._name = name
        self._stop = stop or asyncio.Event()
        self._say = say
        self._budget = budget or Budget(plan.search.time_budget)
        self._sharing = sharing or Sharing(None, ledger)
        self.cut = ""
        """What the time budget cut off; empty where it did not."""

    async def run(self) -> None:
        """Search, then measure the best once more.

        Raises:
            BenchmarkError: nothing that was tried could be measured.
        """
        try:
            await self._ensure(None, "reference", 0, "")
            for method in self.plan.methods:
                if self.cut:
                    break
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
            left: list[Settings] | None = [chosen[i] for i in order]
            while left:
                left = await self._round(left, repeat, method)
                if left is None:
                    return
                if left:
                    await self._others()

    async def _round(
        self, configurations: Sequence[Settings], repeat: int, method: MethodPlan
    ) -> list[Settings] | None:
        """Those that other workers are at; None where the method has spent its runs."""
        taken = []
        for settings in configurations:
            if repeat and self._out(settings):
                continue
            became = await self._search(settings, repeat, method)
            if became == "spent":
                return None
            if became == "taken":
                taken.append(settings)
        return taken

    async def _adaptive(self, method: MethodPlan) -> None:
        search = self.plan.search
        proposer = Adaptive(
            self.plan, method.method, method.trials, seed=search.seed, storage=search.database, name=self._name
        )
        while proposer.finished < method.trials:
            settings = proposer.ask()
            if settings is None:
                return
            became: Became = "there"
            for repeat in range(search.repeats):
                if repeat and self._out(settings):
                    break
                became = await self._search(settings, repeat, method)
                if became != "there":
                    break
            if became == "spent":
                return
            if became == "taken":
                proposer.drop(settings)
                await self._others()
            else:
                proposer.tell(self.standing(settings))

    def standing(self, settings: Settings) -> Standing:
        return standing(self.plan, settings, self.ledger.of(settings, "search"))

    def standings(self) -> list[Standing]:
        return [self.standing(s) for s in self.ledger.searched()]

    def _out(self, settings: Settings) -> bool:
        return bool(hopeless(self.plan, self.ledger, self.standing(settings), self.standings()))

    async def _search(self, settings: Settings, repeat: int, method: MethodPlan) -> Became:
        self._sharing.listen()
        if len(self.ledger.of(settings, "search")) > repeat:
            self.ledger.propose(settings, method.method)
            return "there"
        if not self._in_time(method):
            return "spent"
        answer = self._sharing.claim(settings, repeat, method)
        if answer != "yours":
            return answer
        try:
            await self._claimed(settings, repeat, method)
        finally:
            mine = self.ledger.of(settings, "search")
            self._sharing.tell(settings, repeat, mine[repeat] if len(mine) > repeat else None)
        return "there"

    async def _claimed(self, settings: Settings, repeat: int, method: MethodPlan) -> None:
        every = self.plan.search.reference_every
        if every and self.ledger.since_reference() >= every:
            await self._ensure(None, "reference", len(self.ledger.of(None, "reference")), "")
        self.ledger.propose(settings, method.method)
        await self._ensure(settings, "search", repeat, method.method)

    async def _others(self) -> None:
        """Give other workers time."""
        if self._stop.is_set():
            raise Stopped
        await asyncio.sleep(POLL_S)
        self._sharing.listen()

    async def _finals(self) -> None:
        """The best again, with the present configuration, in rounds of alternating order with fresh seeds."""
        await self._settle()
        search = self.plan.search
        main, crossed, _ = effects_of(self.plan, self.ledger)
        leave = idle(self.plan, self.ledger, main, crossed)
        chosen = finalists(self.plan, contenders(self.plan, self.ledger, leave))[: search.finalists]
        if not chosen:
            return
        begun = any(r.purpose == "final" for r in self.ledger.runs)
        if not begun and not self._sharing.claim_finals():
            self._say("another worker of the study makes the last comparison")
            await self._settle()
            return
        done = False
        try:
            await self._compare(chosen)
            done = True
        finally:
            self._sharing.tell_finals(done)

    async def _settle(self) -> None:
        """Wait for what others are at."""
        while self._sharing.waiting() and self._budget.left() > 0:
            await self._others()
        self._sharing.listen()

    async def _compare(self, chosen: Sequence[Standing]) -> None:
        search = self.plan.search
        field: list[Settings | None] = [None, *(s.settings for s in chosen)]
        rounds = search.finalist_runs
        if self._budget.limited:
            # Settled before the first: to go on until something looks better would find a difference in noise.
            rounds = int(min(MORE_ROUNDS * rounds, max(2, self._budget.left() // len(field))))
        best = "the best one" if len(chosen) == 1 else f"the {len(chosen)} best"
        self._say(f"measuring again: the present configuration and {best}, {rounds} times in turns")
        for s in chosen:
            self._say(f"  {describe(s.settings)}")
        for turn in range(rounds):
            if turn >= 2 and not self._budget.fits(len(field)):
                self._cut_off(f"the time budget ended the last comparison after {turn} of {rounds} rounds")
                return
            for settings in field if turn % 2 == 0 else field[::-1]:
                await self._ensure(settings, "final", turn, "")

    def _in_time(self, method: MethodPlan) -> bool:
        """Whether a further run of the search leaves the time that the last comparison needs."""
        search = self.plan.search
        last = (search.finalists + 1) * search.finalist_runs if search.finalists else 0
        if not self.cut and not self._budget.fits(1 + last):
            done = len(self.ledger.searched())
            self._cut_off(
                f"the time budget ended the search after {done} configurations; {method.method} wanted {method.trials}"
            )
        return not self.cut

    def _cut_off(self, what: str) -> None:
        self.cut = what
        self._say(what)

    async def _ensure(self, settings: Settings | None, purpose: Purpose, repeat: int, method: str) -> None:
        if len(self.ledger.of(settings, purpose)) > repeat:
            return
        if self._stop.is_set():
            raise Stopped
        began = self._budget.now()
        found = await self._measure(Question(settings, purpose, repeat, method))
        self.ledger.add(found)
        if found.state == "ok":
            self._budget.ran(began)
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
