"""How fast the network between the nodes of a job is.

Every node runs `python -m noria.hardware.network` as one task of a job. Rank 0 says who measures with whom, so that no two pairs do
at once, and prints what all have found as one line of JSON. A message goes there and back; half of that time is what it took.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from itertools import combinations
from statistics import median
from typing import Any

import msgspec
from msgspec import Struct

from noria.hardware.interfaces import Host, host

SIZES = (1, 256, 4 << 10, 64 << 10, 1 << 20, 16 << 20)
"""Bytes of the messages."""
REDUCED = (1 << 10, 1 << 20, 16 << 20, 64 << 20)
"""Bytes that are summed over all nodes."""
_SECONDS, _LEAST, _PATIENCE = 0.3, 5, 120.0


class Time(Struct, frozen=True):
    """Seconds that a message of so many bytes takes: the median, and the 99th of 100."""

    size: int
    typical: float
    slow: float


class Link(Struct, frozen=True):
    source: str
    target: str
    times: list[Time]

    @property
    def latency(self) -> float:
        return self.times[0].typical

    @property
    def bandwidth(self) -> float:
        """Bytes a second, of the largest message."""
        return self.times[-1].size / self.times[-1].typical


class Report(Struct, frozen=True):
    """sums: of all-reduce over all nodes; backend: by which library, "" if there is none."""

    hosts: list[Host]
    links: list[Link]
    sums: list[Time] = []
    backend: str = ""


class _Wire:
    """A connection that carries JSON lines, and blocks of known length."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_PATIENCE)
        self._connection, self._file = connection, connection.makefile("rb")

    def say(self, what: object) -> None:
        self._connection.sendall(msgspec.json.encode(what) + b"\n")

    def hear(self) -> Any:
        return msgspec.json.decode(self._file.readline())

    def give(self, block: bytes | bytearray) -> None:
        self._connection.sendall(block)

    def take(self, room: bytearray) -> None:
        view = memoryview(room)
        while view:
            got = self._file.readinto(view)
            if not got:
                raise ConnectionError("The other node has hung up.")
            view = view[got:]


def _echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        wire = _Wire(connection)
        while (order := wire.hear())["size"]:
            room = bytearray(order["size"])
            for _ in range(order["times"]):
                wire.take(room)
                wire.give(room)


def _measure(address: str, port: int) -> list[Time]:
    found = []
    with socket.create_connection((address, port), _PATIENCE) as connection:
        wire = _Wire(connection)
        for size in SIZES:
            block, room = bytes(size), bytearray(size)
            trial = _there_and_back(wire, block, room, _LEAST)
            times = int(max(_LEAST, min(1000, _SECONDS / max(1e-6, 2 * median(trial)))))
            took = sorted(_there_and_back(wire, block, room, times))
            found.append(Time(size, median(took), took[min(len(took) - 1, int(0.99 * len(took)))]))
        wire.say({"size": 0})
    return found


def _there_and_back(wire: _Wire, block: bytes, room: bytearray, times: int) -> list[float]:
    """Half the time of each."""
    wire.say({"size": len(block), "times": times})
    took = []
    for _ in range(times):
        start = time.perf_counter()
        wire.give(block)
        wire.take(room)
        took.append((time.perf_counter() - start) / 2)
    return took


def _sums(rank: int, world: int) -> tuple[list[Time], str]:
    """All-reduce of doubles by whatever torch has here; nothing without torch."""
    try:
        import torch
        from torch import distributed
    except ImportError:
        return [], ""
    gpus = torch.cuda.is_available()
    backend = "nccl" if gpus else "gloo"
    distributed.init_process_group(backend, rank=rank, world_size=world)
    device = torch.device("cuda", 0) if gpus else torch.device("cpu")
    found = []
    for size in REDUCED:
        tensor, took = torch.zeros(max(1, size // 8), dtype=torch.float64, device=device), []
        for _ in range(2 * _LEAST):
            distributed.barrier()
            start = time.perf_counter()
            distributed.all_reduce(tensor)
            if gpus:
                torch.cuda.synchronize()
            took.append(time.perf_counter() - start)
        found.append(Time(size, median(took[_LEAST:]), max(took[_LEAST:])))
    distributed.destroy_process_group()
    return found, backend


def lead(world: int, listener: socket.socket, own: Host, address: str) -> tuple[list[Host], list[Link]]:
    """Rank 0: have each pair measure, one after the other."""
    others: dict[int, _Wire] = {}
    hosts, ports = {0: own}, {}
    while len(others) < world - 1:
        connection, (where, _) = listener.accept()
        wire = _Wire(connection)
        said = wire.hear()
        others[said["rank"]], hosts[said["rank"]] = wire, msgspec.convert(said["host"], Host)
        ports[said["rank"]] = where, said["port"]
    with _listening() as mine:
        ports[0] = address, mine.getsockname()[1]
        links = []
        for one, other in combinations(range(world), 2):
            others[other].say({"measure": ports[one]})
            if one:
                others[one].say({"echo": True})
                others[one].hear()
            else:
                _echo(mine)
            times = msgspec.convert(others[other].hear(), list[Time])
            links.append(Link(hosts[one].name, hosts[other].name, times))
    for wire in others.values():
        wire.say({})
    return [hosts[rank] for rank in range(world)], links


def follow(rank: int, first: tuple[str, int], own: Host) -> None:
    """Any other rank: do what rank 0 says, until it says nothing."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection = socket.create_connection(first, 5.0)
            break
        except OSError:  # It has not begun yet.
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    with connection, _listening() as mine:
        wire = _Wire(connection)
        wire.say({"rank": rank, "host": own, "port": mine.getsockname()[1]})
        while order := wire.hear():
            if "echo" in order:
                _echo(mine)
                wire.say({})
            else:
                wire.say(_measure(*order["measure"]))


def _listening(port: int = 0) -> socket.socket:
    return socket.create_server(("", port))


def main() -> int:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    first, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    own = host(first)
    if rank:
        follow(rank, (first, port), own)
        _sums(rank, world)
        return 0
    with _listening(port) as listener:
        hosts, links = lead(world, listener, own, first)
    sums, backend = _sums(rank, world)  # By the same port, which is free again.
    print(msgspec.json.encode(Report(hosts, links, sums, backend)).decode(), flush=True)
    return 0


def bus(size: int, seconds: float, nodes: int) -> float:
    """Bytes a second that each node's link carries in a ring all-reduce: 2 (n - 1) / n of the data goes over it."""
    return 2 * (nodes - 1) / nodes * size / seconds


def read(text: str) -> Report | None:
    """The report in what rank 0 has printed."""
    for line in reversed(text.splitlines()):
        if line.startswith('{"hosts"'):
            return msgspec.json.decode(line, type=Report)
    return None


if __name__ == "__main__":
    sys.exit(main())
