"""What in a log means trouble: patterns by name, with what to do about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..domain.events import Severity


@dataclass(frozen=True, slots=True)
class LogPattern:
    """A line that matches ``pattern`` counts once; ``means`` completes "the log tells of ..."."""

    name: str
    pattern: re.Pattern[str]
    means: str
    severity: Severity = Severity.WARNING
    advice: str | None = None


def _of(name: str, pattern: str, means: str, advice: str, severity: Severity = Severity.WARNING) -> LogPattern:
    return LogPattern(name, re.compile(pattern), means, severity, advice)


BUILT_IN = (
    _of(
        "gpu_out_of_memory",
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDA error: out of memory",
        "a GPU out of memory",
        "lower the server's memory fraction, batch or context length",
    ),
    _of(
        "host_out_of_memory",
        r"(?i)\boom[- ]?kill|killed process \d|std::bad_alloc|cannot allocate memory|\bMemoryError\b",
        "a host out of memory",
        "give the server more memory",
    ),
    _of(
        "gpu_error",
        r"CUDA error(?!: out of memory)|\bXid\b.{0,40}\d|device-side assert|cudaError(?!MemoryAllocation)",
        "a GPU error",
        "look at the driver's log (dmesg); the GPU or its driver may be faulty",
    ),
    _of(
        "nccl",
        r"NCCL (?:error|WARN)|ncclSystemError|ncclInternalError|ncclUnhandledCudaError|ncclRemoteError",
        "trouble between GPUs (NCCL)",
        "check the network between the GPUs; NCCL_DEBUG=INFO tells more",
    ),
    _of(
        "preemption",
        r"(?i)\b(?:is|was|were|been|being) preempted\b|\bpreempting\b|\brecompute preemption\b",
        "preempted requests",
        "the KV cache is too small for this load: lower it, or give the cache more memory",
        Severity.INFO,
    ),
    _of(
        "timeout",
        r"(?i)\btimed out\b|\b(?:Asyncio|Read|Connect|Connection|Engine|Request)?Timeout(?:Error|Exception|Expired)\b",
        "timeouts",
        "the server was overloaded, or something that it waits for did not answer",
    ),
    _of(
        "http_5xx",
        r"HTTP/[\d.]+\"?,? 5\d\d\b|(?i:\bstatus(?:[_ ]code)?[\"']?[=: ]+5\d\d\b)",
        "answers 5xx",
        "see the lines before them in the log",
    ),
    _of(
        "traceback",
        r"Traceback \(most recent call last\)|\bpanic: |\bpanicked at\b",
        "a crash in a program",
        "read the log",
    ),
    _of("crash", r"(?i)segmentation fault|\bcore dumped\b|\bsegfault\b", "a crashed process", "read the log"),
    _of(
        "connection",
        r"(?i)connection (?:refused|reset by peer)|broken pipe|too many open files",
        "broken connections",
        "see whether the other side runs; ulimit -n where files run out",
    ),
    _of("error_line", r"\b(?:ERROR|CRITICAL|FATAL)\b|\"level\": ?\"(?:error|fatal)\"", "errors", "read the log"),
)
"""In this order; a line counts for every pattern that it matches."""


def patterns_of(more: Mapping[str, str]) -> tuple[LogPattern, ...]:
    """The built-in ones and a user's own, which replace one of the same name."""
    own = tuple(LogPattern(name, re.compile(text), f"'{name}'") for name, text in more.items())
    return tuple(p for p in BUILT_IN if p.name not in more) + own
