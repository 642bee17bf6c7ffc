"""Whether nodes are sound: what is tried here, what drivers would say, and what is said of nodes beside each other."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from noria.hardware import exercise
from noria.hardware.nodecheck import (
    SECONDS,
    Fault,
    Gpu,
    Measured,
    Place,
    amd,
    check,
    driver,
    interpreter,
    judge,
    room,
    understand,
    xids,
)
from noria.process import Answer
from tests.conftest import require

Noria = Callable[..., subprocess.CompletedProcess[str]]


def test_tasks_of_this_machine_are_checked(noria: Noria) -> None:
    done = noria("cluster", "check", "--nodes", "2", "--json", check=False)
    report = json.loads(done.stdout)
    assert (done.returncode, report["faults"]) == (0, []), report
    first, second = report["checked"]
    assert all(each["hash"] > 20e6 and each["copy"] > 0.3e9 and each["seconds"] < 10 for each in (first, second))
    assert list(first["links"]) == ["1"] and first["links"]["1"] > 1e6 and first["skipped"] == second["skipped"] == []


def test_a_machine_that_computes_wrongly_is_named(noria: Noria, tmp_path: Path) -> None:
    lie = "import hashlib, os\nif 'NORIA_JOB_FOLDER' in os.environ: hashlib.sha256 = hashlib.sha1\n"
    (tmp_path / "sitecustomize.py").write_text(lie)
    done = noria("cluster", "check", check=False, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and f"! {socket.gethostname()}: CPU " in done.stdout and "computes wrongly\n" in done.stdout


def test_the_exercise_needs_nothing_but_python(tmp_path: Path) -> None:
    told = {"cpus": [0], "gpus": 0, "rank": 0, "world": 1, "first": "", "port": 0, "patience": 0}
    argv = [sys.executable, "-I", "-S", exercise.__file__, json.dumps(told)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["wrong"] == [] and lines[1]["same"] is True and lines[-1] == {"done": True}


def test_the_product_is_known_in_every_kind_of_float() -> None:
    torch = pytest.importorskip("torch")
    one, two, sums = exercise.matrices(torch, 512)
    assert exercise.wrong_rows(one, two, sums) == 0 and one.max() == two.max() == 7
    assert int(((one.bfloat16().double() @ two.bfloat16().double()).sum(1).long() != sums).sum()) == 0
    one[3, 5] += 1
    assert exercise.wrong_rows(one, two, sums) == 1


def said(*lines: dict[str, object], until: float = 100.0) -> Measured:
    found = Measured("n1", 0)
    understand("{a warning}\n[1]\n" + "".join(f"{json.dumps(line)}\n" for line in lines), until, found)
    return found


H200: dict[str, object] = {"name": "H200", "flops": 5e13, "to": 2e10, "back": 2e10, "wrong": 0, "same": True}
DONE: dict[str, object] = {"done": True}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"hash": 1e9, "wrong": [3]}, "CPU 3 computes wrongly"),
        ({"copy": 1e9, "same": False}, "a copy in its memory was not the same"),
        ({"added": False}, "what came over its network was not what was sent"),
        ({"gpus": [{**H200, "wrong": 2}]}, "GPU 0 (H200) computes wrongly: 2 rows of a product"),
        ({"gpus": [H200, {**H200, "same": False}]}, "GPU 1 (H200) gave back other bytes than it got"),
        ({"gpus": [{**H200, "to": 9e8}]}, "GPU 0 (H200) gets 0.90 GB/s to the host over PCIe"),
        ({"gpus": [{"name": "H200", "error": "CUDA error: uncorrectable ECC error encountered"}]},
         "GPU 0 (H200) fails: CUDA error: uncorrectable ECC error encountered"),
    ],
)  # fmt: skip
def test_what_is_wrong_by_itself(line: dict[str, object], fault: str) -> None:
    found = said(line, DONE)
    assert found.faults == [fault] and judge([found]) == [Fault("n1", fault)]


def test_what_cannot_be_tried_is_no_fault() -> None:
    new = {"name": "B300", "error": "CUDA error: no kernel image is available for execution on the device"}
    assert said({"gpus": [new]}, DONE).faults == [] and "no kernel image" in said({"gpus": [new]}, DONE).skipped[0]
    assert said({"skipped": "GPUs were not tried: torch sees none"}, DONE).faults == []
    assert said({"hash": 1e9, "wrong": []}, {"gpu": "CUDA starts"}).skipped == ["the check came no further than: CUDA starts"]
    assert said({"unreached": "Connection refused"}, DONE).skipped == ["the network was not tried: Connection refused"]


def test_gpus_that_hang_are_a_fault_and_a_late_start_is_none() -> None:
    computes: dict[str, object] = {"gpu": exercise.COMPUTES, "at": 94.0}
    assert said(computes).faults == ["its GPUs did not end a product of matrices"]
    assert said(computes, until=96.0).faults == []


def node(rank: int, hash: float = 1e9, copy: float = 5e9, flops: Sequence[float] = (), **more: Any) -> Measured:
    gpus = [Gpu("H200", each, 2e10, 2e10) for each in flops]
    return Measured(f"n{rank}", rank, hash=hash, copy=copy, gpus=gpus, **more)


def test_nodes_are_compared_with_each_other() -> None:
    assert judge([node(0), node(1, 0.6e9), node(2, 1.2e9, 3e9)]) == []
    assert judge([node(0), node(1, 0.2e9), node(2)]) == [Fault("n1", "its CPUs are slow: 0.20 GB/s, and 1.00 GB/s on the others")]
    assert judge([node(0), node(1, copy=0.9e9)]) == [Fault("n1", "its memory is slow: 0.90 GB/s, and 5.00 GB/s on the others")]
    (throttled,) = judge([node(0, flops=(5e13, 5.1e13)), node(1, flops=(5e13, 2e13))])
    assert throttled == Fault("n1", "GPU 1 (H200) is slow: 40% of what others of its kind reach")
    other = replace(node(1), gpus=[Gpu("T4", 4e12, 1e10, 1e10)])
    assert judge([node(0, flops=(5e13,)), other]) == [], "another kind of GPU is no slow one"
    assert judge([node(0, 1e6)]) == [Fault("n0", "its CPUs are slow: 0.00 GB/s, and 0.02 GB/s on the others")]


def test_links_are_compared_and_a_network_that_nobody_gets_through_is_not() -> None:
    links = {1: 1e9, 2: 0.9e9, 3: 0.05e9}
    assert [each.node for each in judge([node(0, links=links), node(1), node(2), node(3)])] == ["n3"]
    assert judge([node(0, links={1: 1e6}), node(1)]) == []
    assert judge([node(0, links={1: 1e9}, missing=[2]), node(1), node(2)]) == [Fault("n2", "it does not reach n0, and others do")]
    assert judge([node(0, missing=[1, 2]), node(1), node(2)]) == []
    assert judge([node(0, links={1: 1e9}, missing=[2]), node(1)]) == [], "nor one that has not begun"


def smi(*rows: str, code: int = 0, **problems: str) -> Callable[[Sequence[str]], Answer]:
    """nvidia-smi as its documentation has it, of a driver that knows only these problems."""

    def run(argv: Sequence[str]) -> Answer:
        if argv[0] == "dmesg":
            return Answer(1, "", "dmesg: read kernel buffer failed: Operation not permitted")
        asked = next(word for word in argv if word.startswith("--query-gpu")).partition("=")[2]
        if asked.startswith("index,name"):
            return Answer(code, "".join(f"{row}\n" for row in rows), "")
        name = asked.partition(",")[2].replace(".", "_")
        return (
            Answer(0, problems[name], "")
            if name in problems
            else Answer(2, f'Field "{asked}" is not a valid field to query.', "")
        )

    return run


GOOD = "0, NVIDIA H200, 00000000:3B:00.0, 0"


def test_what_a_driver_says() -> None:
    assert driver(1, "0", smi(GOOD)) == [] and driver(4, "", lambda _: Answer(127, "", "nvidia-smi: No such file")) == []
    assert driver(2, "", smi(GOOD)) == ["it has 1 of 2 GPUs"]
    assert driver(1, "", smi("0, NVIDIA H200, 00000000:3B:00.0, 4")) == ["GPU 0 (NVIDIA H200) had 4 uncorrectable memory errors"]
    assert driver(1, "", smi("0, Tesla T4, 00000000:3B:00.0, [N/A]")) == []
    warning = "WARNING: infoROM is corrupted at gpu 0000:3B:00.0"
    assert driver(1, "", smi(warning, GOOD)) == driver(1, "", smi(GOOD, warning, code=14)) == []
    assert driver(1, "", smi("No devices were found")) == ["it has 0 of 1 GPUs"]
    assert driver(2, "MIG-5c1a,MIG-77f0", smi(GOOD)) == []
    hot = smi(
        GOOD,
        clocks_throttle_reasons_hw_thermal_slowdown="0, Active\n",
        remapped_rows_failure="0, No\n",
        remapped_rows_pending="0, [N/A]\n",
    )
    assert driver(1, "", hot) == ["GPU 0 is too hot and runs slower"]
    assert driver(1, "", smi("Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error", code=15)) == [
        "nvidia-smi fails: Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error"
    ]


def test_fatal_xids_of_the_last_hour_on_the_jobs_own_gpus() -> None:
    log = """[  100.000000] NVRM: Xid (PCI:0000:3b:00): 48, pid=1, DBE
