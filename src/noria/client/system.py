"""What the machine does while a run runs: CPU, memory, disk, network and GPUs, under MLflow's names, as metrics of the run.

Read from /proc and /sys: a sample costs about a millisecond. The names and units are MLflow's (`system/...`, megabytes of 1e6
bytes); with several nodes they begin with `system/node_<k>/`, and what the processes of one rank do with `system/rank_<n>/`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from noria.client.gpus import Reader
from noria.wire.spools import Log

PREFIX = "system/"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
_LOOK_AGAIN = 6
"""Samples after which processes of others are looked at anew: their ids are used again."""
_CGROUPS = {"": ("memory.max", "memory.current", "inactive_file"),
            "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}  # fmt: skip


def cpu_times(stat: str, cpus: set[int]) -> tuple[int, int]:
    """Ticks that these CPUs were busy, and all their ticks, from /proc/stat (proc(5))."""
    busy = total = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cpus:
            ticks = [int(field) for field in fields[:8]]  # What guests used is counted as their host's too.
            total += sum(ticks)
            busy += sum(ticks) - ticks[3] - ticks[4]
    return busy, total


def memory(meminfo: str) -> tuple[int, int]:
    """Bytes in use, and all there are, from /proc/meminfo; what the kernel can give back at once is not in use."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines())
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total - available, total


def network(dev: str) -> tuple[int, int]:
    """Bytes received and sent by all interfaces but the loopback, from /proc/net/dev."""
    rows = [line.split(":", 1) for line in dev.splitlines() if ":" in line]
    counts = [fields.split() for name, fields in rows if name.strip() != "lo"]
    return sum(int(row[0]) for row in counts), sum(int(row[8]) for row in counts)


def process(stat: str) -> tuple[int, int, int]:
    """Session, CPU ticks (with those of children that were waited for) and resident bytes, from /proc/PID/stat."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[3]), sum(int(field) for field in fields[11:15]), int(fields[21]) * _PAGE


def limit(cgroups: str, root: Path) -> tuple[Path, tuple[str, str, str]] | None:
    """The control group at `cgroups` (/proc/self/cgroup) or above it whose memory is limited, and its files; None if none is.

    root: where control groups are mounted. Both versions are understood (cgroups(7)).
    """
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        names = _CGROUPS.get("memory" if "memory" in controllers.split(",") else controllers)
        top = root / "memory" if controllers else root
        folder = top / path.lstrip("/")
        for each in (folder, *folder.parents) if names else ():
            text = kernel(each / names[0]).strip() if names else ""
            if names and text.isdigit() and int(text) < 2**60:
                return each, names
            if each == top:
                break
    return None


def kernel(path: Path) -> str:
    """A small file of the kernel's; "" if it is not there, or not for us."""
    try:
        return path.read_text()
    except OSError:
        return ""


