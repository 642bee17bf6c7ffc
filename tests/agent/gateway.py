"""What may lie between an agent and its server: a gateway that refuses, swallows, dawdles, repeats, loses and reorders."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["open", "hole", "drip", "503", "unfaithful"]
SLOW = b"HTTP/1.1 200 OK\r\nnoria-protocol: 0;1\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"


class Gateway:
    """Listens on an address of its own; `mode` may be changed at any time, which ends all connections."""

    def __init__(self, target: str, seed: int = 7) -> None:
        self.target, self.chance = urlsplit(target), random.Random(seed)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self._mode: Mode = "open"
        self._open: set[socket.socket] = set()
        self._stop = threading.Event()
        self._kept: list[bytes] = []
        self.repeated = self.lost = self.late = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stop.set()
        with suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.mode = "hole"

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while request := _message(connection):
                if not self._answer(connection, request):
                    break
        self._open.discard(connection)

    def _answer(self, connection: socket.socket, request: bytes) -> bool:
        """Whether the connection goes on."""
        mode = self.mode
        if mode == "hole":
            self._stop.wait()
            return False
        if mode == "503":
            connection.sendall(BUSY)
            return True
        if mode == "drip":
            connection.sendall(SLOW)
            while not self._stop.wait(0.2):
                connection.sendall(b"x")
            return False
        if mode == "unfaithful" and b"/spools/ship " in request.split(b"\r\n", 1)[0]:
            return self._unfaithful(connection, request)
        connection.sendall(self._forward(request))
        return True

    def _unfaithful(self, connection: socket.socket, request: bytes) -> bool:
        for _ in range(self.chance.choice([0, 0, 1, 2])):
            self.repeated += 1
            self._forward(request)
        answer = self._forward(request)
        if self._kept and self.chance.random() < 0.5:  # One of long ago arrives now.
            self.late += 1
            self._forward(self._kept.pop(self.chance.randrange(len(self._kept))))
        self._kept.append(request)
        if self.chance.random() < 0.3:
            self.lost += 1
            return False
        connection.sendall(answer)
        return True

    def _forward(self, request: bytes) -> bytes:
        with socket.create_connection((self.target.hostname or "", self.target.port or 0), timeout=30) as server:
            server.sendall(request)
            return _message(server)


def _message(connection: socket.socket) -> bytes:
    """One HTTP message with its body, whose length it tells; b"" if the connection has ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (block := connection.recv(1 << 16)):
            return b""
        data += block
    head = data.split(b"\r\n\r\n", 1)[0]
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    size = len(head) + 4 + int(lengths[0] if lengths else 0)
    while len(data) < size:
        if not (block := connection.recv(1 << 16)):
            return b""
        data += block
    return data


@contextmanager
def gateway(target: str) -> Iterator[Gateway]:
    between = Gateway(target)
    try:
        yield between
    finally:
        between.close()
