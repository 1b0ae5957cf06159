"""GET requests of collectors: the standard library's client in a thread, with credentials only where they belong."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from ..domain.endpoint import Endpoint
from .api import CollectError

MAX_BYTES = 64 * 2**20
MAX_ERROR = 4096


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


async def fetch(url: str, endpoint: Endpoint, timeout_s: float) -> Answer:
    """A 200 answer. The endpoint's key, headers and TLS settings go to its own host only.

    Raises:
        CollectError: no such answer came.
    """
    return await asyncio.to_thread(_fetch, url, endpoint, timeout_s)


def _fetch(url: str, endpoint: Endpoint, timeout_s: float) -> Answer:
    own = urlsplit(url).hostname == endpoint.host
    headers = {"Accept": "*/*", "Accept-Encoding": "gzip", **(endpoint.all_headers() if own else {})}
    said = b""
    plain, _, _ = url.partition("?")
    began = time.monotonic_ns()
    try:
        opener = build_opener(_NoRedirect, HTTPSHandler(context=_tls(endpoint) if own else None))
        with opener.open(Request(url, headers=headers), timeout=timeout_s) as answer:
            body: bytes = answer.read(MAX_BYTES + 1)
            date = answer.headers.get("Date")
            body = _plain(body, answer.headers.get("Content-Encoding"))
    except HTTPError as error:
        with error, suppress(HTTPException, OSError, EOFError):
            said = _plain(error.read(MAX_ERROR), error.headers.get("Content-Encoding"))
        raise CollectError(f"{plain} answered {error.code}", status=error.code, body=said) from None
    except (URLError, HTTPException, OSError, EOFError, ValueError) as error:
        raise CollectError(f"{plain} gave no answer: {getattr(error, 'reason', None) or error}") from None
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


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=endpoint.tls.ca_file)
    if not endpoint.tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
