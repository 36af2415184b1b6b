"""A reply on a thread of its own, whose pieces an HTTP answer awaits; it ends when the client goes away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

import anyio
from starlette.types import Receive

from playground.chat.programs.reply import ReplyPiece


class ReplyThread:
    """Start it in the event loop. `next_pieces` returns what has come, `stop` ends the reply within a step."""

    def __init__(self, pieces: Generator[ReplyPiece, None, None]) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._mail: asyncio.Queue[ReplyPiece | Exception | None] = asyncio.Queue()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="reply to a program").start()

    def stop(self) -> None:
        self._stopped.set()

    async def next_piece(self, seconds: float) -> ReplyPiece | None:
        """The next piece with something in it, an empty one after `seconds` without any, None at the end.

        Raises the error of the reply.
        """
        try:
            mail = await asyncio.wait_for(self._mail.get(), seconds)
        except asyncio.TimeoutError:
            return ReplyPiece()
        if isinstance(mail, Exception):
            raise mail
        return mail

    async def stop_when_gone(self, receive: Receive) -> None:
        """Returns when the client has gone away."""
        while (await receive())["type"] != "http.disconnect":
            await anyio.sleep(0)
        self.stop()

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                if self._stopped.is_set():
                    return
                if not piece.is_empty:
                    self._send(piece)
            self._send(None)
        except Exception as error:  # of any kind: it becomes the answer
            self._send(error)
        finally:
            self._pieces.close()

    def _send(self, mail: ReplyPiece | Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._mail.put_nowait, mail)
        except RuntimeError:  # the server has ended
            self.stop()
