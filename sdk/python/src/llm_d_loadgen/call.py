"""One request on its way: what to send, and what your ``send`` tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .clock import now
from .report import Report
from .types import Hello, Session, Stage, Turn


class CallFailed(Exception):  # noqa: N818 - an outcome more than an error
    """The request failed. ``error_class`` is one of the protocol; ``message`` never holds prompt or response text."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message[:300]


class Call:
    """One request. ``send`` reads ``path`` and ``body``, calls ``connected``, ``mark_sent`` and ``chunk`` when these
    happen, and sets what the response told: ``http_status``, ``finish_reason``, ``input_tokens``, ``output_tokens``,
    ``cached_tokens``; without streaming also ``text``. A list of tokens per chunk goes into ``chunk_tokens``.
    """

    def __init__(
        self, hello: Hello, stage: Stage, session: Session, number: int, *, ready: int, history: Sequence[Any],
        report: Report,
    ) -> None:  # fmt: skip
        self.hello, self.stage, self.session = hello, stage, session
        self.turn: Turn = session.turns[number]
        self.request_id = session.request_id + number
        self.ready = ready
        self.began = now()
        self.sent: int | None = None
        self.connect: int | None = None
        self.chunks: list[int] = []
        self.chunk_tokens: list[int] = []
        self.http_status: int | None = None
        self.finish_reason: str | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.text = ""
        self._history = history
        self._report = report
        self._texts: list[str] = []
        self._limit: asyncio.Timeout | None = None

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.stage.endpoint == "chat" else "/v1/completions"

    def body(self) -> dict[str, Any]:
        """The JSON body, the same as the native generator sends."""
        turn, fields = self.turn, {"model": self.session.model}  # type: tuple[Turn, dict[str, Any]]
        if self.stage.endpoint == "chat":
            fields["messages"] = [*self._history, *(turn.messages or [])]
        elif turn.token_ids is not None:
            fields["prompt"] = turn.token_ids
        else:
            fields["prompt"] = "".join(self._history) + (turn.text or "")
        if turn.output_asked is not None:
            fields["max_tokens"] = turn.output_asked
        fields["stream"] = self.stage.streaming
        if self.stage.streaming:
            fields["stream_options"] = {"include_usage": True}
        return {**fields, **self.hello.parameters, **turn.params}

    def connected(self, took_ns: int) -> None:
        """A connection had to be set up for it, which took so long: not the client's own delay."""
        self.connect = took_ns
        if self.sent is None:
            self.ready += took_ns

    def mark_sent(self) -> None:
        """Call just before the first byte is written."""
        if self.sent is None:
            self.sent = now()
            self._allow(self._first_s())
            self._report.sent(self.request_id, self.sent)

    def chunk(self, text: str = "", at: int | None = None) -> None:
        """A piece of the answer that carries content came, now or ``at``. ``text`` is kept only in a conversation."""
        if not self.chunks:
            self._allow(self.hello.total_s - (now() - (self.sent or self.began)) / 1e9)
        self.chunks.append(now() if at is None else at)
        self._report.chunks += 1
        if text and len(self.session.turns) > 1:
            self._texts.append(text)

    def answer(self) -> str:
        """The text of the answer, as far as it was kept."""
        return "".join(self._texts) or self.text

    def _first_s(self) -> float:
        total = self.hello.total_s
        return min(self.hello.first_token_s, total) if self.stage.streaming else total

    def _allow(self, seconds: float) -> None:
        """From now on, so many seconds are left."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + seconds)

    async def within_limits(self, send: Callable[[Call], Any]) -> None:
        """Run ``send`` under the user's time limits.

        Raises:
            CallFailed: it failed, or took too long.
        """
        streaming = self.stage.streaming
        try:
            async with asyncio.timeout(self._first_s() + self.hello.connect_s) as self._limit:
                await send(self)
        except TimeoutError:
            waiting = streaming and not self.chunks and self.hello.first_token_s < self.hello.total_s
            what = "first_token" if waiting else "total"
            limit = self.hello.first_token_s if waiting else self.hello.total_s
            raise CallFailed(f"timeout_{what}", f"nothing within {limit:g} s") from None
        if streaming and not self.chunks:
            raise CallFailed("no_content", "the stream carried no content")

    def row(self, status: str, end: int, failure: CallFailed | None = None) -> Mapping[str, Any]:
        """The record of this request, in the protocol's columns."""
        sent = self.began if self.sent is None else self.sent
        row: dict[str, Any] = {
            "request_id": self.request_id, "status": status, "sent": sent, "end": max(end, sent), "ready": self.ready,
            "connect": self.connect, "finish_reason": self.finish_reason, "http_status": self.http_status,
            "input_tokens": self.input_tokens, "cached_tokens": self.cached_tokens,
        }  # fmt: skip
        if self.chunks:
            row |= {"first_token": self.chunks[0], "last_token": self.chunks[-1]}
            row["chunk_times"] = [(t - sent) // 1000 for t in self.chunks]
            row["chunk_tokens"] = self.chunk_tokens if len(self.chunk_tokens) == len(self.chunks) else []
        if self.input_tokens is not None:
            row["input_source"] = "usage"
        if self.output_tokens is not None:
            row |= {"output_tokens": self.output_tokens, "output_source": "usage"}
        elif self.chunks and status == "ok":
            row |= {"output_tokens": len(self.chunks), "output_source": "chunks"}
        if failure is not None:
            row |= {"error_class": failure.error_class, "error": failure.message}
        return {k: v for k, v in row.items() if v is not None}
