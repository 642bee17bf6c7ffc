"""What to change in the network of a job's nodes, and why. The variables are those of NCCL and gloo."""

from __future__ import annotations

from statistics import median

from msgspec import Struct

from noria.hardware.interfaces import Host, Interface
from noria.hardware.network import Report

_FAST = 10_000
"""Mbit/s from which on the advice for fast links holds."""


class Advice(Struct, frozen=True):
    """What is wrong, what to do about it, and why."""

    what: str
    change: str
    why: str


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
