"""Lines on stdin and stdout, in threads of their own: the event loop that takes the times never waits for a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

Message = Mapping[str, Any]


class Wire:
    """Hands every message to ``take`` on the loop; ``say`` never blocks. stdout is the protocol's alone: ``print`` of
    the generator's own code goes to stderr, the log."""

    def __init__(self, take: Callable[[Message], None]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()
        threading.Thread(target=self._read, daemon=True).start()

    def say(self, kind: str, **fields: Any) -> None:
        self._queue.put({"type": kind, **fields})

    async def close(self) -> None:
        """Write what is left."""
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)

    def _read(self) -> None:
        # not sys.stdin, whose lock a thread that waits for a line would hold while the interpreter ends
        with open(0, "rb", closefd=False) as lines:
            for line in lines:
                with suppress(RuntimeError):  # the loop has just been closed
                    self._loop.call_soon_threadsafe(self._take, json.loads(line))
        os._exit(1)  # the tool is gone: nobody wants this load any more

    def _write(self) -> None:
        while (message := self._queue.get()) is not None:
            try:
                self._out.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
                self._out.flush()
            except OSError:
                os._exit(1)
