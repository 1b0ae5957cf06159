"""Several workers at one study: each run of the search is made by one of them, and all learn of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from ..domain.study import Settings, StudyMeasurement
from .ledger import Ledger
from .plan import MethodPlan
from .space import key_of

Answer = Literal["yours", "taken", "spent"]
FINALS = "the last comparison"


class Board(Protocol):
    """Where workers agree; see ``store.board.Board``."""

    def claim(self, what: str, number: int, method: str, most: int) -> Answer: ...
    def tell(self, what: str, number: int, found: Mapping[str, Any] | None) -> None: ...
    def news(self) -> Sequence[Mapping[str, Any]]: ...
    def waiting(self) -> bool: ...


class Alone:
    """The board of a study with one worker."""

    def __init__(self) -> None:
        self._claims: Counter[str] = Counter()

    def claim(self, what: str, number: int, method: str, most: int) -> Answer:
        if self._claims[method] >= most:
            return "spent"
        self._claims[method] += 1
        return "yours"

    def tell(self, what: str, number: int, found: Mapping[str, Any] | None) -> None:
        """Nobody listens."""

    def news(self) -> Sequence[Mapping[str, Any]]:
        return []

    def waiting(self) -> bool:
        return False


class Sharing:
    """A board in the words of a study.

    Args:
        keep: is given every run that another worker made, to be kept with the study.
    """

    def __init__(
        self, board: Board | None, ledger: Ledger, keep: Callable[[StudyMeasurement], None] = lambda _: None
    ) -> None:
        self._board: Board = board or Alone()
        self._ledger = ledger
        self._keep = keep

    def claim(self, settings: Settings, repeat: int, method: MethodPlan) -> Answer:
        return self._board.claim(key_of(settings), repeat, method.method, method.runs)

    def tell(self, settings: Settings, repeat: int, found: StudyMeasurement | None) -> None:
        """What became of a run that was claimed; None, or one that was interrupted, gives it back."""
        done = found is not None and found.state != "interrupted"
        self._board.tell(key_of(settings), repeat, _said([found]) if found and done else None)

    def claim_finals(self) -> bool:
        """Whether this worker makes the last comparison, whose runs are of use only on one machine, in turns."""
        return self._board.claim(FINALS, 0, FINALS, 1) == "yours"

    def tell_finals(self, done: bool) -> None:
        """The last comparison is done, or given back."""
        finals = [r for r in self._ledger.runs if r.purpose == "final"]
        self._board.tell(FINALS, 0, _said(finals) if done else None)

    def listen(self) -> None:
        """Take up what others measured. Their run folders are not here."""
        for entry in self._board.news():
            for run in entry["runs"]:
                found = dataclasses.replace(StudyMeasurement(**run), path="")
                if len(self._ledger.of(found.settings, found.purpose)) <= found.repeat:
                    self._ledger.add(found)
                    self._keep(found)

    def waiting(self) -> bool:
        """Whether others are at runs of the search."""
        return self._board.waiting()


def _said(runs: Sequence[StudyMeasurement]) -> Mapping[str, Any]:
    return {"runs": [dataclasses.asdict(r) for r in runs]}
