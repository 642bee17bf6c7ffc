"""What a node is made to do before it is trusted: run by its path with the Python of the job, be there Noria or not, so it imports the
standard library alone, and torch where there are GPUs to try. Python 3.8 and newer.

Each finding is a line of JSON, printed as soon as it is known: whoever started this may not want to wait for a GPU that hangs.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
import time
from typing import Any, BinaryIO

_BLOCK = bytes(range(256)) * 4096
_DIGEST = "fbbab289f7f94b25736c58be46a994c441fd02552cc6022352e3d86d2fab7c83"
_CHAOS = "0x1.32f17bfd08733p-2"
"""What 2,000 steps of the logistic map lead to in IEEE's doubles: after so many, any wrong bit has reached them all."""
_TIMES = 4
_COPIED = 32 << 20
_SENT = 1 << 20
_GPU_SECONDS = 1.0
COMPUTES = "GPUs compute"


def say(**found: object) -> None:
    print(json.dumps(found), flush=True)


def processors(cpus: list[int]) -> None:
    """Arithmetic with a known result on each CPU, all at once, and how fast the fastest of a few rounds was: bytes a second of SHA-256."""
    speeds: dict[int, float] = {}
    wrong: list[int] = []

    def work(cpu: int) -> None:
        try:
            os.sched_setaffinity(0, {cpu})  # Of this thread alone.
        except OSError:
            return
        for _ in range(_TIMES):
            start = time.perf_counter()
            right = hashlib.sha256(_BLOCK).hexdigest() == _DIGEST
            speeds[cpu] = max(speeds.get(cpu, 0.0), len(_BLOCK) / (time.perf_counter() - start))
            if (not right or _chaos() != _CHAOS) and cpu not in wrong:
                wrong.append(cpu)

    threads = [threading.Thread(target=work, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(hash=sorted(speeds.values())[len(speeds) // 2] if speeds else None, wrong=sorted(wrong))


def _chaos() -> str:
    x = 0.4
    for _ in range(2000):
        x = 3.75 * x * (1 - x)
    return x.hex()


def memory() -> None:
    """Bytes a second that one CPU copies, and whether the copy is one."""
    source, target = bytearray(_BLOCK * (_COPIED // len(_BLOCK))), bytearray(_COPIED)
    best = 0.0
    for _ in range(_TIMES):
        start = time.perf_counter()
        target[:] = source
        best = max(best, _COPIED / (time.perf_counter() - start))
    say(copy=best, same=target == source)


def network(rank: int, world: int, first: str, port: int, patience: float) -> None:
    """A sum over all nodes, of which each knows the result: the first one adds what it got, and times how it came."""
    own, whole = _words(rank + 1), _words(world * (world + 1) // 2)
    try:
        if rank:
            _give(own, whole, rank, first, port, patience)
        else:
            _gather(own, whole, world, port, patience)
    except (OSError, EOFError) as error:
        say(unreached=str(error))


def _words(number: int) -> bytes:
    return number.to_bytes(8, "little") * (_SENT // 8)


def _give(own: bytes, whole: bytes, rank: int, first: str, port: int, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            connection = socket.create_connection((first, port), 1.0)
            break
        except OSError:  # It has not begun yet.
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    with connection:
        connection.settimeout(patience)
        connection.sendall(rank.to_bytes(8, "little"))
        with connection.makefile("rb") as file:
            for _ in range(_TIMES):
                _take(file, 1)
                connection.sendall(own)
            say(added=_take(file, _SENT) == whole)


def _gather(own: bytes, whole: bytes, world: int, port: int, patience: float) -> None:
    until = time.monotonic() + patience
    come: dict[int, tuple[socket.socket, BinaryIO]] = {}
    total, speeds = int.from_bytes(own, "little"), {}  # by rank
    with socket.create_server(("", port)) as listener:
        while len(come) < world - 1 and time.monotonic() < until:
            listener.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection, _ = listener.accept()
            except OSError:  # Nobody else comes.
                break
            connection.settimeout(patience)
            file = connection.makefile("rb")
            come[int.from_bytes(_take(file, 8), "little")] = connection, file
        for rank, (connection, reader) in come.items():  # One after the other, so that each has the way for itself.
            speeds[rank], block = 0.0, b""
            for _ in range(_TIMES):
                start = time.perf_counter()
                connection.sendall(b"!")
                block = _take(reader, _SENT)
                speeds[rank] = max(speeds[rank], _SENT / (time.perf_counter() - start))
            total += int.from_bytes(block, "little")
        result = total.to_bytes(_SENT + 1, "little")[:_SENT]
        for connection, reader in come.values():
            connection.sendall(result)
            reader.close()
            connection.close()
    missing = [rank for rank in range(1, world) if rank not in come]
    say(links=speeds, missing=missing, added=bool(missing) or result == whole)


def _take(file: BinaryIO, size: int) -> bytes:
    got = file.read(size)
    if len(got) < size:
        raise EOFError("the other node has hung up")
    return got


def gpus() -> None:
    """On each GPU a product of matrices whose sums are known exactly, over and over, all GPUs at once; and copies from and to the host."""
    say(gpu="torch is imported")
    try:
        import torch
    except Exception as error:  # A broken installation raises anything, and says nothing of the node.
        say(skipped=f"GPUs were not tried: {type(error).__name__} when torch was imported")
        return
    say(gpu="CUDA starts")
    if not torch.cuda.is_available():
        say(skipped=f"GPUs were not tried: torch {torch.__version__} sees none")
        return
    found: list[dict[str, Any]] = [{"name": torch.cuda.get_device_name(at)} for at in range(torch.cuda.device_count())]
    for at in range(len(found)):  # Where drivers do not stay loaded, this takes a second for each.
        torch.zeros(1, device=f"cuda:{at}")
    one, two, expected = matrices(torch, 4096)
    host = torch.empty(64 << 20, dtype=torch.uint8).pin_memory()
    say(gpu=COMPUTES, at=time.monotonic())
    threads = [threading.Thread(target=_gpu, args=(torch, at, one, two, expected, each)) for at, each in enumerate(found)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, each in enumerate(found):
        if "error" not in each:
            _copies(torch, at, host, each)
    say(gpus=found)


def matrices(torch: Any, size: int) -> tuple[Any, Any, Any]:
    """Two matrices and the sums of the rows of their product: whole numbers up to 7, so that every kind of float has each product and
    each of up to 4,096 sums exactly, TF32 and bfloat16 too."""
    numbers = torch.arange(size * size, dtype=torch.int64).reshape(size, size)
    one, two = (numbers * 7919 >> 5) % 8, (numbers * 104729 >> 7) % 8
    return one.float(), two.float(), one @ two.sum(1)


def wrong_rows(one: Any, two: Any, sums: Any) -> int:
    return int(((one @ two).double().sum(1).long() != sums).sum())


def _gpu(torch: Any, at: int, one: Any, two: Any, expected: Any, found: dict[str, Any]) -> None:
    try:
        with torch.cuda.device(at):
            a, b, right, rounds = one.cuda(), two.cuda(), expected.cuda(), 0
            wrong = wrong_rows(a, b, right)  # The first one loads libraries, and is not timed.
            start = time.perf_counter()
            while time.perf_counter() - start < _GPU_SECONDS:
                wrong += wrong_rows(a, b, right)
                rounds += 1
            found.update(wrong=wrong, flops=rounds * 2 * len(one) ** 3 / (time.perf_counter() - start))
    except Exception as error:  # Whatever the driver raises is what is wrong with this GPU; the others are tried all the same.
        found["error"] = " ".join(str(error).split())[:200]


def _copies(torch: Any, at: int, host: Any, found: dict[str, Any]) -> None:
    """Bytes a second over PCIe, one GPU after the other, and whether what went there came back."""
    try:
        with torch.cuda.device(at):
            there = host.random_().cuda()
            back = torch.empty_like(host).pin_memory()
            for name, target, source in (("to", there, host), ("back", back, there)):
                best = 0.0
                for _ in range(_TIMES):
                    torch.cuda.synchronize()
                    start = time.perf_counter()
                    target.copy_(source, non_blocking=True)
                    torch.cuda.synchronize()
                    best = max(best, len(host) / (time.perf_counter() - start))
                found[name] = best
            found["same"] = bool(torch.equal(host, back))
    except Exception as error:  # Whatever the driver raises is what is wrong with this GPU; the others are tried all the same.
        found["error"] = " ".join(str(error).split())[:200]


def main(told: dict[str, Any]) -> None:
    processors(told["cpus"])
    memory()
    if told["world"] > 1:
        network(told["rank"], told["world"], told["first"], told["port"], told["patience"])
    if told["gpus"]:
        gpus()
    say(done=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    os._exit(0)  # What torch takes down is of no use to anybody.
