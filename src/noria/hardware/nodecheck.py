"""Whether the nodes of a job are sound, found out in ten seconds before its tasks start.

Each node makes its processors, memory, network and GPUs work (`exercise.py`), asks the GPUs' driver what it has seen, and looks for room
where programs expect some. What is wrong by itself is a fault; what is slow is one beside the job's other nodes. What cannot be tried is
none: no torch, no driver, a network that nobody gets through.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from noria import atomic, process
from noria.errors import BadNode
from noria.hardware import exercise
from noria.process import Answer

K = TypeVar("K")
SECONDS = 10.0
_EXERCISE, _MEET, _ASK = 7.5, 3.0, 1.5
"""Seconds of these that the exercise may take, that nodes wait for each other in it, and for each question to a driver."""
_SLOW = {"hash": 1 / 3, "copy": 1 / 5, "links": 1 / 5}
"""Of what the others reach: what other jobs on a shared node take away is less."""
_SLOW_GPU = 0.6
"""GPUs are a job's own, so one of the same name is as fast, unless it is hot, or its power or its link is throttled."""
_LEAST = {"hash": 20e6, "copy": 0.3e9, "to": 1.5e9, "back": 1.5e9}
"""Bytes a second that nothing in use since 2010 falls below: SHA-256, a copy in memory, and to a GPU and back over PCIe."""
_ROOM = 64 << 20
_STUCK = 4.0
"""Seconds after which GPUs that were given a second's work hang."""
_BROKEN = (
    r"ecc|uncorrectable|launch failure|illegal|hardware|\blost\b|fallen|busy or unavailable|nvlink|out of memory|unknown error"
)
"""In torch's words for what a GPU did: no program's fault where the program is ours. A GPU that is too new for this torch is none."""


class Gpu(Struct, frozen=True):
    """What one GPU did. Rates a second; None for what was not tried. wrong: rows of the product that were."""

    name: str
    flops: float | None = None
    to: float | None = None
    back: float | None = None
    wrong: int = 0
    same: bool = True
    error: str = ""


class Measured(Struct):
    """One node. Bytes a second; None for what was not tried. links: to the first node, by rank. skipped: what was not tried, and why."""

    node: str
    rank: int
    faults: list[str] = []
    hash: float | None = None
    copy: float | None = None
    links: dict[int, float] = {}
    missing: list[int] = []
    gpus: list[Gpu] = []
    skipped: list[str] = []
    seconds: float = 0.0


class Fault(Struct, frozen=True):
    node: str
    says: str


class Place(Struct, frozen=True):
    """Where this node stands among the job's: `first` is the address of rank 0, which has `port` free; `folder` is one that all see."""

    node: str
    rank: int
    world: int
    first: str
    port: int
    folder: Path


def check(place: Place, gpus: int, python: str, env: Mapping[str, str]) -> list[Measured]:
    """What is found on all nodes of the job, this one's first of all; of those that say nothing in time there is nothing.

    gpus: how many the job has on each node. python: the job's own, for torch; env: its environment. Raises BadNode, on each node for the
    same one, if one is broken.
    """
    until = time.monotonic() + SECONDS
    found = gathered(place, measured(place, gpus, python, env), until)
    for fault in judge(found):
        raise BadNode(f"node {fault.node} {BadNode.SAYS}: {fault.says}", fault.node)
    return found


def gathered(place: Place, own: Measured, until: float) -> list[Measured]:
    """What all nodes found, in the order of ranks, once each has said it or that moment has come."""
    path = place.folder / f"check-{place.rank}.json"
    atomic.write(path, msgspec.json.encode(own))
    found = {place.rank: own}
    while len(found) < place.world and time.monotonic() < until:
        for path in place.folder.glob("check-*.json"):
            each = msgspec.json.decode(path.read_bytes(), type=Measured)
            found.setdefault(each.rank, each)
        time.sleep(0.1 if len(found) < place.world else 0)
    return [found[rank] for rank in sorted(found)]


