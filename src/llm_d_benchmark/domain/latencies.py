"""The latencies of a request, and whether it met limits: one definition for the analysis and for a sweep under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .records import MISSING, IntArray

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
_STREAMED = ("itl", "tpot", "ttft")


class Requests(Protocol):
    """Columns of requests. ``chunks``: content chunks of each."""

    @property
    def streaming(self) -> BoolArray: ...

    @property
    def chunks(self) -> IntArray: ...

    def __getitem__(self, name: str) -> IntArray: ...


def seconds_between(later: IntArray, earlier: IntArray) -> FloatArray:
    """``later - earlier`` in seconds, NaN where either was not observed."""
    known = (later != MISSING) & (earlier != MISSING)
    return np.where(known, (np.where(known, later, 0) - np.where(known, earlier, 0)) / 1e9, np.nan)


def per_request(r: Requests) -> dict[str, FloatArray]:
    """Latencies of each request in seconds, NaN where not observed or not defined."""
    answered = np.where(r.streaming & (r["last_token"] != MISSING), r["last_token"], r["end"])
    e2e = seconds_between(answered, r["sent"])
    ttft = np.where(r.streaming, seconds_between(r["first_token"], r["sent"]), np.nan)
    tokens = np.where(r["output_tokens"] != MISSING, r["output_tokens"], 0)
    many, several = np.maximum(tokens - 1, 1), tokens > 1
    gaps = np.maximum(r.chunks - 1, 1)
    return {
        "ttft": ttft,
        "e2e": e2e,
        "tpot": np.where(several, (e2e - ttft) / many, np.nan),
        "ntpot": np.where(tokens > 0, e2e / np.maximum(tokens, 1), np.nan),
        "itl": np.where(r.chunks > 1, seconds_between(r["last_token"], r["first_token"]) / gaps, np.nan),
        "ttft_scheduled": np.where(r.streaming, seconds_between(r["first_token"], r["scheduled"]), np.nan),
        "e2e_scheduled": seconds_between(answered, r["scheduled"]),
    }


def turns_a_session(turn: IntArray) -> float:
    """Requests of a session, on average, by the turn that each request is (from 0); 1 where there are none."""
    return len(turn) / max(1, int((turn == 0).sum())) if len(turn) else 1.0


def unseen(r: Requests, limits: Mapping[str, float]) -> list[str]:
    """The limits that nothing can be said about, since none of the requests was streamed."""
    return [name for name in _STREAMED if name in limits] if len(r.streaming) and not r.streaming.any() else []


def met(r: Requests, limits: Mapping[str, float]) -> BoolArray:
    """Which requests met every limit. tpot and itl limit nothing where there was one token or chunk."""
    found = np.ones(len(r.streaming), np.bool_)
    latency = per_request(r)
    for name, limit in limits.items():
        kept = np.nan_to_num(latency[name], nan=np.inf) <= limit
        if name in ("tpot", "itl"):
            kept |= (r["output_tokens"] == 1) if name == "tpot" else (r.chunks == 1)
        found &= kept
    return found
