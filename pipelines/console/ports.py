"""An address to listen on, or one line that says why it cannot be had."""

from __future__ import annotations

import errno
import socket

from wssis.errors import InputError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: a name or address of this machine.
        port: 0 takes a free one.

    Raises:
        InputError: the address is taken or not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        found, remedy = f"that it cannot be ({error})", "Name an address of this machine, and another port"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            found, remedy = f"another program on port {port}", "Name another port with --port"
        raise InputError(
            f"expected an address to listen on, found {found}",
            where=f"--host {host} --port {port}",
            remedy=remedy,
        ) from error


def check_free(port: int) -> None:
    """Whether a server that opens its own socket can listen on 127.0.0.1.

    Raises:
        InputError: the port is taken.
    """
    listen("127.0.0.1", port).close()
