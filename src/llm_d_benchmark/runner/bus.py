"""The event stream of a run: whoever wants to watch subscribes, nobody touches the request path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from ..domain.events import Event, EventType, Finding

Observer = Callable[[Event], None]


class EventBus:
    """Hands every event to every observer, in order."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = list(observers)

    def subscribe(self, observer: Observer) -> None:
        self._observers.append(observer)

    def publish(self, event: Event) -> None:
        for observer in self._observers:
            observer(event)

    def emit(self, type_: EventType, **data: Any) -> None:
        """Publish an event that happens now."""
        self.publish(Event(type_, time.time_ns(), data))

    def finding(self, finding: Finding) -> None:
        self.publish(finding.event(time.time_ns()))
