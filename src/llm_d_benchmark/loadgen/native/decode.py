"""From the bytes of a finished response, and when each piece came, to tokens and times.

Runs after the stream has ended. The usual stream (LF line ends, one JSON object an event) is split and decoded in one
go; anything else takes the line-by-line path of the SSE standard.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any

import msgspec
import numpy as np

from ...domain.records import ErrorClass

_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None
    message: str | None = None


_chunks = msgspec.json.Decoder(list[_Chunk])
_chunk = msgspec.json.Decoder(_Chunk)
SLICE = 512


@dataclass(slots=True)
class Decoded:
    """What a response said. ``chunks`` are (arrival ns) of content chunks in order. ``text``, ``reasoning`` and
    ``calls_tools`` are filled in where the text was asked for.

    ``error`` is set where the response is no sound answer; ``message`` then says why, without any of its text.
    """

    chunks: array[int] = field(default_factory=lambda: array("q"))
    chunk_tokens: list[int] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    text: str = ""
    reasoning: str = ""
    calls_tools: bool = False
    error: ErrorClass | None = None
    message: str | None = None


def inflate(pieces: Sequence[bytes], encoding: str) -> list[bytes]:
    """Decompress a gzip or deflate body piece by piece, so that each piece keeps its arrival.

    Raises:
        zlib.error: the body is not what the header says.
    """
    if encoding == "gzip":
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    elif pieces and pieces[0][:1] == b"\x78":
        stream = zlib.decompressobj()
    else:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
    return [stream.decompress(p) for p in pieces]


def decode_stream(pieces: Sequence[bytes], stamps: Sequence[int], *, keep_text: bool) -> Decoded:
    """Decode a streamed response; see ``decode_slices``."""
    *_, out = decode_slices(pieces, stamps, keep_text=keep_text)
    return out


def decode_slices(
    pieces: Sequence[bytes], stamps: Sequence[int], *, keep_text: bool, size: int = SLICE
) -> Iterator[Decoded]:
    """Decode a streamed response in slices, so that a long one need not stop its caller for long.

    Args:
        pieces: the body as it came, cut anywhere.
        stamps: arrival of each piece, ns.
        keep_text: whether the reply's text is wanted (a conversation's next turn needs it).
        size: pieces of a slice.

    Yields:
        The same object after each slice; it is whole when the iterator ends.
    """
    reader = _Reader(keep_text)
    done, rest = False, b""
    for part, times in _slices(pieces, stamps, size):
        events, arrivals, other = split_events(part, times)
        if events and events[-1] == b"[DONE]":
            done = True
            events.pop()
            arrivals.pop()
        if b"[DONE]" in events:
            done = True
            arrivals = [t for e, t in zip(events, arrivals, strict=True) if e != b"[DONE]"]
            events = [e for e in events if e != b"[DONE]"]
        rest = rest or other
        reader.read(events, arrivals)
        yield reader.out
        if reader.out.error is not None:
            return
    reader.finish()
    if reader.out.error is None:
        judge(reader.out, done, rest)
    yield reader.out


def _slices(
    pieces: Sequence[bytes], stamps: Sequence[int], size: int
) -> Iterator[tuple[Sequence[bytes], Sequence[int]]]:
    """Cut a body into runs of whole events of about ``size`` pieces each."""
    if len(pieces) <= size:
        yield pieces, stamps
        return
    carry = b""
    for at in range(0, len(pieces), size):
        part = list(pieces[at : at + size])
        times = stamps[at : at + size]
        part[0] = carry + part[0]
        carry = b""
        if at + size < len(pieces):
            # what follows the last whole event goes to the next slice; its time is that of its last byte anyway
            while part:
                last = part[-1] + carry
                end = max(last.rfind(b"\n\n") + 2, last.rfind(b"\r\n\r\n") + 4, last.rfind(b"\r\r") + 2)
                if end >= 4 or last.endswith((b"\n\n", b"\r\r")):
                    part[-1], carry = last[:end], last[end:]
                    break
                carry = last
                part.pop()
            times = times[: len(part)]
        if part:
            yield part, times


def decode_body(body: bytes, *, keep_text: bool) -> Decoded:
    """Decode a response that was not streamed; it has no chunk times."""
    out = Decoded()
    try:
        chunk = _chunk.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        out.error, out.message = ErrorClass.PROTOCOL, "the response is not the JSON of the OpenAI API"
        return out
    reader = _Reader(keep_text)
    reader.add([chunk], [0])
    reader.finish()
    out = reader.out
    if out.error is None and not out.chunks:
        out.error, out.message = ErrorClass.NO_CONTENT, "the response has no content"
    del out.chunks[:]
    return out


def _content(choice: _Choice) -> str | None:
    """The reply text a choice carries; empty for reasoning and tool calls, which are content but no reply."""
    delta = choice.delta or choice.message
    if delta is None:
        return choice.text or None
    if delta.content:
        return delta.content
    if delta.reasoning_content or delta.reasoning:
        return ""
    if delta.tool_calls:
        return ""
    return choice.text or None


class _Reader:
    """Adds up what the events of one response say."""

    def __init__(self, keep_text: bool) -> None:
        self.out = Decoded()
        self._keep_text = keep_text
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._counts: list[int | None] = []
        self._usage: _Usage | None = None
        self._events = 0

    def read(self, payloads: Sequence[bytes], times: Sequence[int]) -> None:
        """Events of a stream in order; ``out.error`` is set where one is malformed or is an error itself."""
        try:
            chunks = _chunks.decode(b"[" + b",".join(payloads) + b"]")
            if len(chunks) != len(payloads):
                raise msgspec.DecodeError("an event holds more than one value")
        except (msgspec.DecodeError, UnicodeDecodeError):
            chunks = self._one_by_one(payloads)
        self.add(chunks, times)
        self._events += len(payloads)
        if self.out.error is not None:
            self.finish()

    def _one_by_one(self, payloads: Sequence[bytes]) -> list[_Chunk]:
        """Decode events singly up to the first that is malformed, which is the response's error."""
        chunks: list[_Chunk] = []
        for payload in payloads:
            try:
                chunks.append(_chunk.decode(payload))
            except (msgspec.DecodeError, UnicodeDecodeError):
                number = self._events + len(chunks)
                self.out.error = ErrorClass.PROTOCOL
                self.out.message = f"event {number} of the stream is not the JSON of the OpenAI API"
                break
        return chunks

    def add(self, chunks: Sequence[_Chunk], times: Sequence[int]) -> None:
        out, counts, texts, keep_text = self.out, self._counts, self._texts, self._keep_text
        arrivals = out.chunks
        for chunk, time in zip(chunks, times, strict=False):
            if chunk.error is not None or chunk.object == "error":
                out.error, out.message = ErrorClass.SERVER_ERROR_EVENT, _error_text(chunk)
                return
            usage = chunk.usage
            if usage is not None:
                self._usage = usage
            for choice in chunk.choices:
                text = _content(choice)
                if text is not None:
                    arrivals.append(time)
                    counts.append(usage.completion_tokens if usage else None)
                    if keep_text:
                        texts.append(text)
                        self._keep_rest(choice)
                if choice.finish_reason:
                    out.finish_reason = choice.finish_reason

    def _keep_rest(self, choice: _Choice) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            self._reasoning.append(delta.reasoning_content or delta.reasoning or "")
            self.out.calls_tools = self.out.calls_tools or bool(delta.tool_calls)

    def finish(self) -> None:
        """Fill in what only the whole response tells."""
        out, usage = self.out, self._usage
        out.text, out.reasoning = "".join(self._texts), "".join(self._reasoning)
        if usage is not None:
            out.input_tokens, out.output_tokens = usage.prompt_tokens, usage.completion_tokens
            out.cached_tokens = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        known = [c for c in self._counts if c is not None]
        if known and len(known) == len(self._counts):
            tokens = [b - a for a, b in zip([0, *known], known, strict=False)]
            if min(tokens) >= 0:  # counts that fall count something else
                out.chunk_tokens = tokens


