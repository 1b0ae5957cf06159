"""The simulator's tokenizer: one word or run of punctuation is one token, together with one space before it.

Reversible: every character belongs to exactly one token, and an id that stands for no word yet shows itself as
``<|ID|>``, which is that id again. Counts do not depend on what was seen before. Ids of the built-in words are fixed;
those of other words come from a hash of their bytes, so that they are the same in every process unless two collide.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence

from ...workload.words import words

PIECE = re.compile(r"<\|[0-9]{1,10}\|>| ?\w+| ?[^\w\s]+?(?=<\|[0-9]{1,10}\|>)| ?[^\w\s]+|\s")
FIRST_WORD = 1000
"""Id of the first built-in word; each has two, without and with a space before it."""
IDS = 10**10
"""Ids are below: so many digits has one that stands for no word."""
FIRST_HASHED = 100_000
HASHED = 2**31 - 1 - FIRST_HASHED
REMEMBERED = 1_000_000
"""Hashed words whose text is kept; later ones are counted and hashed alike, but show as their id."""
ROLES = ("system", "developer", "user", "assistant", "tool")
MESSAGE_START, MESSAGE_END = 1, 2
"""Ids around each message of a chat."""


class Tokenizer:
    """Text to ids and back. One per server, so that an id has the same text at every endpoint of it."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        for k, word in enumerate(words()):
            self._ids[word] = FIRST_WORD + 2 * k
            self._ids[" " + word] = FIRST_WORD + 2 * k + 1
        self._spaced = {word: self._ids[" " + word] for word in words()}
        self._roles: dict[str, list[int]] = {}
        self._texts = {number: piece for piece, number in self._ids.items()}
        self._limit = len(self._ids) + REMEMBERED

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        first, *rest = text.split(" ")
        try:
            ids = [self._ids[first]] if first else []
            return ids + [self._spaced[word] for word in rest]  # built-in words only, as synthetic prompts are
        except KeyError:
            return self._encode(text)

    def _encode(self, text: str) -> list[int]:
        pieces, known = PIECE.findall(text), self._ids
        try:
            return [known[piece] for piece in pieces]
        except KeyError:
            return [self._id(piece) for piece in pieces]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; ``encode`` of it gives the same ids where they came from a text."""
        texts = self._texts
        return "".join([texts.get(number) or f"<|{number}|>" for number in ids])

    def pieces(self, text: str) -> list[str]:
        """The text of each token, in order."""
        return PIECE.findall(text)

    def chat(self, messages: Sequence[tuple[str, str]], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a chat of (role, content): start, role, content, end for each message, then start and
        ``assistant``: three tokens a message and two for the answer."""
        ids: list[int] = []
        for role, content in messages:
            ids += self._role(role)
            ids += self.encode(content)
            ids.append(MESSAGE_END)
        if add_generation_prompt:
            ids += self._role("assistant")
        return ids

    def _role(self, role: str) -> list[int]:
        """What a message begins with; roles are few."""
        if (known := self._roles.get(role)) is not None:
            return known
        start = [MESSAGE_START, *self.encode(role)[:1]]
        if role in ROLES:
            self._roles[role] = start
        return start

    def _id(self, piece: str) -> int:
        if (known := self._ids.get(piece)) is not None:
            return known
        if piece.startswith("<|") and (shown := re.fullmatch(r"<\|([0-9]+)\|>", piece)):
            return int(shown[1])
        data = piece.encode("utf-8", "surrogatepass")
        number = FIRST_HASHED + (zlib.crc32(data) ^ zlib.adler32(data) * 2654435761) % HASHED
        if len(self._ids) < self._limit:
            while number in self._texts:
                number = FIRST_HASHED + (number + 1 - FIRST_HASHED) % HASHED
            self._ids[piece] = number
            self._texts[number] = piece
        return number
