"""One answer under way: what its client still has to be sent, and when its tokens came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..progress import Progress
from .answer import Template, Vocabulary, usage, whole
from .http import STREAM_HEAD, Connection
from .openai import Ask

LEFT = 499
"""As proxies write it: the client left before the end."""


class Answer:
    """The answer to one request.

    ``trouble_at`` is the token at which ``trouble`` is called instead of writing on as usual: a stall or a cut.

    Attributes:
        request_id: of the engine.
        arrived, here, first, last: monotonic ns of the request's last byte, of its arrival at the replica (later where
            another one has prefilled it), and of its first and latest token.
        cached: prompt tokens from the prefix cache; None until its prefill begins.
        count: tokens so far.
        headers: further lines of the answer's head, each with its end.
        stop: the stop string that ends it.
        session_token: with which the client asks for the replica of its turn before.
        texts: of each token, where the words of the vocabulary are not all of it (a stop string); empty texts are
            tokens that a client does not see.
        gone: called when the client has left before the end.
        ended: called when it is over, with its HTTP status: 200 where it is complete, ``LEFT`` where its client left.
    """

    __slots__ = (
        "_held", "_stalled", "arrived", "ask", "cached", "connection", "count", "ended", "first", "gone",
        "headers", "here", "last", "output_tokens", "place", "plain", "reason", "request_id", "session_token", "start",
        "stop", "template", "texts", "trouble", "trouble_at", "vocabulary", "words", "write",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        ask: Ask,
        request_id: int,
        *,
        arrived: int,
        model: str,
        vocabulary: Vocabulary,
        output_tokens: int,
        reason: str,
        texts: Sequence[str] | None = None,
        stop: str | None = None,
        session_token: str | None = None,
    ) -> None:
        self.connection, self.ask, self.request_id, self.arrived = connection, ask, request_id, arrived
        self.words, self.output_tokens, self.reason, self.texts = vocabulary.bytes, output_tokens, reason, texts
        self.stop = stop
        prefix = "chatcmpl" if ask.chat else "cmpl"
        self.template = Template(ask, f"{prefix}-{request_id}", model, len(ask.prompt))
        self.vocabulary = vocabulary
        self.start = self.place = word_of(request_id, vocabulary)
        self.here = arrived
        self.headers, self.session_token = "", session_token
        self.count = self.first = self.last = 0
        self.cached: int | None = None
        self.plain = ask.stream and texts is None and not ask.continuous_usage
        self.trouble_at = -1
        self.trouble: Callable[[Answer], None] | None = None
        self.gone: Callable[[Answer], None] | None = None
        self.ended: Callable[[Answer, int], None] | None = None
        self.write: Callable[[bytes], None] = connection.write
        self._stalled = False
        self._held: list[bytes] = []

    @property
    def routed(self) -> bool:
        """It came through the router, which wants to know its end."""
        return self.ended is not None

    def open(self) -> None:
        """The request was accepted: a stream's head goes out at once."""
        self.connection.answering = self
        if self.ask.stream:
            self.write(b"%s%s\r\n" % (STREAM_HEAD, self.headers.encode("latin-1")))

    def next_event(self) -> bytes:
        """The event of the next token of a plain answer, which is neither the first nor the last, to be written."""
        words, place, template = self.words, self.place, self.template
        word = words[place]
        self.place = place + 1 if place + 1 < len(words) else 0
        self.count += 1
        return template.heads[len(word)] + word + template.suffix

    def token(self) -> None:
        """One token that is neither the first nor the last, whatever the answer."""
        word = self._word()
        self.count += 1
        if self.count == self.trouble_at and self.trouble is not None:
            self.trouble(self)
        if word and self.ask.stream:
            self.write(self.template.event(word, self.count))

    def first_token(self) -> None:
        """The first token, where it is not also the last."""
        if self.ask.stream:
            self.write(self.template.role())
        self.token()

    def last_token(self, _: Progress) -> None:
        """The last token, and with it the end of the exchange."""
        only = self.count == 0
        word = self._word()
        self.count += 1
        if not self.ask.stream:
            self._finish(self._whole(self.count))
            return
        last = self.template.last(word, self.reason, self.stop, self.count, self.cached or 0)
        self._finish(self.template.role() + last if only else last)

    def hold(self, seconds: float) -> None:
        """Write nothing for so long; what comes meanwhile is written then."""
        self._stalled = True
        self.write = self._held.append
        asyncio.get_running_loop().call_later(seconds, self._release)

    def cut(self) -> None:
        """Break the connection off in the middle of the answer."""
        if not self.ask.stream:
            self.connection.begin(self._whole(self.output_tokens), headers=self.headers)
        self.connection.cut()
        self.write = self._held.append
        self.client_gone()

    def client_gone(self) -> None:
        if self.gone is not None:
            self.gone(self)

    def _release(self) -> None:
        data = b"".join(self._held)
        self._stalled = False
        self.write = self.connection.write
        if not self.connection.transport.is_closing():
            self._finish(data) if self.count == self.output_tokens else self.write(data)

    def _finish(self, data: bytes) -> None:
        if self._stalled:
            self.write(data)  # the exchange ends with the stall
        elif self.ask.stream:
            self.write(data)
            self.connection.done()
        else:
            self.connection.reply(200, data, headers=self.headers)

    def _word(self) -> bytes:
        if self.texts is not None:
            return self.texts[self.count].encode("ascii")
        words, place = self.words, self.place
        self.place = place + 1 if place + 1 < len(words) else 0
        return words[place][1:] if self.ask.chat and self.count == 0 else words[place]

    def _whole(self, tokens: int) -> bytes:
        """The answer that is not streamed, of so many tokens."""
        ask = self.ask
        texts = self.texts
        if texts is None:
            texts = self.vocabulary.texts_of(self.start, tokens, ask.chat)
        counts = usage(len(ask.prompt), tokens, self.cached or 0)
        template = self.template
        return whole(ask, template.answer_id, template.model, "".join(texts), self.reason, self.stop, counts)


class Prefill(Answer):
    """The part of an answer that a replica which only prefills has: one token, which the client does not see.

    Args:
        done: called when the prompt has been computed.
    """

    __slots__ = ("_done", "_whole_answer")

    def __init__(self, answer: Answer, done: Callable[[Progress], None]) -> None:
        super().__init__(
            answer.connection, answer.ask, answer.request_id, arrived=answer.arrived, model=answer.template.model,
            vocabulary=answer.vocabulary, output_tokens=1, reason="length",
        )  # fmt: skip
        self._whole_answer, self._done = answer, done

    @property
    def routed(self) -> bool:
        return True

    def last_token(self, progress: Progress) -> None:
        self.count = 1
        self._whole_answer.cached = self.cached
        self._done(progress)


def word_of(request_id: int, vocabulary: Vocabulary) -> int:
    """Where in the vocabulary the answer to a request begins."""
    return request_id * 2654435761 % len(vocabulary.bytes)
