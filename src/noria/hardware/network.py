"""The network between the nodes of a job: what it is set to, how fast it is, and what should be changed.

Every node runs `python -m noria.hardware.network` as one task of a job. Rank 0 says who measures with whom, so that no two pairs do
at once, and prints what all have found as one line of JSON. A message goes there and back; half of that time is what it took.

Sources: Linux's Documentation/ABI/testing/sysfs-class-net and -infiniband, tcp(7); the variables are those of NCCL and gloo.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from msgspec import Struct

SIZES = (1, 256, 4 << 10, 64 << 10, 1 << 20, 16 << 20)
"""Bytes of the messages."""
REDUCED = (1 << 10, 1 << 20, 16 << 20, 64 << 20)
"""Bytes that are summed over all nodes."""
SETTINGS = ("net/core/rmem_max", "net/core/wmem_max", "net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem", "net/ipv4/tcp_congestion_control",
            "net/core/netdev_max_backlog")  # fmt: skip
_SECONDS, _LEAST, _PATIENCE = 0.3, 5, 120.0
_FAST = 10_000
"""Mbit/s from which on the advice for fast links holds."""


class Interface(Struct, frozen=True):
    """speed: in Mbit/s, 0 if the driver does not say."""

    name: str
    mtu: int
    speed: int
    up: bool


class Port(Struct, frozen=True):
    """A port of an InfiniBand or RoCE adapter, in the kernel's words: state such as ACTIVE, rate such as '100 Gb/sec (4X EDR)'."""

    device: str
    number: int
    state: str
    rate: str
    link: str


class Host(Struct, frozen=True):
    """used: the interface that leads to the first node."""

    name: str
    used: str
    interfaces: list[Interface]
    ports: list[Port]
    settings: dict[str, str]


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


class Advice(Struct, frozen=True):
    """What is wrong, what to do about it, and why."""

    what: str
    change: str
    why: str


# What a node is set to.


def host(first: str, root: Path = Path("/")) -> Host:
    """This node. first: the address of the first one."""
    net, infiniband = root / "sys/class/net", root / "sys/class/infiniband"
    interfaces = (
        [_interface(path) for path in sorted(net.iterdir()) if path.name != "lo" and (path / "mtu").exists()]
        if net.is_dir()
        else []
    )
    ports = [_port(path) for path in sorted(infiniband.glob("*/ports/*"))]
    settings = {name: _text(root / "proc/sys" / name) for name in SETTINGS}
    return Host(
        socket.gethostname(), _leads_to(first), interfaces, ports, {name: value for name, value in settings.items() if value}
    )


def _interface(path: Path) -> Interface:
    speed = _text(path / "speed")  # -1, or an error, where nothing is known.
    return Interface(path.name, int(_text(path / "mtu")), max(0, int(speed)) if speed.lstrip("-").isdigit() else 0,
                     _text(path / "operstate") in ("up", "unknown"))  # fmt: skip


def _port(path: Path) -> Port:
    state = _text(path / "state").partition(":")[2].strip()
    return Port(path.parts[-3], int(path.name), state, _text(path / "rate"), _text(path / "link_layer"))


def _text(path: Path) -> str:
    try:
        return " ".join(path.read_text().split())
    except OSError:
        return ""


