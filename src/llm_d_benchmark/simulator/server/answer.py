"""Answers as bytes. Of a stream everything but the word is encoded once, before the first token is due."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import cycle, islice

import msgspec
import numpy as np
import numpy.typing as npt

from ...workload.words import words
from .http import STREAM_END
from .openai import Ask
from .tokenizer import Tokenizer

LONGEST = 16
"""Bytes of the longest text that a token may have."""


USAGE = b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}'
USAGE_CACHED = USAGE[:-1] + b',"prompt_tokens_details":{"cached_tokens":%d}}'
ROLE = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'


class Vocabulary:
    """The words that answers are made of, one after another in a shuffled order; as text, as they stand in JSON, and as
    token ids. The first of a chat has no space before it; any other has one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        shuffled = list(words())
        random.Random(0).shuffle(shuffled)
        self.texts = tuple(" " + word for word in shuffled)
        self.bytes = tuple(text.encode("ascii") for text in self.texts)
        self._ids = np.array(tokenizer.encode("".join(self.texts)), np.uint64)
        self._bare_ids = [tokenizer.encode(word)[0] for word in shuffled]

    def texts_of(self, first: int, count: int, chat: bool) -> list[str]:
        """The texts of ``count`` tokens of the answer that begins at word ``first``."""
        texts = list(islice(cycle(self.texts), first, first + count))
        if chat and texts:
            texts[0] = texts[0][1:]
        return texts

    def ids_of(self, first: int, count: int, chat: bool) -> npt.NDArray[np.uint64]:
        """The token ids of ``texts_of``: shape (count,)."""
        ids = self._ids.take(np.arange(first, first + count), mode="wrap")
        if chat and count:
            ids[0] = self._bare_ids[first]
        return ids


def cut_at_stop(texts: Sequence[str], stop: Sequence[str], least: int) -> tuple[list[str], str] | None:
    """The texts of the tokens up to the first stop string, which itself is left out (the last may be empty), and that
    string; None where there is none.

    Args:
        least: tokens in which no stop string is looked for.
    """
    whole = "".join(texts)
    begin = len("".join(texts[:least]))
    found = min(((at, at + len(s), s) for s in stop if (at := whole.find(s, begin)) >= 0), default=None)
    if found is None:
        return None
    start, end, which = found
    kept, position = [], 0
    for text in texts:
        kept.append(text[: max(0, start - position)])
        position += len(text)
        if position >= end:
            break
    return kept, which


class Template:
    """The events of one stream.

    ``event(word)`` is the whole HTTP chunk of one token.
    """

    def __init__(self, ask: Ask, answer_id: str, model: str, prompt_tokens: int) -> None:
        self.answer_id, self.model = answer_id, model
        self._ask, self._prompt_tokens = ask, prompt_tokens
        self._kind = "chat.completion.chunk" if ask.chat else "text_completion"
        base = {"id": answer_id, "object": self._kind, "created": int(time.time()), "model": model}
        self._opening = b"data: " + msgspec.json.encode(base)[:-1] + b',"choices":['
        start = self._opening + b'{"index":0,'
        if ask.chat:
            self._prefix = start + b'"delta":{"content":"'
            self._middle = b'"},"logprobs":null,"finish_reason":'
        else:
            self._prefix = start + b'"text":"'
            self._middle = b'","logprobs":null,"finish_reason":'
        # As in vLLM, whose chat has no stop_reason before the last event. fmperf needs it in each of a completion.
        self._no_reason = b"null" if ask.chat else b'null,"stop_reason":null'
        self.suffix = self._middle + self._no_reason + b"}]}\n\n\r\n"
        self._fixed = len(self._prefix) + len(self.suffix) - 2
        self.heads = [b"%x\r\n%b" % (self._fixed + n, self._prefix) for n in range(LONGEST + 1)]
        """By length of the word: the chunk up to the word."""

    def event(self, word: bytes, tokens: int) -> bytes:
        """One token; ``tokens``: of the answer so far, for a usage in every event."""
        if self._ask.continuous_usage:
            return self._with_usage(word, self._no_reason, tokens)
        return self.heads[len(word)] + word + self.suffix

    def role(self) -> bytes:
        """The first event of a chat, which carries no token."""
        return chunk(self._opening + ROLE + self._end(0)) if self._ask.chat else b""

    def last(self, word: bytes, reason: str, stop: str | None, tokens: int, cached: int) -> bytes:
        """The last token, why it is (``stop``: the stop string that it met), the usage where it was asked for, and the
        end of the stream."""
        event = self._with_usage(word, b'"%b","stop_reason":%b' % (reason.encode(), msgspec.json.encode(stop)), tokens)
        if not self._ask.include_usage:
            return event + DONE
        counts = USAGE_CACHED % (self._prompt_tokens, self._prompt_tokens + tokens, tokens, cached)
        return event + chunk(b'%b],"usage":%b}\n\n' % (self._opening, counts)) + DONE

    def _with_usage(self, word: bytes, reason: bytes, tokens: int) -> bytes:
        return chunk(b"%b%b%b%b}%b" % (self._prefix, word, self._middle, reason, self._end(tokens)))

    def _end(self, tokens: int) -> bytes:
        """What follows the choice of an event, with the usage so far where it is asked for."""
        if not self._ask.continuous_usage:
            return b"]}\n\n"
        return b'],"usage":%b}\n\n' % (USAGE % (self._prompt_tokens, self._prompt_tokens + tokens, tokens))


def chunk(data: bytes) -> bytes:
    """Data as a chunk of an HTTP body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


DONE = chunk(b"data: [DONE]\n\n") + STREAM_END


def usage(prompt: int, output: int, cached: int) -> dict[str, object]:
    """The usage of a whole answer. ``cached``: prompt tokens that came from the prefix cache."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + output,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def whole(
    ask: Ask, answer_id: str, model: str, text: str, reason: str, stop: str | None, counts: dict[str, object]
) -> bytes:
    """An answer that is not streamed. ``stop``: the stop string that ended it."""
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": reason, "stop_reason": stop}
    if ask.chat:
        choice["message"] = {"role": "assistant", "content": text, "tool_calls": []}
    else:
        choice["text"] = text
    kind = "chat.completion" if ask.chat else "text_completion"
    return msgspec.json.encode({
        "id": answer_id, "object": kind, "created": int(time.time()), "model": model, "choices": [choice],
        "usage": counts})  # fmt: skip