def measured(place: Place, gpus: int, python: str, env: Mapping[str, str]) -> Measured:
    began = time.monotonic()
    found = Measured(place.node, place.rank)
    log = place.folder / f"check-{place.rank}.log"
    log.unlink(missing_ok=True)
    told = {"cpus": sorted(os.sched_getaffinity(0)), "gpus": gpus, "rank": place.rank, "world": place.world,
            "first": place.first, "port": place.port, "patience": _MEET}  # fmt: skip
    child = process.start([python, exercise.__file__, json.dumps(told)], log=log, env=env, cwd=str(place.folder))
    _within(child, _EXERCISE)
    process.send_group(child.pid, signal.SIGKILL)
    _within(child, 0.5)  # One in the hands of a broken driver does not end by that either.
    understand(log.read_text(errors="replace"), time.monotonic(), found)
    found.faults += room((Path("/tmp"), Path("/dev/shm")))  # noqa: S108 (whether they are full)
    if gpus:
        found.faults += driver(gpus, env.get("CUDA_VISIBLE_DEVICES", ""), lambda argv: process.run(argv, timeout=_ASK))
        found.faults += amd(Path("/sys/class/drm"))
    found.seconds = time.monotonic() - began
    return found


def _within(child: process.Popen[bytes], seconds: float) -> None:
    until = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


def understand(text: str, until: float, found: Measured) -> None:
    """Put what the exercise said into `found`. until: when it ended or was ended, by the clock that it tells the time by."""
    at, since = "", until
    for said in _lines(text):
        at, since = said.get("gpu", at), said.get("at", since)
        found.hash, found.copy = said.get("hash", found.hash), said.get("copy", found.copy)
        found.skipped += [said["skipped"]] if "skipped" in said else []
        found.skipped += [f"the network was not tried: {said['unreached']}"] if "unreached" in said else []
        found.links |= {int(rank): speed for rank, speed in said.get("links", {}).items()}
        found.missing = said.get("missing", found.missing)
        found.gpus += [msgspec.convert(each, Gpu) for each in said.get("gpus", ())]
        found.faults += [f"CPU {cpu} computes wrongly" for cpu in said.get("wrong", ()) if "hash" in said]
        found.faults += ["a copy in its memory was not the same"] if not said.get("same", True) else []
        found.faults += ["what came over its network was not what was sent"] if not said.get("added", True) else []
    if '"done"' not in text and at == exercise.COMPUTES and until - since > _STUCK:
        found.faults.append("its GPUs did not end a product of matrices")
    elif '"done"' not in text:
        found.skipped.append(f"the check came no further than: {at or 'the start'}")
    for number, gpu in enumerate(found.gpus):
        found.faults += [f"GPU {number} ({gpu.name}) {what}" for what in _wrong(gpu)]
        if gpu.error and not re.search(_BROKEN, gpu.error, re.IGNORECASE):
            found.skipped.append(f"GPU {number} ({gpu.name}) was not tried: {gpu.error}")


def _lines(text: str) -> Iterator[dict[str, Any]]:
    """What the exercise said, among what libraries and drivers print."""
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict):
            yield said


def _wrong(gpu: Gpu) -> Iterator[str]:
    if re.search(_BROKEN, gpu.error, re.IGNORECASE):
        yield f"fails: {gpu.error}"
    if gpu.wrong:
        yield f"computes wrongly: {gpu.wrong} rows of a product"
    if not gpu.same:
        yield "gave back other bytes than it got"
    for name, way in (("to", "to"), ("back", "from")):
        rate = getattr(gpu, name)
        if rate is not None and rate < _LEAST[name]:
            yield f"gets {rate / 1e9:.2f} GB/s {way} the host over PCIe"