def _leads_to(address: str) -> str:
    """The interface whose own address is taken for a packet there; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            own = probe.getsockname()[0]
        except OSError:
            return ""
    return next((name for name, theirs in _addresses().items() if own in theirs), "")


def _addresses() -> dict[str, list[str]]:
    import fcntl
    import struct

    found: dict[str, list[str]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_:
        for _, name in socket.if_nameindex():
            try:
                packed = fcntl.ioctl(any_.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR (netdevice(7))
            except OSError:
                continue
            found.setdefault(name, []).append(socket.inet_ntoa(packed[20:24]))
    return found


# How fast it is.


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


# What should be changed.


def advise(report: Report) -> list[Advice]:
    return [*_of_ports(report), *_of_interfaces(report), *_of_buffers(report), *_of_speed(report)]


def _of_ports(report: Report) -> list[Advice]:
    down = [f"{host.name} {port.device} port {port.number} ({port.state or 'no state'})"
            for host in report.hosts for port in host.ports if port.state != "ACTIVE"]  # fmt: skip
    found = []
    if down:
        found.append(Advice(f"Ports of the fast network are down: {', '.join(down)}.", "Have the cable, the switch and the subnet manager looked at.",
                            "NCCL falls back to TCP without a word, and is many times slower."))  # fmt: skip
    have = {host.name: any(port.state == "ACTIVE" for port in host.ports) for host in report.hosts}
    if len(set(have.values())) > 1:
        without = ", ".join(name for name, it in have.items() if not it)
        found.append(Advice(f"Some nodes have InfiniBand or RoCE, and {without} has not.", "Ask for nodes of one kind, with --constraint.",
                            "A ring of nodes is as fast as its slowest link."))  # fmt: skip
    return found


def _of_interfaces(report: Report) -> list[Advice]:
    found = []
    used = {host.name: _used(host) for host in report.hosts}
    several = [host for host in report.hosts if _used(host) and sum(each.up for each in host.interfaces) > 1]
    if several:
        names = sorted({host.used for host in several})
        found.append(Advice(f"Nodes have several networks; {', '.join(names)} leads to the first node.",
                            f"Set NCCL_SOCKET_IFNAME={','.join(names)} and GLOO_SOCKET_IFNAME={names[0]}.",
                            "Libraries that choose by themselves may take one that leads nowhere, and hang."))  # fmt: skip
    sizes = {it.mtu for it in used.values() if it}
    if len(sizes) > 1:
        shown = ", ".join(f"{name} {it.mtu}" for name, it in used.items() if it)
        found.append(
            Advice(
                f"The MTU differs: {shown}.",
                "Give all nodes and switches the same.",
                "Large packets are lost or cut on their way.",
            )
        )
    elif sizes and max(sizes) < 9000 and any(it.speed >= _FAST for it in used.values() if it):
        found.append(Advice(f"The MTU is {max(sizes)} on links of {max(it.speed for it in used.values() if it) // 1000} Gbit/s.",
                            "ip link set dev … mtu 9000, on all nodes and switches.", "Six times fewer packets cost six times less CPU."))  # fmt: skip
    return found


def _used(host: Host) -> Interface | None:
    return next((each for each in host.interfaces if each.name == host.used), None)


def _of_buffers(report: Report) -> list[Advice]:
    """A connection can have on its way what its window holds: bandwidth times the time there and back."""
    latency = max((link.latency for link in report.links), default=0.0)
    found = []
    for host in report.hosts:
        used = _used(host)
        needed = int((used.speed if used else 0) * 125_000 * 2 * latency)
        most = int(host.settings.get("net/ipv4/tcp_rmem", "0").split()[-1])
        if used and most and needed > most:
            found.append(Advice(f"{host.name} receives at most {most >> 10} KiB at a time; its link holds {needed >> 10} KiB.",
                                f"sysctl -w net.ipv4.tcp_rmem='4096 131072 {2 * needed}' net.core.rmem_max={2 * needed}",
                                "One connection cannot fill the link otherwise."))  # fmt: skip
    return found


def _of_speed(report: Report) -> list[Advice]:
    found = []
    speeds = {host.name: it.speed for host in report.hosts if (it := _used(host))}
    for link in report.links:
        speed = min(speeds.get(link.source, 0), speeds.get(link.target, 0)) * 125_000
        if speed and link.bandwidth < 0.5 * speed:
            found.append(Advice(
                f"{link.source} - {link.target}: one connection carries {link.bandwidth / 1e6:,.0f} MB/s of {speed / 1e6:,.0f}.",
                "Set NCCL_SOCKET_NTHREADS=4 and NCCL_NSOCKS_PERTHREAD=4; look at the MTU, and whether other jobs use the link.",
                "TCP is bound by one core; several connections share the work."))  # fmt: skip
    typical = median([link.latency for link in report.links]) if report.links else 0.0
    far = [link for link in report.links if len(report.links) > 2 and link.latency > 3 * typical]
    return found + [Advice(f"{link.source} - {link.target}: {link.latency * 1e6:,.0f} us, three times that of the others.",
                           "Ask for nodes of one rack or switch (--raw --switches=1 on Slurm).", "All nodes wait for the slowest.")
                    for link in far]  # fmt: skip


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
