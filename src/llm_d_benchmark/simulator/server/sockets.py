"""The ports of a deployment: one for the router, and after it one for each replica."""

from __future__ import annotations

import socket
from contextlib import suppress

from ...domain.errors import TargetError

BACKLOG = 4096
TRIES = 50


def listen(host: str, port: int | None, count: int) -> list[socket.socket]:
    """Sockets that listen at ``count`` ports in a row, from ``port`` on, or from a free one.

    Raises:
        TargetError: one of them is taken, or the host is not an address of this machine.
    """
    for _ in range(TRIES):
        opened: list[socket.socket] = []
        try:
            for k in range(count):
                first = port or (opened[0].getsockname()[1] if opened else 0)
                opened.append(_bound(host, first + k if first else 0))
        except (OSError, OverflowError) as error:
            failed = str(error)
            taken = port + len(opened) if port else None
            close(opened)
            if taken is not None:
                raise TargetError(
                    f"port {taken} of {host} cannot be opened: {failed}",
                    advice=f"this deployment takes {count} ports from {port} on; choose another port, or leave it out "
                    "to have free ones chosen",
                ) from None
        else:
            return opened
    raise TargetError(
        f"no {count} ports in a row can be opened on {host}: {failed}", advice="is it an address of this machine?"
    )


def close(sockets: list[socket.socket]) -> None:
    """Give the ports back."""
    for one in sockets:
        with suppress(OSError):
            one.close()


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except (OSError, OverflowError):
        bound.close()
        raise
    return bound


def url_of(host: str, port: int) -> str:
    """The URL of a port, for a client on this machine where the host stands for every address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