def room(folders: Sequence[Path]) -> list[str]:
    """Of the folders in which every program expects some."""
    found = []
    for folder in folders:
        if folder.is_dir():
            try:
                usage, files = shutil.disk_usage(folder), os.statvfs(folder)
            except OSError as error:
                found.append(f"{folder} cannot be used: {error.strerror}")
                continue
            full = usage.free < min(_ROOM, usage.total // 2) or (files.f_files and not files.f_favail)
            if full:
                found.append(f"{folder} is full: {usage.free / 2**20:.0f} MiB and {files.f_favail} files are left")
            elif not os.access(folder, os.W_OK):
                found.append(f"{folder} cannot be written to")
    return found


_ALWAYS = ("index", "name", "pci.bus_id", "ecc.errors.uncorrected.volatile.total")
_PROBLEMS = {
    "clocks_throttle_reasons.hw_thermal_slowdown": "is too hot and runs slower",
    "clocks_throttle_reasons.hw_power_brake_slowdown": "runs slower because its power is short",
    "remapped_rows.failure": "has memory that could not be replaced",
    "remapped_rows.pending": "has broken memory that is replaced only by a reset",
}
_FATAL = {48: "uncorrectable memory error", 64: "memory that cannot be replaced", 74: "NVLink error", 79: "it has fallen off the bus",
          95: "uncontained memory error", 119: "its processor does not answer", 120: "its processor failed"}  # fmt: skip
"""Xids after which a GPU needs a reset or a repair (NVIDIA's "XID errors"); those of programs' own errors are not among them."""
_LATELY = 3600.0
_ANSWERED = (0, 14)
"""What nvidia-smi exits with when it has answered; 14: and found a damaged infoROM, with which a GPU computes as well."""


def driver(wanted: int, visible: str, run: Callable[[Sequence[str]], Answer]) -> list[str]:
    """What NVIDIA's driver says of the job's GPUs; nothing where there is none. visible: their ids as CUDA_VISIBLE_DEVICES has them."""
    sliced = "MIG-" in visible  # A part of a GPU has no row of its own.
    chosen = [f"--id={visible}"] if visible and not sliced else []

    def asked(names: Sequence[str]) -> Answer:
        return run(["nvidia-smi", *chosen, f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"])

    first = asked(_ALWAYS)
    if first.code == 127:
        return []
    if first.code not in _ANSWERED:
        lines = " ".join((first.out + first.err).split())
        return [] if first.code == 2 else [f"nvidia-smi fails: {lines[:200] or first.code}"]
    rows = [row for line in first.out.splitlines() if len(row := [field.strip() for field in line.split(",")]) == len(_ALWAYS)]
    found = [f"it has {len(rows)} of {wanted} GPUs"] if len(rows) < wanted and not sliced else []
    for index, name, _, errors in rows:
        found += [f"GPU {index} ({name}) had {errors} uncorrectable memory errors"] if errors.isdigit() and int(errors) else []
    for problem, says in _PROBLEMS.items():  # One by one: a driver that does not know one answers nothing.
        answer = asked(("index", problem))
        told = [line.split(",") for line in answer.out.splitlines()] if answer.code in _ANSWERED else []
        found += [f"GPU {line[0].strip()} {says}" for line in told if line[-1].strip() in ("Active", "Yes", "1")]
    return found + xids(run(["dmesg"]), _uptime(), {row[2].lower()[-12:-2] for row in rows})


def _uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def xids(answer: Answer, up: float, buses: set[str]) -> list[str]:
    """The fatal errors of the last hour on GPUs at these places of the bus (3b:00.0 without its function), where the kernel's log may be read."""
    found = {}
    for moment, bus, number in re.findall(r"^\[ *([\d.]+)\] NVRM: Xid \(PCI:([\da-fA-F:]+)\): (\d+)", answer.out, re.MULTILINE):
        if int(number) in _FATAL and up - float(moment) < _LATELY and (int(number) == 79 or bus.lower()[-10:] in buses):
            found[bus, number] = f"the GPU at {bus} had Xid {number}: {_FATAL[int(number)]}"
    return list(found.values())


def amd(cards: Path) -> list[str]:
    """Uncorrectable errors of AMD's GPUs, as the amdgpu driver counts them for each block ("AMDGPU RAS Support" of the kernel)."""
    found = []
    for path in sorted(cards.glob("card*/device/ras/*_err_count")):
        try:
            errors = re.search(r"^ue: (\d+)", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        if errors and int(errors[1]):
            block = path.name.removesuffix("_err_count")
            found.append(f"{path.parts[-4]} had {errors[1]} uncorrectable errors in its {block}")
    return found


def judge(found: Sequence[Measured]) -> list[Fault]:
    """What is wrong with the nodes of a job: by themselves first, then beside each other."""
    alone = [Fault(each.node, says) for each in found for says in each.faults]
    names = {each.rank: each.node for each in found}
    slow = [Fault(names[rank], f"{what}: {_rate(value)}, and {_rate(typical)} on the others")
            for name, what in (("hash", "its CPUs are slow"), ("copy", "its memory is slow"))
            for rank, value, typical in _behind({each.rank: getattr(each, name) for each in found}, _SLOW[name], _LEAST[name])]  # fmt: skip
    for each in found:
        far = _behind(each.links, _SLOW["links"]) if len(each.links) > 1 else []
        slow += [Fault(names.get(rank, f"of rank {rank}"), f"its network is slow: {_rate(value)}, and {_rate(typical)} on the others")
                 for rank, value, typical in far]  # fmt: skip
        # One that nobody gets through to is the network's own way, or a firewall's.
        slow += [
            Fault(names[rank], f"it does not reach {each.node}, and others do")
            for rank in each.missing
            if each.links and rank in names
        ]
    return [*alone, *slow, *_slow_gpus(found)]


def _slow_gpus(found: Sequence[Measured]) -> Iterator[Fault]:
    for kind in sorted({gpu.name for each in found for gpu in each.gpus}):
        alike = {(each.node, at): gpu for each in found for at, gpu in enumerate(each.gpus) if gpu.name == kind}
        for name, what in (("flops", "is slow"), ("to", "gets its data slowly"), ("back", "gives its data slowly")):
            for (node, at), value, typical in _behind({key: getattr(gpu, name) for key, gpu in alike.items()}, _SLOW_GPU):
                yield Fault(node, f"GPU {at} ({kind}) {what}: {value / typical:.0%} of what others of its kind reach")


def _behind(values: Mapping[K, float | None], share: float, least: float = 0.0) -> list[tuple[K, float, float]]:
    """Those that reach less than this share of what is typical of the others, or less than the least there is; with what is typical."""
    known = {key: value for key, value in values.items() if value is not None}
    found = []
    for key, value in known.items():
        others = [other for each, other in known.items() if each != key]
        typical = median(others) if others else least
        if value < max(least, typical * share):
            found.append((key, value, typical))
    return found


def _rate(bytes_: float) -> str:
    return f"{bytes_ / 1e9:.2f} GB/s"


def interpreter(command: Sequence[str], env: Mapping[str, str], *, is_contained: bool) -> str:
    """The Python of a job, in which torch may be: the one that it starts, or the one that it would find; ours for a job in an image."""
    path = env.get("PATH")
    names = [command[0], "python3", "python"] if Path(command[0]).name.startswith("python") else ["python3", "python"]
    found = None if is_contained else next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    return found or sys.executable


class Report(Struct, frozen=True):
    checked: list[Measured]
    faults: list[Fault]


def read(text: str) -> Report | None:
    """The report in what the first task has printed."""
    lines = [line for line in text.splitlines() if line.startswith('{"checked"')]
    return msgspec.json.decode(lines[-1], type=Report) if lines else None


def main() -> int:
    """As the one task of each node: the first prints what was found everywhere."""
    rank, world, env = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.environ
    place = Place(socket.gethostname(), rank, world, env["MASTER_ADDR"], int(env["MASTER_PORT"]), Path(env["NORIA_JOB_FOLDER"]))
    until = time.monotonic() + SECONDS
    found = measured(place, int(sys.argv[1]), sys.executable, env)
    all_ = gathered(place, found, until)
    if rank == 0:
        print(msgspec.json.encode(Report(all_, judge(all_))).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