[ 9000.100000] NVRM: Xid (PCI:0000:3b:00): 31, pid=1234, name=python, Ch 00000008, MMU Fault
[ 9100.200000] NVRM: Xid (PCI:0000:5e:00): 48, pid='<unknown>', name=<unknown>
[ 9200.300000] NVRM: Xid (PCI:0000:af:00): 79, pid='<unknown>', GPU has fallen off the bus.
[ 9300.300000] NVRM: Xid (PCI:0000:3b:00): 48, pid=1, DBE
"""
    found = xids(Answer(0, log, ""), 9400.0, {"0000:3b:00"})
    assert found == [
        "the GPU at 0000:af:00 had Xid 79: it has fallen off the bus",
        "the GPU at 0000:3b:00 had Xid 48: uncorrectable memory error",
    ]
    assert driver(1, "", smi(GOOD)) == []


def test_what_amdgpu_counts(tmp_path: Path) -> None:
    for block, errors in (("umc", 2), ("gfx", 0)):
        path = tmp_path / "card1/device/ras" / f"{block}_err_count"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"ue: {errors}\nce: 7\n")
    assert amd(tmp_path) == ["card1 had 2 uncorrectable errors in its umc"] and amd(tmp_path / "nothing") == []


def test_room(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=1777", "tmpfs", folder]
    require("tmpfs", subprocess.run(mount, capture_output=True).returncode == 0, "run as root, where tmpfs can be mounted")
    try:
        assert room([folder, tmp_path / "not there"]) == []
        (folder / "left behind").write_bytes(bytes(7 << 20))
        (full,) = room([folder])
        assert full.startswith(f"{folder} is full: 1 MiB and ")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_the_python_of_the_job_is_the_one_that_has_torch(tmp_path: Path) -> None:
    for name in ("python3", "python3.13"):
        (tmp_path / name).touch(mode=0o755)
    env = {"PATH": str(tmp_path)}
    assert interpreter(["python3.13", "train.py"], env, is_contained=False) == str(tmp_path / "python3.13")
    assert interpreter(["torchrun", "train.py"], env, is_contained=False) == str(tmp_path / "python3")
    assert interpreter(["python3", "train.py"], env, is_contained=True) == sys.executable
    assert interpreter(["./train.sh"], {"PATH": ""}, is_contained=False) == sys.executable


@pytest.mark.slow
def test_a_check_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    stuck = tmp_path / "python3"
    stuck.write_text("#!/bin/sh\nexec sleep 100\n")
    stuck.chmod(0o755)
    began = time.monotonic()
    (found,) = check(Place("n1", 0, 1, "127.0.0.1", 0, tmp_path), 0, str(stuck), {"PATH": "/usr/bin:/bin"})
    assert time.monotonic() - began < SECONDS and found.skipped == ["the check came no further than: the start"]
