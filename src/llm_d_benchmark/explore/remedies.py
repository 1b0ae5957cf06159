"""What is worth a test against each limit that a diagnosis finds, in the flags of the servers that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..domain.study import Value

FULL_CACHE = "the KV cache was full"
QUEUED = ("requests waited in the server's queue", "requests queued for a good part")


@dataclass(frozen=True, slots=True)
class Advice:
    """``claim`` is how the diagnosis begins; ``scale`` makes values out of the present number; ``places``: only where a
    batch had all the sequences it may have, or where it had free places; "" for both."""

    claim: str
    flag: str
    change: str
    scale: Sequence[float] = ()
    values: Sequence[Value] = ()
    places: Literal["", "full", "free"] = ""


VLLM = (
    Advice(FULL_CACHE, "gpu-memory-utilization", "raise it: more blocks, fewer preemptions",
           values=(0.9, 0.93, 0.95)),
    Advice(FULL_CACHE, "kv-cache-dtype", "fp8 halves the cache's bytes; check the quality of answers",
           values=("auto", "fp8")),
    Advice(FULL_CACHE, "tensor-parallel-size", "more GPUs hold more cache and share the weights",
           scale=(1, 2, 4)),
    Advice(FULL_CACHE, "max-num-seqs", "lower it: fewer sequences that preempt each other",
           scale=(1, 0.5, 0.25)),
    Advice(FULL_CACHE, "num-gpu-blocks-override", "raise it as far as the memory goes, or leave it out",
           scale=(1, 1.5, 2)),
    *(Advice(queued, "max-num-seqs", "raise it: every place was taken, and the KV cache has room", scale=(1, 2, 4),
             places="full") for queued in QUEUED),
    *(Advice(queued, "max-num-batched-tokens", "raise it: places were free, so prompts waited for room in a step",
             scale=(1, 2, 4), places="free") for queued in QUEUED),
    *(Advice(queued, "tensor-parallel-size", "places were free, so computing was the limit: more GPUs shorten steps",
             scale=(1, 2, 4), places="free") for queued in QUEUED),
    *(Advice(queued, "enable-prefix-caching", "on, where prompts share prefixes: less to compute",
             values=(True, False), places="free") for queued in QUEUED),
    Advice("prefill took most", "max-num-batched-tokens", "raise it: fewer steps for a prompt; TPOT may grow",
           scale=(1, 2, 4)),
    Advice("prefill took most", "enable-prefix-caching", "on, where prompts share prefixes", values=(True, False)),
    Advice("most of a request's time passed before", "max-num-batched-tokens", "raise it if prefill takes long",
           scale=(1, 2, 4)),
    Advice("most of a request's time passed before", "max-num-seqs", "raise it if requests wait", scale=(1, 2, 4)),
    Advice("decoding took most", "tensor-parallel-size", "more GPUs make every step shorter", scale=(1, 2, 4)),
    Advice("decoding took most", "max-num-seqs", "lower it for shorter steps (TPOT), raise it for more tokens/s",
           scale=(0.5, 1, 2)),
    Advice("decoding took most", "max-num-batched-tokens", "lower it: prompts disturb decoding steps less",
           scale=(1, 0.5, 0.25)),
    Advice("prompts share prefixes, but", "enable-prefix-caching", "on", values=(True, False)),
)  # fmt: skip
LLAMA_CPP = (
    Advice(FULL_CACHE, "ctx-size", "raise it: the cache has room for so many tokens over all slots", scale=(1, 2, 4)),
    Advice(FULL_CACHE, "cache-type-k", "q8_0 takes about half the bytes of f16; check the quality of answers",
           values=("f16", "q8_0")),
    Advice(FULL_CACHE, "parallel", "lower it: fewer sequences share the cache", scale=(1, 0.5, 0.25)),
    *(Advice(queued, "parallel", "raise it: every slot was taken; they share the context and the cores",
             scale=(1, 2, 4), places="full") for queued in QUEUED),
    *(Advice(queued, "ubatch-size", "raise it: slots were free, so prompts waited for the steps before them",
             scale=(1, 2, 4), places="free") for queued in QUEUED),
    Advice("prefill took most", "ubatch-size", "raise it: fewer steps for a prompt; TPOT may grow", scale=(1, 2, 4)),
    Advice("prefill took most", "threads", "raise it up to the machine's cores but one, which the client needs",
           scale=(1, 2)),
    Advice("most of a request's time passed before", "ubatch-size", "raise it if prefill takes long", scale=(1, 2, 4)),
    Advice("most of a request's time passed before", "parallel", "raise it if requests wait", scale=(1, 2, 4)),
    Advice("decoding took most", "parallel", "lower it for shorter steps (TPOT), raise it for more tokens/s",
           scale=(0.5, 1, 2)),
    Advice("decoding took most", "threads", "raise it up to the machine's cores but one, which the client needs",
           scale=(1, 2)),
    Advice("decoding took most", "batch-size", "lower it: prompts disturb decoding steps less", scale=(1, 0.5, 0.25)),
)  # fmt: skip
