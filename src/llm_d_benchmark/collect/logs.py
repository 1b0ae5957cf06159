"""Logs of the server and the generator: lines that mean trouble are counted, and a few short excerpts told.

Nothing of a log is kept but counts and what stands around a match. A line that may hold a prompt is not looked at.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..domain.events import Finding, Severity
from ..domain.samples import Samples, Series, SeriesKind
from .api import LAST_S, CollectJob, ticks
from .log_patterns import LogPattern

METRIC = "log_matches_total"
READ_BYTES = 4 * 2**20
"""Read of one file at a tick."""
LAST_BYTES = 64 * 2**20
LINE_BYTES = 8192
"""What of a line is longer is not looked at."""
EXCERPTS = 3
BEFORE, AFTER = 20, 100
"""Characters that an excerpt has beside the match."""
MAX_FILES = 100
_PROMPTS = re.compile(r"(?i)\bprompts?\b|\bmessages?['\"]? ?[:=]|\bcontent['\"]? ?[:=]|received request|request body")
_QUOTED = re.compile(r"'[^']*(?:'|$)|\"[^\"]*(?:\"|$)")
_SECRET = re.compile(
    r"(?i)\bauthorization[=:].*|\b(?:sk-|hf_|ghp_|bearer )[\w.~+/-]+|\b[\w-]*(?:key|token|secret|password)s?[=:] ?\S+"
    r"|\b[\w+-]{32,}={0,2}|://[^/\s@]+@"
)


class LogCollector:
    """Counter ``log_matches_total`` (labels ``file``, ``pattern``) of source ``log``, and at the end a finding for each
    pattern that was met.

    Args:
        paths: files or glob patterns beside the run's own logs. They are read from where they end when collecting
            begins; the run's own from their beginning.
    """

    name = "logs"
    last_s = LAST_S

    def __init__(self, paths: Sequence[str], patterns: Sequence[LogPattern]) -> None:
        self._paths = tuple(paths)
        self._patterns = tuple(patterns)
        self._files: dict[Path, _File] = {}

    async def collect(self, job: CollectJob) -> AsyncIterator[Samples | Finding]:
        first = True
        async for _ in ticks(job):
            limit = LAST_BYTES if job.stop.is_set() else READ_BYTES
            await asyncio.to_thread(self._read, job.log_dir, limit, first)
            first = False
            now = time.monotonic_ns() + job.clock_offset
            yield Samples.from_rows((now, series, float(n)) for f in self._files.values() for series, n in f.counted())
        for file in self._files.values():
            file.finish()
            for finding in file.findings():
                yield finding

    def _read(self, log_dir: Path, limit: int, first: bool) -> None:
        for path in sorted(log_dir.rglob("*.log")):
            self._open(path, path.relative_to(log_dir).as_posix(), from_end=False)
        for pattern in self._paths:
            for path in sorted(_matching(pattern)):
                self._open(path, str(path), from_end=first)
        for file in self._files.values():
            file.read(limit)

    def _open(self, path: Path, name: str, *, from_end: bool) -> None:
        if path in self._files or len(self._files) >= MAX_FILES or not path.is_file():
            return
        inode = path.stat().st_ino
        if any(inode in file.inodes for file in self._files.values()):
            return  # a log that was rotated: it was read under its former name
        self._files[path] = file = _File(path, name, self._patterns)
        if from_end:
            file.skip()


@dataclass(slots=True)
class _File:
    """One log, followed by name: a file that took its place, or was cut, is read from its beginning."""

    path: Path
    name: str
    patterns: Sequence[LogPattern]
    offset: int = 0
    inode: int = 0
    rest: bytes = b""
    unread: int = 0
    inodes: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    excerpts: dict[str, list[str]] = field(default_factory=dict)

    def skip(self) -> None:
        status = self.path.stat()
        self.offset, self.inode = status.st_size, status.st_ino
        self.inodes.add(status.st_ino)

    def read(self, limit: int) -> None:
        """Look at what was written since; a file that is gone or cannot be read is asked again at the next tick."""
        try:
            with self.path.open("rb") as opened:
                status = self.path.stat()
                if status.st_ino != self.inode or status.st_size < self.offset:
                    self.offset, self.inode, self.rest = 0, status.st_ino, b""
                    self.inodes.add(status.st_ino)
                opened.seek(self.offset)
                while limit > 0 and (block := opened.read(min(limit, 2**20))):
                    limit -= len(block)
                    self.offset += len(block)
                    self._look(block)
                self.unread = max(0, self.path.stat().st_size - self.offset) if limit <= 0 else 0
        except OSError:
            return

    def finish(self) -> None:
        """The last line, which has no end."""
        self._line(self.rest.decode("utf-8", "replace"))
        self.rest = b""

    def _look(self, block: bytes) -> None:
        *lines, rest = (self.rest + block).split(b"\n")
        self.rest = rest[:LINE_BYTES]
        for line in lines:
            self._line(line[:LINE_BYTES].decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        if _PROMPTS.search(line):
            return
        for pattern in self.patterns:
            match = pattern.pattern.search(line)
            if match is None:
                continue
            self.counts[pattern.name] = self.counts.get(pattern.name, 0) + 1
            shown = self.excerpts.setdefault(pattern.name, [])
            text = excerpt(line, match)
            if len(shown) < EXCERPTS and text not in shown:
                shown.append(text)

    def counted(self) -> Iterator[tuple[Series, int]]:
        for pattern in self.patterns:
            labels = (("file", self.name), ("pattern", pattern.name))
            yield Series("log", METRIC, labels, SeriesKind.COUNTER), self.counts.get(pattern.name, 0)

    def findings(self) -> Iterator[Finding]:
        if self.unread:
            text = f"the last {self.unread} bytes of {self.name} were not looked at: it grew faster than it is read"
            yield Finding("log_unread", Severity.INFO, text, "lower the server's log level")
        for pattern in self.patterns:
            if n := self.counts.get(pattern.name):
                shown = " | ".join(self.excerpts[pattern.name])
                text = f"{self.name} tells of {pattern.means}: {n} line{'s' * (n > 1)}, such as: {shown}"
                yield Finding(f"log_{pattern.name}", pattern.severity, text, pattern.advice)


def _matching(pattern: str) -> Iterator[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return iter((path,))
    anchor = Path(path.anchor) if path.anchor else Path()
    return anchor.glob(str(path.relative_to(path.anchor) if path.anchor else path))


def excerpt(line: str, match: re.Match[str]) -> str:
    """The match and a little around it, on one line; quoted text and what looks like a secret is left out."""
    before, after = line[: match.start()], line[match.end() :]
    shown = f"{_redacted(before)[-BEFORE:]}{match[0][:AFTER]}{_redacted(after)[:AFTER]}"
    return " ".join("".join(c if c.isprintable() else " " for c in shown).split())


def _redacted(text: str) -> str:
    return _SECRET.sub("***", _QUOTED.sub("'...'", text))