def judge(out: Decoded, done: bool, rest: bytes) -> None:
    """A stream is whole with [DONE], a finish reason or a usage; without any it was cut."""
    if not (done or out.finish_reason or out.output_tokens is not None):
        if not out.chunks and rest.strip():
            out.error, out.message = ErrorClass.PROTOCOL, "the response is not a server-sent event stream"
        else:
            out.error, out.message = ErrorClass.TRUNCATED, "the stream ended without a finish reason or [DONE]"
    elif not out.chunks:
        out.error, out.message = ErrorClass.NO_CONTENT, "the stream carried no content"


def _error_text(chunk: _Chunk) -> str:
    """The kind of error a server reported; its message may quote the prompt, so only type and code are kept."""
    value = chunk.error
    if not isinstance(value, dict):
        return "error event"
    parts = [str(value[k]) for k in ("type", "code") if isinstance(value.get(k), str | int)]
    return "error event" + (f" ({', '.join(parts)})"[:120] if parts else "")


def split_events(pieces: Sequence[bytes], stamps: Sequence[int]) -> tuple[list[bytes], list[int], bytes]:
    """Data of each SSE event, when its last byte came, and what is no part of any event."""
    data = b"".join(pieces)
    if not (data.startswith(b"data: ") and data.endswith(b"\n\n")) or b"\r" in data:
        return _split_by_line(data, pieces, stamps)
    events = data[6:-2].split(b"\n\ndata: ")
    if data.count(b"\n") != 2 * len(events):
        return _split_by_line(data, pieces, stamps)
    lengths = [len(event) + 8 for event in events]
    if lengths == [*map(len, pieces)]:
        return events, list(stamps), b""  # every piece is exactly one event, as most servers send them
    return events, _times_of(np.cumsum(lengths), pieces, stamps), b""


def _times_of(ends: Any, pieces: Sequence[bytes], stamps: Sequence[int]) -> list[int]:
    """Arrival of the byte before each end offset."""
    piece_ends = np.fromiter(accumulate(map(len, pieces)), np.int64, len(pieces))
    index = np.minimum(np.searchsorted(piece_ends, ends, side="left"), len(pieces) - 1)
    return [stamps[i] for i in index.tolist()]


def _split_by_line(data: bytes, pieces: Sequence[bytes], stamps: Sequence[int]) -> tuple[list[bytes], list[int], bytes]:
    """The SSE standard's own algorithm: lines end with CR, LF or CRLF; comments and other fields are passed over."""
    events: list[bytes] = []
    ends: list[int] = []
    current: list[bytes] = []
    other: list[bytes] = []
    position = 0
    for line in data.splitlines(keepends=True):
        position += len(line)
        text = line.rstrip(b"\r\n")
        if not text:
            if current:
                events.append(b"\n".join(current))
                ends.append(position)
                current = []
        elif text.startswith(b"data:"):
            current.append(text[6:] if text[5:6] == b" " else text[5:])
        elif text.startswith(b"error:"):
            current.append(b'{"error":' + (text[6:].strip() or b"{}") + b"}")
        elif not text.startswith((b":", b"event:", b"id:", b"retry:")):
            other.append(text)
    if current:
        events.append(b"\n".join(current))
        ends.append(len(data))
    times = _times_of(np.asarray(ends, np.int64), pieces, stamps) if ends else []
    return events, times, b"\n".join(other)
