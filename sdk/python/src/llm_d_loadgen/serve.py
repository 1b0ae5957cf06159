"""``serve``: the protocol from hello to done, around a generator of yours."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Sequence
from typing import Protocol

from .call import Call
from .stage import StageLoad
from .types import PROTOCOL, Hello, hello_of, session_of, stage_of
from .wire import Message, Wire


class Generator(Protocol):
    """Yours to write. ``send`` does one request; the kit calls it when the schedule and the concurrency say so."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def capabilities(self) -> Sequence[str]: ...

    async def open(self, hello: Hello) -> None:
        """Once, before anything else. An exception here ends the run with its text."""
        ...

    async def prepare(self, connections: int) -> None:
        """Before each stage: open about so many connections, so that set-up is not part of the load."""
        ...

    async def send(self, call: Call) -> None:
        """Send ``call.body()`` to ``call.hello.url + call.path``. Return when the answer is complete.

        Raises:
            CallFailed: it failed; any other exception is a bug and ends the run.
        """
        ...

    async def close(self) -> None: ...


def serve(generator: Generator) -> None:
    """Speak the protocol on stdin and stdout until the tool says quit. Returns once the process may end."""
    sys.setswitchinterval(0.0005)  # the threads that read and write must not hold up the loop for milliseconds
    asyncio.run(_Server(generator).run())


class _Server:
    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._hello: Hello | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._stage: StageLoad | None = None

    async def run(self) -> None:
        self._wire = Wire(self._take)
        try:
            await self._orders()
        finally:
            await self._wire.close()  # the traceback of a bug goes to stderr, which is the log of the run

    def _take(self, message: Message) -> None:
        try:
            self._sort(message)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._wire.say("error", message=f"a message cannot be understood: {type(error).__name__} {error}"[:2000])

    def _sort(self, message: Message) -> None:
        """A stage's own messages go to it; those of a stage that is over are void."""
        kind, stage = message.get("type"), self._stage
        if kind in ("schedule", "start", "stop"):
            if stage is None or message.get("stage", stage.stage.stage) != stage.stage.stage:
                return
            if kind == "schedule":
                stage.feed([session_of(s) for s in message["sessions"]], last=message["last"])
            elif kind == "start":
                stage.start(message["at"])
            else:
                stage.stop()
        elif kind == "stage" and self._hello is not None:
            self._stage = StageLoad(stage_of(message), self._hello, self._generator.send, self._wire.say)
            self._inbox.put_nowait(message)
        else:
            if kind == "hello":
                self._hello = hello_of(message)
            self._inbox.put_nowait(message)

    async def _orders(self) -> None:
        generator = self._generator
        while True:
            message = await self._inbox.get()
            match message.get("type"):
                case "hello":
                    await self._greet(message)
                case "stage":
                    assert self._stage is not None
                    await generator.prepare(self._stage.connections())
                    gc.collect()
                    gc.freeze()  # what is there now is not looked at again while times are taken
                    await self._stage.run()
                    self._stage = None
                case "quit":
                    await generator.close()
                    self._wire.say("done")
                    return

    async def _greet(self, message: Message) -> None:
        if message.get("protocol") != PROTOCOL:
            raise ValueError(f"the tool speaks {message.get('protocol')!r}, this generator {PROTOCOL!r}")
        generator = self._generator
        assert self._hello is not None
        await generator.open(self._hello)
        self._wire.say(
            "ready", protocol=PROTOCOL, name=generator.name, version=generator.version,
            capabilities=list(generator.capabilities), cores=1,
        )  # fmt: skip
