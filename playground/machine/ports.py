"""Checks, before the page is built, whether a program can listen at an address: opens a socket and closes it again."""

from __future__ import annotations

import errno
import socket

from playground.errors import PlaygroundError


def check_port(host: str, port: int) -> None:
    """Raises PlaygroundError with what to do where nothing can listen there; 0 stands for any port that is free."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does after a restart
            listener.bind(address)
    except (OSError, UnicodeError) as error:
        raise _error(host, port, error) from error


def _error(host: str, port: int, error: Exception) -> PlaygroundError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return PlaygroundError(
            f"The port {port} on {host} is in use by another program, perhaps another playground.",
            "Choose another one with --port or PLAYGROUND_PORT; 0 looks for a free one.",
        )
    if number in (errno.EACCES, errno.EPERM):
        return PlaygroundError(
            f"The port {port} on {host} may not be used by this user.",
            "Choose one from 1024 up with --port or PLAYGROUND_PORT; 0 looks for a free one.",
        )
    why = (isinstance(error, OSError) and error.strerror) or str(error)
    return PlaygroundError(
        f"This computer cannot listen at {host} ({why}).",
        "Choose one of its own addresses with --host or PLAYGROUND_HOST; 127.0.0.1 is for itself alone.",
    )
