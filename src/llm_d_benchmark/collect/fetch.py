"""GET requests of collectors: the standard library's client in a thread, with credentials only where they belong."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from ..domain.endpoint import Endpoint, headers_over
from .api import CollectError

MAX_BYTES = 64 * 2**20
MAX_ERROR = 4096
TRUST = "ca_file names its authority's certificate (PEM); for a test system verify_tls: false accepts any"


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 answer.

    Attributes:
        date: what the server's clock said, epoch seconds cut to whole ones; None where it does not say.
        began, ended: monotonic ns before the request and after its answer.
    """

    body: bytes
    date: int | None
    began: int
    ended: int


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would take the key elsewhere."""

    def redirect_request(self, *_: object) -> None:
        return None


class Fetcher:
    """GET requests beside a load. The endpoint's key, headers and TLS settings go to its own host only."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._openers: dict[bool, OpenerDirector] = {}

    async def get(self, url: str, timeout_s: float) -> Answer:
        """A 200 answer.

        Raises:
            CollectError: no such answer came.
        """
        own = urlsplit(url).hostname == self._endpoint.host
        defaults = {"Accept": "*/*", "Accept-Encoding": "gzip"}
        headers = headers_over(self._endpoint.all_headers() if own else {}, defaults)
        return await _aside(lambda: _open(self._opener(own), url, headers, timeout_s))

    def _opener(self, own: bool) -> OpenerDirector:
        """Made once: with its roots of trust it takes as long as a good many scrapes."""
        if own not in self._openers:
            try:
                context = self._endpoint.tls.context() if own and self._endpoint.secure else None
            except OSError as error:
                named, reason = self._endpoint.tls.ca_file, error.strerror or error
                said = f"the certificates to trust cannot be read from {named}: {reason}"
                raise CollectError(said, TRUST, final=True) from None
            self._openers[own] = build_opener(_NoRedirect, HTTPSHandler(context=context))
        return self._openers[own]


async def _aside(work: Callable[[], Answer]) -> Answer:
    """The result of ``work`` in a thread of its own that nobody waits for once it is not wanted any more: a server that
    takes a request and does not answer would hold up the end of the program."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def tell(outcome: Answer | CollectError) -> None:
        if done.cancelled():
            return
        if isinstance(outcome, CollectError):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)

    def run() -> None:
        outcome: Answer | CollectError = CollectError("the request broke off")
        try:
            outcome = work()
        except CollectError as error:
            outcome = error
        finally:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, outcome)

    Thread(target=run, name="fetch", daemon=True).start()
    return await done


def _open(opener: OpenerDirector, url: str, headers: dict[str, str], timeout_s: float) -> Answer:
    said = b""
    plain, _, _ = url.partition("?")
    began = time.monotonic_ns()
    try:
        with opener.open(Request(url, headers=headers), timeout=timeout_s) as answer:
            body: bytes = answer.read(MAX_BYTES + 1)
            date = answer.headers.get("Date")
            body = _plain(body, answer.headers.get("Content-Encoding"))
    except HTTPError as error:
        with error, suppress(HTTPException, OSError, EOFError):
            said = _plain(error.read(MAX_ERROR), error.headers.get("Content-Encoding"))
        raise CollectError(f"{plain} answered {error.code}", status=error.code, body=said) from None
    except (URLError, HTTPException, OSError, EOFError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            untrusted = f"the certificate of {urlsplit(url).netloc} is not trusted: {reason.verify_message}"
            raise CollectError(untrusted, TRUST, final=True) from None
        raise CollectError(f"{plain} gave no answer: {reason}") from None
    if len(body) > MAX_BYTES:
        raise CollectError(f"{plain} answered more than {MAX_BYTES // 2**20} MiB")
    return Answer(body, _epoch(date), began, time.monotonic_ns())


def _plain(body: bytes, encoding: str | None) -> bytes:
    return gzip.decompress(body) if encoding == "gzip" else body


def _epoch(date: str | None) -> int | None:
    try:
        return None if date is None else int(parsedate_to_datetime(date).timestamp())
    except ValueError:
        return None
