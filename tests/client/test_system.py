"""System metrics: what the kernel's files say, and what it costs to read them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noria.client import gpus, system
from noria.client.gpus import Reading
from noria.client.system import Sampler
from noria.wire import runs, spools
from noria.wire.spools import Log
from tests.client.test_spool import script, written
from tests.conftest import Running

STAT = """cpu  577820 10824 85155 1691782 7225 0 2472 3430 0 0
cpu0 224491 2293 35453 922182 1788 0 624 1710 0 0
cpu1 353328 8531 49702 769599 5436 0 1848 1719 0 0
cpu10 1 1 1 1 1 1 1 1 0 0
intr 1 2 3
"""
MEMINFO = "MemTotal:       24684092 kB\nMemFree:        23279352 kB\nMemAvailable:   24159092 kB\nBuffers: 12260 kB\n"
DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 10293490240 1452214    0    0    0     0          0         0 10293490240 1452214    0    0    0     0       0          0
  eth0: 3907807437  100533    0    0    0     0          0         0  6519757   59856    0    0    0     0       0          0
v-sge1: 1215659    6272    0    0    0     0          0         0   540409    4374    0    0    0     0       0          0
"""
PROCESS = (
    "24988 (a) b (c) R 24985 24985 21091 0 -1 4194304 103 0 0 0 70 30 5 1 20 0 1 0 1193455 3133440 388 18446744073709551615 1 2"
)


def test_the_kernels_files() -> None:
    assert system.cpu_times(STAT, {0}) == (224491 + 2293 + 35453 + 624 + 1710, 224491 + 2293 + 35453 + 922182 + 1788 + 624 + 1710)
    assert system.cpu_times(STAT, {0, 1})[1] == sum(system.cpu_times(STAT, {cpu})[1] for cpu in (0, 1))
    assert system.memory(MEMINFO) == ((24684092 - 24159092) * 1024, 24684092 * 1024)
    assert system.network(DEV) == (3907807437 + 1215659, 6519757 + 540409)
    assert system.process(PROCESS) == (21091, 106, 388 * os.sysconf("SC_PAGE_SIZE"))


@pytest.mark.parametrize(
    ("cgroups", "top", "most"),
    [("0::/system.slice/job_7/step_0\n", "", "memory.max"), ("9:name=systemd:/\n4:cpu,memory:/job_7/step_0\n", "memory", "memory.limit_in_bytes")],
)  # fmt: skip
def test_the_memory_limit_of_a_job_is_found_above_its_step(tmp_path: Path, cgroups: str, top: str, most: str) -> None:
    step = tmp_path / top / cgroups.strip().rpartition(":/")[2]
    step.mkdir(parents=True)
    for folder, limit in ((step, "max" if not top else str(2**63 - 4096)), (step.parent, "1073741824")):
        (folder / most).write_text(f"{limit}\n")
    found = system.limit(cgroups, tmp_path)
    assert found is not None and found[0] == step.parent and found[1][0] == most
    assert system.limit("0::/elsewhere\n", tmp_path) is None and system.limit("", tmp_path) is None


def test_gpus_under_mlflows_names() -> None:
    full = Reading(97.0, 71_000_000_000, 85_000_000_000, 612.25, 700.0, 64.0)
    assert gpus.named(0, full) == {
        "gpu_0_utilization_percentage": 97.0, "gpu_0_memory_usage_megabytes": 71_000.0, "gpu_0_memory_usage_percentage": 83.5,
        "gpu_0_power_usage_watts": 612.2, "gpu_0_power_usage_percentage": 87.5, "gpu_0_temperature_celsius": 64.0,
    }  # fmt: skip
    assert gpus.named(3, Reading(utilization=0.0)) == {"gpu_3_utilization_percentage": 0.0}
    said = gpus.amd(
        {"gfx_activity": 88, "umc_activity": 20, "mm_activity": "N/A"}, {"vram_total": 65520, "vram_used": 10_000},
        {"current_socket_power": "N/A", "average_socket_power": 301, "power_limit": 500_000_000}, 55.0)  # fmt: skip
    assert said == Reading(88.0, 10_000 * 2**20, 65520 * 2**20, 301.0, None, 55.0)
    assert gpus.named(0, gpus.amd(None, None, {"current_socket_power": "N/A"}, None)) == {}


