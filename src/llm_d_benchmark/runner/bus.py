"""The event stream of a run: whoever wants to watch subscribes, nobody touches the request path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from ..domain.clock import wall_clock_offset
from ..domain.events import Event, EventType, Finding

Observer = Callable[[Event], None]


class EventBus:
    """Hands every event to every observer, in order.

    Events carry the same clock as the records, monotonic time plus ``clock_offset``, so that a step of the wall clock
    cannot set a run's events against its records. A run in virtual time gives its own ``clock`` (epoch ns).
    """

    def __init__(
        self,
        observers: Iterable[Observer] = (),
        *,
        clock_offset: int | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._observers = list(observers)
        self._clock = clock
        self.clock_offset = wall_clock_offset() if clock_offset is None else clock_offset

    def subscribe(self, observer: Observer) -> None:
        self._observers.append(observer)

    def now(self) -> int:
        """Epoch ns on the run's clock."""
        return time.monotonic_ns() + self.clock_offset if self._clock is None else self._clock()

    def publish(self, event: Event) -> None:
        for observer in self._observers:
            observer(event)

    def emit(self, type_: EventType, **data: Any) -> None:
        """Publish an event that happens now."""
        self.publish(Event(type_, self.now(), data))

    def finding(self, finding: Finding) -> None:
        self.publish(finding.event(self.now()))
