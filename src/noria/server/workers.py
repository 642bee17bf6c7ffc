"""More server processes at one address: each takes connections from the same listening socket, and PostgreSQL is between them.

The first process has the agent; the others ask it over a socket pair, and end when that does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from noria import process
from noria.config import Settings
from noria.server import home
from noria.server.route import Beside


@contextmanager
def start(settings: Settings, listening: socket.socket, agent: Beside) -> Iterator[None]:
    """All processes but this one, as long as the block."""
    pairs = [socket.socketpair() for _ in range(settings.workers - 1)]
    env = {**os.environ, "NORIA_WORKER": msgspec.json.encode(settings).decode()}
    children = []
    for ours, theirs in pairs:
        descriptors = (listening.fileno(), theirs.fileno())
        argv = process.python("noria.server.workers", *map(str, descriptors))
        children.append(process.start(argv, log=settings.folder / "server.log", env=env, keep=descriptors))
        theirs.close()
        threading.Thread(target=_answer, args=(ours, agent), name="noria-worker", daemon=True).start()
    try:
        yield
    finally:
        for (ours, _), child in zip(pairs, children, strict=True):
            ours.shutdown(socket.SHUT_RDWR)
            child.wait(10)


def _answer(ours: socket.socket, agent: Beside) -> None:
    """What a worker asks of the agent: a line of seconds to flush within, or an empty one to wake it."""
    with ours.makefile("rwb") as lines:
        for line in lines:
            if line.strip():
                lines.write(b"1\n" if agent.flush(float(line)) else b"0\n")
                lines.flush()
            else:
                agent.wake()


class Remote:
    """The agent, from a worker's side."""

    def __init__(self, pair: socket.socket) -> None:
        self._lines = pair.makefile("rwb")
        self._lock = threading.Lock()

    def flush(self, timeout: float) -> bool:
        with self._lock:
            self._lines.write(b"%f\n" % timeout)
            self._lines.flush()
            return self._lines.readline() == b"1\n"

    def wake(self) -> None:
        with self._lock:
            self._lines.write(b"\n")
            self._lines.flush()


def main() -> None:
    """One worker: `python -m noria.server.workers LISTENING PAIR`."""
    from noria.server.run import open_store, open_tree, run

    listening, pair = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    settings = msgspec.json.decode(os.environ["NORIA_WORKER"], type=Settings)
    asked = pair.dup()

    def mind() -> None:
        """End with the first process, however it ends."""
        if not select_end(asked):
            return
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=mind, daemon=True).start()
    store = open_store(settings)
    run(settings, store, open_tree(settings), home.token(settings.folder), listening, Remote(pair), lambda: None)
    store.close()


def select_end(pair: socket.socket) -> bool:
    """Returns when the other end is closed."""
    import select

    poll = select.poll()
    poll.register(pair, select.POLLRDHUP)
    return bool(poll.poll())


if __name__ == "__main__":
    main()
