"""Whether a program can listen at an address, and what is told where it cannot."""

from __future__ import annotations

import socket

import pytest

from playground.errors import PlaygroundError
from playground.machine.ports import check_port


def test_a_free_port_and_any_port_are_well() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    check_port("127.0.0.1", port)
    check_port("0.0.0.0", 0)


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PlaygroundError, match=rf"The port {port} on 127\.0\.0\.1 is in use .* Choose another one"):
            check_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-computer.invalid", "not a name", "x" * 300])
def test_an_address_of_another_computer_is_told(host: str) -> None:
    with pytest.raises(PlaygroundError, match=r"This computer cannot listen at .*--host or PLAYGROUND_HOST"):
        check_port(host, 7860)