class Sampler:
    """Takes samples of this machine, and of the processes that lead `ranks`."""

    def __init__(self, folder: Path, gpus: Reader, ranks: Callable[[], Mapping[int, int]] = dict, node: str = "") -> None:
        """folder: whose disk is looked at. ranks: the process that leads each rank's session, by rank. node: one of several."""
        self._folder, self._gpus, self._ranks = folder, gpus, ranks
        self._prefix = f"{PREFIX}{node}/" if node else PREFIX
        self._cpus = os.sched_getaffinity(0)
        self._limit = limit(kernel(Path("/proc/self/cgroup")), Path("/sys/fs/cgroup"))
        self._others: set[str] = set()
        self._samples = 0
        self._times = cpu_times(kernel(Path("/proc/stat")), self._cpus)
        self._network = self._moved()
        self._seen: dict[int, tuple[float, int]] = {}

    def sample(self) -> dict[str, float]:
        """The values since the last sample; counts of bytes are since the first."""
        values = {**self._cpu(), **self._memory(), **self._disk(), **self._traffic(), **self._gpus()}
        return {f"{self._prefix}{name}": value for name, value in values.items()} | self._of_ranks()

    def _cpu(self) -> dict[str, float]:
        """How busy the CPUs are that we may use: on a machine of one's own all of them, in a job those that it was given."""
        before, self._times = self._times, cpu_times(kernel(Path("/proc/stat")), self._cpus)
        busy, total = (now - then for now, then in zip(self._times, before, strict=True))
        return {"cpu_utilization_percentage": round(100 * busy / total, 1)} if total > 0 else {}

    def _memory(self) -> dict[str, float]:
        """Of the job's control group if its memory is limited, otherwise of the machine."""
        used, total = memory(kernel(Path("/proc/meminfo")))
        if self._limit is not None:
            folder, (most, current, cache) = self._limit
            counts = dict(line.split() for line in kernel(folder / "memory.stat").splitlines())
            used, total = int(kernel(folder / current)) - int(counts.get(cache, 0)), min(int(kernel(folder / most)), total)
        return {
            "system_memory_usage_megabytes": round(used / 1e6, 1),
            "system_memory_usage_percentage": round(100 * used / total, 1),
        }

    def _disk(self) -> dict[str, float]:
        disk = os.statvfs(self._folder)
        used, free = (disk.f_blocks - disk.f_bfree) * disk.f_frsize, disk.f_bavail * disk.f_frsize
        return {
            "disk_usage_percentage": round(100 * used / max(1, used + free), 1),
            "disk_usage_megabytes": round(used / 1e6, 1),
            "disk_available_megabytes": round(free / 1e6, 1),
        }

    def _traffic(self) -> dict[str, float]:
        received, sent = (now - first for now, first in zip(self._moved(), self._network, strict=True))
        return {"network_receive_megabytes": received / 1e6, "network_transmit_megabytes": sent / 1e6}

    @staticmethod
    def _moved() -> tuple[int, int]:
        """Bytes received and sent, those of InfiniBand and RoCE too, which pass the kernel by and count in words of four."""
        received, sent = network(kernel(Path("/proc/net/dev")))
        for counters in Path("/sys/class/infiniband").glob("*/ports/*/counters"):
            received += 4 * int(kernel(counters / "port_rcv_data") or 0)
            sent += 4 * int(kernel(counters / "port_xmit_data") or 0)
        return received, sent

    def _of_ranks(self) -> dict[str, float]:
        """What all processes of a rank's session use: the task, and what it started."""
        leaders = {pid: rank for rank, pid in self._ranks().items()}
        if not leaders:
            return {}
        totals = {rank: [0, 0, 0, 0] for rank in leaders.values()}
        for pid, (session, ticks, resident) in self._processes(set(leaders)):
            read, written = _moved(kernel(Path(f"/proc/{pid}/io")))
            mine = totals[leaders[session]]
            for index, value in enumerate((ticks, resident, read, written)):
                mine[index] += value
        now, values = time.monotonic(), {}
        for rank, (ticks, resident, read, written) in totals.items():
            prefix = f"{PREFIX}rank_{rank}/"
            before, then = self._seen.get(rank, (now, ticks))
            self._seen[rank] = (now, ticks)
            if now > before and ticks >= then:  # A task that was started again counts from the next sample on.
                values[f"{prefix}cpu_utilization_percentage"] = round(100 * (ticks - then) / _TICK / (now - before), 1)
            values |= {
                f"{prefix}memory_usage_megabytes": round(resident / 1e6, 1),
                f"{prefix}disk_read_megabytes": read / 1e6,
                f"{prefix}disk_write_megabytes": written / 1e6,
            }
        return values

    def _processes(self, sessions: set[int]) -> list[tuple[str, tuple[int, int, int]]]:
        """The processes of these sessions. Those of others are remembered: on a large node they are many."""
        self._samples += 1
        if self._samples % _LOOK_AGAIN == 0:
            self._others.clear()
        there = {name for name in os.listdir("/proc") if name.isdigit()}
        self._others &= there
        found = []
        for pid in there - self._others:
            stat = kernel(Path(f"/proc/{pid}/stat"))
            if stat and (known := process(stat))[0] in sessions:
                found.append((pid, known))
            else:
                self._others.add(pid)
        return found


def _moved(io: str) -> tuple[int, int]:
    """Bytes read from and written to disks, from /proc/PID/io."""
    fields = dict(line.split(": ") for line in io.splitlines())
    return int(fields.get("read_bytes", 0)), int(fields.get("write_bytes", 0))


class Recorder:
    """A thread that takes a sample every `interval` seconds and hands it over as a record, until it is stopped.

    The step of a sample counts the intervals since the run began, so that a job that is started again goes on counting.
    """

    def __init__(self, sampler: Sampler, append: Callable[[Log], None], interval: float, since: float) -> None:
        """since: when the run began, in seconds since 1970."""
        self._sampler, self._append, self._interval, self._since = sampler, append, interval, since
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._forever, name="noria-system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No sample is handed over after this. One that hangs, as on a dead network file system, is not waited for."""
        self._stop.set()
        self._thread.join(1.0)

    def _forever(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                values, now = self._sampler.sample(), time.time()
                if not self._stop.is_set():
                    self._append(Log(max(0, int((now - self._since) // self._interval)), now, values))
            except (OSError, ValueError, KeyError, IndexError):
                pass  # A file that is gone or other than expected costs a sample, not the run.
