"""What a node's network is set to: interfaces, InfiniBand and RoCE ports, the kernel's buffers.

Sources: Linux's Documentation/ABI/testing/sysfs-class-net and -infiniband, tcp(7), netdevice(7).
"""

from __future__ import annotations

import socket
from pathlib import Path

from msgspec import Struct

SETTINGS = ("net/core/rmem_max", "net/core/wmem_max", "net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem", "net/ipv4/tcp_congestion_control",
            "net/core/netdev_max_backlog")  # fmt: skip


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