def test_without_a_gpu_nothing_is_said() -> None:
    code = (
        "import sys\nsys.modules['pynvml'] = sys.modules['amdsmi'] = None\nfrom noria.client import gpus\nprint(gpus.reader()())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "{}\n"
    assert gpus.reader([])() == {}


def test_a_busy_process_shows(tmp_path: Path) -> None:
    code = "import os\nkeep = bytearray(50_000_000)\nif not os.fork():\n    while True: pass\nos.wait()"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        sampler = Sampler(tmp_path, dict, lambda: {4: child.pid})
        sampler.sample()
        time.sleep(1.0)
        found = sampler.sample()
    finally:
        os.killpg(child.pid, 9)
        child.wait()
    assert 20 < found["system/rank_4/cpu_utilization_percentage"] < 130
    assert 50 < found["system/rank_4/memory_usage_megabytes"] < 500
    assert 10 < found["system/cpu_utilization_percentage"] <= 100
    assert 0 < found["system/system_memory_usage_percentage"] < 100 and 0 < found["system/disk_usage_percentage"] <= 100
    assert found["system/network_receive_megabytes"] >= 0


def test_a_sample_costs_a_thousandth_of_its_interval(tmp_path: Path) -> None:
    """At most 0.5 % of a core was asked for; that would be 50 ms for each sample of an interval of 10 s."""
    sampler = Sampler(tmp_path, gpus.reader(), lambda: {0: os.getsid(0)})
    sampler.sample()
    before = time.thread_time()
    for _ in range(20):
        sampler.sample()
    each = (time.thread_time() - before) / 20
    print(f"{each * 1e3:.2f} ms of CPU a sample")
    assert each < 0.010


def test_a_script_asks_for_them(server: Running, tmp_path: Path) -> None:
    body = "import noria, time\nnoria.start_run(system_metrics=True)\nnoria.log(loss=0.5, step=100)\ntime.sleep(0.6)\nnoria.rewind(1)"
    assert script(body, tmp_path, NORIA_SYSTEM_METRICS_INTERVAL="0.1").stderr == ""
    samples = [record for record in written(tmp_path) if isinstance(record, Log) and "loss" not in record.metrics]
    assert len(samples) >= 3 and [each.step for each in samples] == sorted({each.step for each in samples})
    assert all(key.startswith("system/") for each in samples for key in each.metrics)


@pytest.mark.parametrize("interval", ["0", "10"])
def test_none_are_taken_before_the_first_interval_or_at_all(tmp_path: Path, interval: str) -> None:
    assert (
        script("import noria\nnoria.start_run(system_metrics=True)", tmp_path, NORIA_SYSTEM_METRICS_INTERVAL=interval).stderr
        == ""
    )
    assert len(written(tmp_path)) == 3


def test_time_is_not_rewound(server: Running) -> None:
    """A run that goes on from a checkpoint keeps what its machine did before."""
    run_id, spool_id = "c" * 32, "d" * 32
    records = [
        spools.Header(spools.FORMAT, spool_id, run_id, "", 0, 0, "", 0, "", 1),
        Log(5, 1e9, {"loss": 0.5, "system/cpu_utilization_percentage": 50.0}),
        spools.Rewind(2),
        Log(2, 1e9 + 1, {"loss": 0.25}),
    ]
    frames = b"".join(map(spools.frame, records))
    server.client.call(spools.SHIP, spools.Ship(spool_id, 0, frames))
    curves = {
        key: server.client.call(runs.CURVE, runs.Curve(run_id, key)).steps
        for key in ("loss", "system/cpu_utilization_percentage")
    }
    assert curves == {"loss": [2], "system/cpu_utilization_percentage": [5]}
