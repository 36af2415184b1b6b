"""A connection to a server on loopback that a test can cut and mend: a forwarder of bytes on a port of its own."""

from __future__ import annotations

import contextlib
import socket
import threading


class Connection:
    """`with Connection(port) as connection:` forwards `connection.address` to the port until it is cut."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._own = self._listener.getsockname()
        self.address = f"http://127.0.0.1:{self._own[1]}"

    def __enter__(self) -> Connection:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Both ends lose what is open, and nothing new is accepted."""
        with self._lock:
            ends, self._open = [self._listener, *self._open], []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def mend(self) -> None:
        """New connections are accepted again, at the same address."""
        self._listener = socket.create_server(self._own)
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(self._target)
                with self._lock:
                    self._open += [here, there]
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=_forward, args=(source, sink), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
