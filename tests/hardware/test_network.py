"""The network between nodes: what is measured, read from /sys, and advised."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from noria.hardware.advice import Advice, advise
from noria.hardware.interfaces import Host, Interface, Port, host
from noria.hardware.network import SIZES, Link, Report, Time, bus, read


def test_tasks_on_this_machine_measure_each_other(noria: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    found = json.loads(noria("cluster", "network", "--json").stdout)["report"]
    assert len(found["hosts"]) == 2
    (link,) = found["links"]
    assert [time["size"] for time in link["times"]] == list(SIZES)
    assert all(0 < time["typical"] <= time["slow"] for time in link["times"])
    assert link["times"][-1]["typical"] > link["times"][0]["typical"]
    assert found["sums"] == [] or found["backend"] == "gloo"


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_what_the_kernel_says_of_adapters_is_read(tmp_path: Path) -> None:
    port = "sys/class/infiniband/mlx5_0/ports/1"
    _write(tmp_path, {
        "sys/class/net/eth0/mtu": "1500", "sys/class/net/eth0/speed": "25000", "sys/class/net/eth0/operstate": "up",
        "sys/class/net/eth1/mtu": "9000", "sys/class/net/eth1/speed": "-1", "sys/class/net/eth1/operstate": "down",
        "sys/class/net/lo/mtu": "65536", f"{port}/state": "4: ACTIVE", f"{port}/rate": "100 Gb/sec (4X EDR)",
        f"{port}/link_layer": "InfiniBand", "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456",
    })  # fmt: skip
    found = host("127.0.0.1", tmp_path)
    assert found.interfaces == [Interface("eth0", 1500, 25_000, True), Interface("eth1", 9000, 0, False)]
    assert found.ports == [Port("mlx5_0", 1, "ACTIVE", "100 Gb/sec (4X EDR)", "InfiniBand")]
    assert found.settings == {"net/ipv4/tcp_rmem": "4096 131072 6291456"} and found.used == "lo"


def _host(
    name: str,
    mtu: int = 9000,
    speed: int = 25_000,
    more: tuple[Interface, ...] = (),
    ports: tuple[Port, ...] = (),
    rmem: int = 2**26,
) -> Host:
    return Host(
        name, "eth0", [Interface("eth0", mtu, speed, True), *more], list(ports), {"net/ipv4/tcp_rmem": f"4096 131072 {rmem}"}
    )


def _link(source: str, target: str, latency: float = 20e-6, speed: float = 3e9) -> Link:
    return Link(source, target, [Time(1, latency, latency), Time(2**24, 2**24 / speed, 2**24 / speed)])


def _said(hosts: list[Host], links: list[Link]) -> list[Advice]:
    return advise(Report(hosts, links))


def test_a_network_in_order_needs_no_advice() -> None:
    up = Port("mlx5_0", 1, "ACTIVE", "100 Gb/sec", "InfiniBand")
    assert _said([_host("a", ports=(up,)), _host("b", ports=(up,))], [_link("a", "b")]) == []


def test_what_is_wrong_is_named_with_its_cure() -> None:
    down = Port("mlx5_0", 1, "DOWN", "", "InfiniBand")
    second = Interface("ib0", 2044, 0, True)
    cases = {
        "a mlx5_0 port 1 (DOWN)": _said([_host("a", ports=(down,)), _host("b")], [_link("a", "b")]),
        "NCCL_SOCKET_IFNAME=eth0": _said([_host("a", more=(second,)), _host("b")], [_link("a", "b")]),
        "The MTU differs: a 1500, b 9000": _said([_host("a", mtu=1500), _host("b")], [_link("a", "b")]),
        "mtu 9000": _said([_host("a", mtu=1500), _host("b", mtu=1500)], [_link("a", "b")]),
        "a receives at most 64 KiB": _said([_host("a", rmem=2**16), _host("b")], [_link("a", "b")]),
        "one connection carries 1,000 MB/s of 3,125": _said([_host("a"), _host("b")], [_link("a", "b", speed=1e9)]),
        "a - c: 100 us": _said(
            [_host(each) for each in "abc"], [_link("a", "b"), _link("b", "c"), _link("a", "c", latency=100e-6)]
        ),
    }
    for words, advice in cases.items():
        assert any(words in f"{each.what} {each.change}" for each in advice), (words, advice)
    assert [each for each in cases["mtu 9000"] if "differs" in each.what] == []


def test_a_report_is_found_among_what_else_was_printed() -> None:
    report = Report([_host("a")], [])
    assert read(f"warning\n{msgspec.json.encode(report).decode()}\nbye\n") == report and read("nothing") is None
    assert bus(100, 1.0, 4) == 150.0
