"""Why tries end, from what is handed in: the texts are what libraries and schedulers print, shortened."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from msgspec import structs

from noria.jobs.dialect import Seen
from noria.jobs.folder import Exit, Node, Rank
from noria.jobs.why.death import Death, Diagnosis
from noria.jobs.why.failed import diagnose
from noria.types import Job, JobSpec

_FRAME = '  File "train.py", line 7, in <module>\n    train()\n'


def raised(message: str) -> str:
    return f"step 10 loss 0.3\nTraceback (most recent call last):\n{_FRAME}{message}\n"


def death(
    *ends: tuple[int, str], nodes: int = 1, at: tuple[int, ...] = (), gpus: int = 0, mem: int = 0, time: int = 0, **known: Any
) -> Death:
    """A try whose ranks ended with these codes and logs, one on each node where there are several."""
    spec = JobSpec(["python"], nodes=nodes, tasks_per_node=len(ends) // nodes, gpus=gpus, mem=mem, time=time)
    job = Job("j", "r", spec, "RUNNING", "ada", 0)
    times = at or tuple(1000 + 10 * i for i in range(len(ends)))
    ranks = [Rank(i, 1, 0, times[i], code) for i, (code, _) in enumerate(ends)]
    hosts = [Node(i, f"n{i + 1}", 1, 0, ranks[i::nodes] if nodes > 1 else ranks) for i in range(nodes)]
    first = min((rank for rank in ranks if rank.code), key=lambda rank: rank.ended or 0, default=None)
    exit = Exit(first.code or 0, first.ended or 0, 1, first.rank) if first else None
    logs = {i: text for i, (_, text) in enumerate(ends)}
    return structs.replace(Death(job=job, exit=exit, logs=logs, nodes=hosts), **known)


ONE = {
    "python memory": ("out_of_memory", 1, raised("MemoryError")),
    "numpy": ("out_of_memory", 1, raised("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array with shape (1000000, 1000000)")),
    "bad_alloc": ("out_of_memory", 134, "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nAborted (core dumped)\n"),
    "torch cpu": ("out_of_memory", 1, raised("RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 400000000000 bytes. Error code 12 (Cannot allocate memory)")),
    "fork": ("out_of_memory", 1, raised("OSError: [Errno 12] Cannot allocate memory")),
    "kernel": ("out_of_memory", 137, "[12.3] Memory cgroup out of memory: Killed process 123 (python) total-vm:1kB\n"),
    "worker": ("out_of_memory", 1, raised("RuntimeError: DataLoader worker (pid 4321) is killed by signal: Killed. ")),
    "slurm oom": ("out_of_memory", 137, "slurmstepd: error: Detected 1 oom_kill event in StepId=4.batch. Some of the step tasks have been OOM Killed.\n"),
    "torch cuda": ("gpu_memory", 1, raised("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.15 GiB of which 8.00 MiB is free.")),
    "cublas": ("gpu_memory", 1, raised("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    "tensorflow": ("gpu_memory", 1, raised("tensorflow.python.framework.errors_impl.ResourceExhaustedError: Graph execution error:\n\nOOM when allocating tensor with shape[64,512,512] on /job:localhost/device:GPU:0")),
    "jax": ("gpu_memory", 1, raised("jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 85899345920 bytes.")),
    "nccl memory": ("gpu_memory", 1, raised("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1691, unhandled cuda error\nncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'")),
    "shm": ("disk_full", 1, "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).\n" + raised("RuntimeError: DataLoader worker (pid(s) 12) exited unexpectedly")),
    "disk": ("disk_full", 1, raised("OSError: [Errno 28] No space left on device: '/scratch/x'")),
    "quota": ("disk_full", 1, raised("OSError: [Errno 122] Disk quota exceeded: '/home/ada/x'")),
    "torch.save": ("disk_full", 1, raised("RuntimeError: [enforce fail at inline_container.cc:603] . unexpected pos 1472 vs 1366")),
    "shell disk": ("disk_full", 1, "cp: error writing 'big': No space left on device\n"),
    "ecc": ("bad_node", 1, raised("RuntimeError: CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported")),
    "xid": ("bad_node", 1, "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.\n" + raised("RuntimeError: CUDA error: unspecified launch failure")),
    "stale": ("bad_node", 1, raised("OSError: [Errno 116] Stale file handle: '/data/x'")),
    "io": ("bad_node", 1, raised("OSError: [Errno 5] Input/output error")),
    "fabric": ("bad_node", 1, raised("RuntimeError: CUDA error: system not yet initialized")),
    "licence": ("licence", 1, "License checkout failed.\nLicense Manager Error -4\nMaximum number of users for Toolbox reached. Try again later.\n"),
    "flex": ("licence", 1, "Licensed number of users already reached. (-4,342)\nFLEXnet Licensing error:-4,342\n"),
    "port": ("communication", 1, raised("torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use")),
    "dns": ("communication", 1, raised("socket.gaierror: [Errno -3] Temporary failure in name resolution")),
    "module": ("missing_module", 1, raised("ModuleNotFoundError: No module named 'apex'")),
    "shadowed": ("user_error", 1, raised("AttributeError: partially initialized module 'torch' has no attribute 'zeros' (most likely due to a circular import)")),
    "shadowed name": ("user_error", 1, raised("ImportError: cannot import name 'Tensor' from partially initialized module 'torch' (most likely due to a circular import) (/x/torch.py)")),
    "python -m": ("missing_module", 1, "/usr/bin/python: No module named train\n"),
    "library": ("missing_module", 127, "./solver: error while loading shared libraries: libmkl_rt.so.2: cannot open shared object file: No such file or directory\n"),
    "import": ("missing_module", 1, raised("ImportError: libcudart.so.11.0: cannot open shared object file: No such file or directory")),
    "lmod": ("missing_module", 1, 'Lmod has detected the following error: The following module(s) are unknown: "cuda/99.9"\n'),
    "file": ("missing_file", 1, raised("FileNotFoundError: [Errno 2] No such file or directory: '/data/train.csv'")),
    "script": ("missing_file", 2, "python: can't open file '/home/ada/trian.py': [Errno 2] No such file or directory\n"),
    "command": ("missing_file", 127, "train.sh: line 3: nvidai-smi: command not found\n"),
    "syntax": ("user_error", 1, '  File "train.py", line 3\n    for x in y\n              ^\nSyntaxError: expected \':\'\n'),
    "value": ("user_error", 1, raised("ValueError: Expected input batch_size (32) to match target batch_size (31).")),
    "shapes": ("user_error", 1, raised("RuntimeError: mat1 and mat2 shapes cannot be multiplied (32x10 and 20x5)")),
    "own words": ("user_error", 1, raised("ValueError: the connection timed out, or no space left on device")),
    "assert": ("user_error", 1, raised("AssertionError")),
    "arguments": ("user_error", 2, "usage: train.py [-h]\ntrain.py: error: unrecognized arguments: --lr\n"),
    "device assert": ("user_error", 1, raised("RuntimeError: CUDA error: device-side assert triggered")),
    "nan": ("user_error", 3, "step 4\nloss is nan, stopping\n"),
    "permission": ("user_error", 1, raised("PermissionError: [Errno 13] Permission denied: '/root/x'")),
    "segfault": ("user_error", 139, "step 3\n"),
    "abort": ("user_error", 134, "train: loader.c:12: next: Assertion `n > 0' failed.\n"),
    "rust": ("user_error", 101, "thread 'main' panicked at src/main.rs:2:5:\nindex out of bounds\n"),
    "survived": ("user_error", 1, "WARNING: No module named 'apex', falling back\nConnection reset by peer, retrying\n" + raised("KeyError: 'lr'")),
    "survived long ago": ("killed", 137, raised("OSError: [Errno 5] Input/output error") + "step 3 loss 0.1\n" * 40),
    "tensorflow's noise": ("unknown", 3, "2026-01-01 10:00:00.123: W tsl/cuda.cc:64] Could not load dynamic library 'libnvinfer.so.7'; dlerror: libnvinfer.so.7: cannot open shared object file\n2026-01-01 10:00:00.1: E cuda_driver.cc:152] failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected\nstep 3\n"),
    "a tracker that it did not reach": ("user_error", 1, "wandb: ERROR Error communicating with the server: Connection refused\n" + raised("RuntimeError: something of its own")),
    "a cache that was full": ("user_error", 1, "could not write the cache: No space left on device\n" + raised("RuntimeError: mat1 and mat2 shapes cannot be multiplied (32x10 and 20x5)")),
    "old keras": ("user_error", 1, raised("ValueError: Argument(s) not recognized: {'lr': 0.0002}")),
    "older keras": ("user_error", 1, raised("TypeError: TensorFlowTrainer.fit() got an unexpected keyword argument 'nb_epoch'")),
    "never there": ("user_error", 1, raised("ModuleNotFoundError: No module named 'sklearn.linear_regression'")),
    "gave up": ("user_error", 3, "step 3\nbad learning rate: -1\n"),
    "no gpu": ("user_error", 1, raised("RuntimeError: No CUDA GPUs are available")),
    "silence": ("unknown", 7, "step 3 loss 0.2\n"),
    "empty": ("unknown", 1, ""),
    "kill": ("killed", 137, "step 3\n"),
    "term": ("killed", 143, "step 3\n"),
    "wrapped": ("missing_file", 1, raised("FileNotFoundError: [Errno 2] No such file or directory: 'a.pt'") + "\nDuring handling of the above exception, another exception occurred:\n\n" + raised("RuntimeError: cannot load the checkpoint")),
    "remote": ("out_of_memory", 1, 'multiprocessing.pool.RemoteTraceback: \n"""\n' + raised("MemoryError") + '"""\n\nThe above exception was the direct cause of the following exception:\n\n' + raised("MemoryError")),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_what_one_task_says(name: str) -> None:
    cause, code, text = ONE[name]
    found = diagnose(death((code, text)))
    assert (found.cause, found.rank, found.host) == (cause, 0, "n1"), found
    assert found.reason and found.cure and found.evidence


def test_a_torch_without_cuda_is_no_broken_node() -> None:
    text = "RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False."
    assert diagnose(death((1, raised(text)), gpus=1)).cause == "user_error"
    assert diagnose(death((1, raised("RuntimeError: No CUDA GPUs are available")), gpus=1)).cause == "bad_node"


def test_a_task_alone_has_lost_no_other_rank() -> None:
    for text in ("ConnectionResetError: [Errno 104] Connection reset by peer", "BrokenPipeError: [Errno 32] Broken pipe"):
        alone, among = diagnose(death((1, raised(text)))), diagnose(death((1, raised(text)), (1, raised(text))))
        assert alone.cause == among.cause == "communication"
        assert "another program or a server" in alone.reason and "lost another rank" in among.reason


def test_what_was_written_for_other_releases_says_what_to_write() -> None:
    words = {"old keras": "TF_USE_LEGACY_KERAS=1", "older keras": "epochs=", "never there": "sklearn.linear_model"}
    for name, word in words.items():
        assert word in diagnose(death((1, ONE[name][2]))).cure


STARTERS = {
    "Open MPI": ("killed", "Rank 2 of mpirun on n7", "mpirun noticed that process rank 2 with PID 0 on node n7 exited on signal 9 (Killed).\n"),
    "Open MPI's codes": ("user_error", "Rank 1 of mpirun", "Error: bad input\n---\nmpirun detected that one or more processes exited with non-zero status, thus causing\nthe job to be terminated. The first process to do so was:\n\n  Process name: [[27249,1],1]\n  Exit code:    3\n---\n"),
    "MPICH": ("user_error", "Rank 3 of mpiexec on n2", "=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n=   RANK 3 PID 55 RUNNING AT n2\n=   KILLED BY SIGNAL: 11 (Segmentation fault)\n"),
    "torchrun": ("killed", "Rank 5 of torchrun on n3", "E0325 api.py:869] failed (exitcode: -9) local_rank: 1 (pid: 2630) of binary: python\n" + raised("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\ntest.py FAILED\n----\nFailures:\n  <NO_OTHER_FAILURES>\n----\nRoot Cause (first observed failure):\n[0]:\n  time      : 2026-03-25_20:57:27\n  host      : n3\n  rank      : 5 (local_rank: 1)\n  exitcode  : -9 (pid: 2630)\n")),
    "torchrun, with a traceback": ("missing_module", "no module apex", "[rank1]: " + raised("ModuleNotFoundError: No module named 'apex'").replace("\n", "\n[rank1]: ") + "\n" + raised("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \nRoot Cause (first observed failure):\n[0]:\n  host : n3\n  rank : 1 (local_rank: 1)\n  exitcode : 1 (pid: 2630)\n")),
    "srun": ("user_error", "Rank 4 of srun on n2", "srun: error: n2: task 4: Segmentation fault (core dumped)\nsrun: Terminating job step 7.0\n"),
    "multiprocessing": ("killed", "Something killed", raised("torch.multiprocessing.spawn.ProcessExitedException: process 1 terminated with signal SIGKILL")),
}  # fmt: skip


@pytest.mark.parametrize("name", STARTERS)
def test_what_starters_say_of_what_they_started(name: str) -> None:
    cause, says, text = STARTERS[name]
    found = diagnose(death((1, text)))
    assert (found.cause, found.rank) == (cause, 0) and says in found.reason, found


def test_mpis_ranks_are_the_jobs_own() -> None:
    known = death(
        (9, "mpirun noticed that process rank 3 with PID 0 on node n2 exited on signal 9 (Killed).\n"), (0, ""), nodes=2
    )
    spec = structs.replace(known.job.spec, tasks_per_node=2)
    known.nodes[1].ranks.clear()
    found = diagnose(structs.replace(known, job=structs.replace(known.job, spec=spec)))
    assert (found.cause, found.rank, found.host) == ("killed", 3, "n2")


PEER = raised("RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:3")
WATCHDOG = "[rank0]:[E ProcessGroupNCCL.cpp:616] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4, OpType=ALLREDUCE) ran for 600045 milliseconds before timing out.\n"
REMOTE = "[rank0]: " + raised(
    "torch.distributed.DistBackendError: NCCL error in: x, remote process exited or there was a network error\nncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely."
).replace("\n", "\n[rank0]: ")
SEVERAL = {
    "the loud one is a consequence": ((1, PEER), (1, raised("ValueError: bad sample")), "user_error", 1),
    "later by the clock, and still the cause": ((134, REMOTE), (1, raised("OSError: [Errno 28] No space left on device")), "disk_full", 1),
    "killed without a word": ((1, PEER), (137, "step 3\n"), "killed", 1),
    "the launcher's own TERM": ((1, raised("MemoryError")), (143, "step 3\n"), "out_of_memory", 0),
    "a crash and its echo": ((1, PEER), (139, ""), "user_error", 1),
    "who did not come": ((134, WATCHDOG), (143, "step 3\n"), "communication", 1),
    "who left early": ((1, PEER), (0, "done\n"), "communication", 1),
    "a server, and no rank": ((1, raised("TimeoutError: [Errno 110] Connection timed out")), (0, "done\n"), "communication", 0),
    "a network": ((1, raised("torch.distributed.DistBackendError: NCCL error, unhandled system error\nncclSystemError: System call failed\nLast error:\nsocketStartConnect: Connect to 10.0.0.1<4> failed : No route to host")), (143, ""), "communication", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("nodes", [1, 2])
def test_the_first_that_failed_is_named(name: str, nodes: int) -> None:
    first, second, cause, rank = SEVERAL[name]
    found = diagnose(death(first, second, nodes=nodes))
    assert (found.cause, found.rank, found.host) == (cause, rank, f"n{rank + 1}" if nodes > 1 else "n1"), found
    assert f"ank {rank}" in found.reason


def test_a_kill_of_the_launcher_explains_nothing() -> None:
    found = diagnose(death((1, PEER), (137, "step\n"), at=(1000, 11_000)))
    assert (found.cause, found.rank) == ("communication", 0)


def test_clocks_of_nodes_differ() -> None:
    found = diagnose(death((137, "step\n"), (143, "step\n"), nodes=2, at=(9000, 4000)))
    assert (found.cause, found.rank) == ("killed", 0)


def test_what_the_scheduler_and_the_launcher_did() -> None:
    ended = (143, "step 3\n")
    limit = death(ended, time=600, exit=Exit(143, 1, 1, None, "time limit of 600 s reached"))
    assert diagnose(limit).cause == "time_limit" and "--time 20m" in diagnose(limit).cure
    for text, cause in (
        ("slurmstepd: error: *** JOB 4 ON n1 CANCELLED AT 2026-11-21T10:00:00 DUE TO TIME LIMIT ***", "time_limit"),
        ("slurmstepd: error: *** JOB 4 ON n1 CANCELLED AT 2026-11-21T10:00:00 DUE TO PREEMPTION ***", "preempted"),
        ("slurmstepd: error: *** STEP 4.0 ON n1 CANCELLED AT 2026-11-21T10:00:00 DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***", "node_failure"),
        ("slurmstepd: error: *** JOB 4 ON n1 CANCELLED AT 2026-11-21T10:00:00 ***", "cancelled"),
        ("=>> PBS: job killed: walltime 10 exceeded limit 5", "time_limit"),
        ("=>> PBS: job killed: mem 5000000kb exceeded limit 4000000kb", "out_of_memory"),
        ("", "killed"),
    ):  # fmt: skip
        assert diagnose(death(ended, scheduler_log=text)).cause == cause, text
    assert diagnose(death(ended, asked_stop=True)).cause == "cancelled"
    word = Seen("FAILED", None, "It was preempted by a job of higher priority.")
    assert diagnose(death(ended, word=word)).cause == "preempted"
    assert diagnose(death((1, raised("ValueError: x")), word=Seen("FAILED", 1, "It exited with code 1."))).cause == "user_error"


def test_a_warning_that_reached_the_tasks_is_the_schedulers() -> None:
    warned = death((140, "step 3\n"))
    spec = structs.replace(warned.job.spec, scheduler="sge")
    assert diagnose(structs.replace(warned, job=structs.replace(warned.job, spec=spec))).cause == "cancelled"
    assert diagnose(warned).cause == "killed"
    limited = structs.replace(spec, script="#$ -l h_rt=0:1:0\n")
    warned.nodes[0].ranks[0].ended = 58_000
    assert diagnose(structs.replace(warned, job=structs.replace(warned.job, spec=limited))).cause == "time_limit"
    longer = structs.replace(spec, raw=["-l", "h_rt=100"])
    assert diagnose(structs.replace(warned, job=structs.replace(warned.job, spec=longer))).cause == "cancelled"


def test_memory_that_nobody_told_the_task_of() -> None:
    killed = (137, "step 3\n")
    counted = diagnose(death(killed, oom_kills=1, mem=1 << 30))
    assert (counted.cause, counted.rank) == ("out_of_memory", 0) and "--mem 2G" in counted.cure
    peak = death(killed, mem=1 << 30)
    peak.nodes[0].ranks[0].peak = 1020 << 20
    assert diagnose(peak).cause == "out_of_memory"
    launcher = death(
        (0, ""), exit=None, word=Seen("FAILED", 137, "It used more memory than it asked for; ask for more with --mem.")
    )
    assert diagnose(launcher).cause == "out_of_memory"
    assert diagnose(death(killed, mem=1 << 30)).cause == "killed"


def test_nodes_that_die() -> None:
    lost = diagnose(death((1, PEER), (0, ""), nodes=2, lost=["n2"]))
    assert (lost.cause, lost.host, lost.rank) == ("node_failure", "n2", 1)
    down = Seen("FAILED", None, "A node that it ran on failed.")
    silent = death((143, ""), (0, ""), nodes=2, word=down)
    silent.nodes[1].ranks[0].code = silent.nodes[1].ranks[0].ended = None
    assert (diagnose(silent).cause, diagnose(silent).host, diagnose(silent).rank) == ("node_failure", "n2", 1)
    assert diagnose(death((0, ""), (0, ""), nodes=2, exit=Exit(0, 1, 1), lost=["n2"])).cause == "node_failure"
    mine = diagnose(death((1, raised("KeyError: 'x'")), (0, ""), nodes=2, lost=["n2"]))
    assert mine.cause == "user_error"
    elsewhere = structs.replace(death().job, spec=structs.replace(death().job.spec, scheduler="slurm"))
    assert diagnose(Death(elsewhere)).cause == "node_failure" and diagnose(Death(death().job)).cause == "killed"
    assert diagnose(Death(elsewhere, word=Seen("FAILED", 137, "It was killed by signal 9."))).cause == "killed"


def test_what_never_ran() -> None:
    def start(reason: str, code: int = 127) -> Diagnosis:
        return diagnose(death(exit=Exit(code, 1, 1, None, reason)))

    assert start("cannot start /no/such/python: No such file or directory").cause == "missing_file"
    assert start("cannot start train.sh: Permission denied").cause == "cannot_start"
    assert start("the job cannot start: /scratch: No space left on device").cause == "disk_full"
    assert start("the job cannot start: two of its copies have one name").cause == "cannot_start"
    shell = Death(
        death().job, scheduler_log="/home/ada/job.sh: line 9: /opt/python: No such file or directory\n", word=Seen("FAILED", 127)
    )
    assert diagnose(shell).cause == "missing_file"


def test_it_is_light() -> None:
    """The launcher imports it on a node that is in trouble already."""
    heavy = "click starlette sqlalchemy torch numpy asyncio noria.store noria.cli"
    code = f"import sys, noria.jobs.why.failed; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
