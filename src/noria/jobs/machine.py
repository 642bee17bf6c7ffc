"""What a launcher asks its node: which CPUs are for which task, and by which interface the other nodes are reached."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B


def shares(allowed: Sequence[int], tasks: int, cpus: int, place: Callable[[int], tuple[int, ...]]) -> list[list[int]]:
    """The CPUs of each task: equal parts of those that this job may use, neighbours together. Empty if they are too few to part.

    place: where a CPU is, such as (socket, core, thread): two tasks then share a core, or one task two sockets, only where it must be.
    """
    if tasks < 2 or tasks * cpus > len(allowed):
        return []
    ordered, each = sorted(allowed, key=place), len(allowed) // tasks
    return [ordered[each * task : each * (task + 1)] for task in range(tasks)]


def place(cpu: int) -> tuple[int, ...]:
    """Socket, core and number of a CPU (Linux: Documentation/admin-guide/cputopology.rst); those that it does not tell are 0."""
    folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    return _number(folder / "physical_package_id"), _number(folder / "core_id"), cpu


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


@contextmanager
def bound(cpus: Sequence[int]) -> Iterator[None]:
    """What is started meanwhile runs on these CPUs; on all that there are if none are named, or if the system forbids it."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus or before)
    except OSError:
        pass
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def interfaces(peer: str) -> dict[str, str]:
    """What NCCL and gloo must be told to find each other by the network that leads to `peer`, another node of the job.

    gloo takes whatever the node's own name resolves to, which is loopback on many machines. NCCL chooses well where there is one
    interface, or InfiniBand; else it takes the first, which may be a container's bridge.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, 9))  # Sends nothing: it asks the routing table.
            own = probe.getsockname()[0]
            addresses = dict(_addresses(probe.fileno()))
    except OSError:
        return {}
    name = next((name for name, address in addresses.items() if address == own), "")
    others = [each for each in addresses if each not in (name, "lo")]
    if not name:
        return {}
    chosen = {"GLOO_SOCKET_IFNAME": name}
    if others and not any(each.startswith("ib") for each in addresses):
        chosen["NCCL_SOCKET_IFNAME"] = f"={name}"
    return chosen


def network(peer: str) -> str:
    """The network that leads to another node, such as 10.77.0.0/24: interfaces may be named otherwise there. "" if that is not known."""
    from ipaddress import ip_network  # MPI alone needs it.

    name = interfaces(peer).get("GLOO_SOCKET_IFNAME", "")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            found = (_asked(probe.fileno(), question, name) for question in (_SIOCGIFADDR, _SIOCGIFNETMASK))
            return str(ip_network("/".join(found), strict=False)) if name else ""
    except OSError:
        return ""


def _addresses(descriptor: int) -> Iterator[tuple[str, str]]:
    """Name and IPv4 address of each interface that has one."""
    for _, name in socket.if_nameindex():
        try:
            yield name, _asked(descriptor, _SIOCGIFADDR, name)
        except OSError:
            continue


def _asked(descriptor: int, question: int, name: str) -> str:
    """An address of an interface (Linux: netdevice(7))."""
    return socket.inet_ntoa(fcntl.ioctl(descriptor, question, struct.pack("256s", name.encode()))[20:24])


def gpus(devices: Path = Path("/dev")) -> list[str]:
    """The ids of NVIDIA's GPUs on this node, as CUDA_VISIBLE_DEVICES has them."""
    found = (path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*"))
    return sorted(found, key=int)
