"""The compiled receiver's library, where it was built."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

from ....domain.events import Finding, Severity

HERE = Path(__file__).parent
LIBRARY = HERE / "_receiver.so"
NICE = -10
"""Of the receiver's thread, where the system lets it."""


class Look(ctypes.Structure):
    """What is known of a connection; see receiver.h."""

    _fields_ = (
        ("size", c_uint64), ("reads", c_uint64), ("at", c_int64), ("ended", c_int64), ("state", c_int32),
    )  # fmt: skip


class Found(ctypes.Structure):
    """What a response says; see receiver.h."""

    _fields_ = (
        ("chunks", c_uint64), ("arrivals", c_void_p), ("input", c_int64), ("output", c_int64), ("cached", c_int64),
        ("done", c_int32), ("finish_reason", ctypes.c_char * 32),
    )  # fmt: skip


_FUNCTIONS = {
    "lc_start": (c_void_p, c_int64, c_int),
    "lc_stop": (None, c_void_p),
    "lc_told": (c_int, c_void_p),
    "lc_over": (c_size_t, c_void_p, POINTER(c_uint64), c_size_t),
    "lc_lags": (c_size_t, c_void_p, POINTER(c_int64), c_size_t),
    "lc_open": (c_void_p, c_void_p, c_int, c_uint64),
    "lc_close": (None, c_void_p, c_void_p),
    "lc_begin": (c_void_p, c_void_p),
    "lc_finish": (None, c_void_p),
    "lc_look": (c_size_t, c_void_p, c_size_t, c_void_p, c_size_t, POINTER(Look)),
    "lc_reads": (c_size_t, c_void_p, c_void_p),
    "lc_copy": (None, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_size_t), POINTER(c_size_t)),
    "lc_release": (None, c_void_p),
    "lc_decode": (c_int, c_void_p, POINTER(Found)),
}  # fmt: skip


class ReceiverError(Exception):
    """There is no compiled receiver here, and what to do about that."""

    def __init__(self, text: str, advice: str = "install this package again") -> None:
        super().__init__(text)
        self.advice = advice


def digest() -> str:
    """Names the sources a library was built from, so that one built from others is not used."""
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sorted(HERE.glob("*.[ch]")))).hexdigest()[:16]


def load() -> ctypes.PyDLL:
    """The library. Its calls keep the interpreter's lock: they take microseconds, and its thread never asks for it.

    Raises:
        ReceiverError: it was not built, or from other sources, or cannot be loaded.
    """
    if sys.platform != "linux":
        raise ReceiverError("the one in C is for Linux", "measure from Linux where its exactness matters")
    if not LIBRARY.exists():
        raise ReceiverError("it was not built", "install a C compiler (gcc), then this package again")
    try:
        library = ctypes.PyDLL(str(LIBRARY))
        library.lc_source.restype = c_char_p
        built = library.lc_source().decode()
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise ReceiverError(f"it cannot be loaded: {error}") from error
    if built != digest():
        raise ReceiverError("it was built from other sources")
    return library


def check() -> Finding:
    """Which receiver a run takes here, for ``doctor``."""
    try:
        load()
    except ReceiverError as error:
        text = f"streams are received in Python, which costs more CPU and is less exact: {error}"
        severity = Severity.WARNING if sys.platform == "linux" else Severity.INFO
        return Finding("receiver", severity, text, error.advice)
    text = "plain-text streams are received in C, https in Python"
    with ThreadPoolExecutor(1) as thread:
        if thread.submit(_may_come_first).result():
            return Finding("receiver", Severity.INFO, text)
    text += "; the receiver may not raise its priority, so above some 500 streams a core its times are less exact"
    return Finding("receiver", Severity.INFO, text, "grant CAP_SYS_NICE, or raise the limit on nice (ulimit -e 30)")


def _may_come_first() -> bool:
    """Whether the system lets a thread of this user have the receiver's priority; this thread then has it."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    except OSError:
        return False
    return True
