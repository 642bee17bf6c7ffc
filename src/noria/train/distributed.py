"""The processes that train one model, as the launcher's environment describes them (RANK, WORLD_SIZE, MASTER_ADDR, ...)."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn


class World:
    """A context manager around one process group; with one process there is none, and everything else is the same.

    rank, size: of this process, and how many there are. device: where this process computes.
    Left by an error with other processes around, it says which rank failed and why and ends the process at once with
    exit code 1: a group cannot be taken down while the others wait in it. The launcher ends the others.
    """

    def __init__(self) -> None:
        env = os.environ
        self.rank, self.size = int(env.get("RANK", "0")), int(env.get("WORLD_SIZE", "1"))
        here, visible = int(env.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
        local = int(env.get("LOCAL_RANK", "0"))
        self.device = torch.device("cuda", local % visible) if visible else torch.device("cpu")
        # NCCL refuses two ranks on one GPU; gloo carries tensors on a GPU through the host.
        self.backend = "nccl" if visible >= here else "gloo"

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.size > 1:
            dist.init_process_group(self.backend, rank=self.rank, world_size=self.size)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.size == 1:
            return
        if error is not None and not isinstance(error, SystemExit):
            print(f"Rank {self.rank} of {self.size} failed:\n{''.join(traceback.format_exception(error))}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        # A reducer that outlives its gloo group aborts some interpreters at exit ("terminate called without an active
        # exception", 6 of 25 runs measured), and models are parts of reference cycles: collect before the group goes.
        gc.collect()
        dist.barrier()
        dist.destroy_process_group()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass averages gradients over all ranks; rank 0's weights everywhere."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place; to be called by all of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agreed(self, text: str) -> str:
        """Rank 0's text on every rank."""
        if self.size == 1:
            return text
        box = [text]
        dist.broadcast_object_list(box, src=0, device=self.device if self.backend == "nccl" else None)
        return box[0]


@contextmanager
def flagged(number: signal.Signals) -> Iterator[threading.Event]:
    """An event that is set when the signal comes, and nothing else: a handler that saves would do so in mid-step."""
    event = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event  # Python delivers signals to the main thread only.
        return
    before = signal.signal(number, note)
    try:
        yield event
    finally:
        signal.signal(number, before)
