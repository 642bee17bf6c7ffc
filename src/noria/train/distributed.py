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
from itertools import count
from types import FrameType, TracebackType
from typing import Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from noria.train.context import Span, here
from noria.train.layout import Layout

T = TypeVar("T")


_met: list[Store] = []
_worlds = count(1)


def _meeting(rank: int, size: int) -> Store:
    """Where the processes find each other. One for all worlds of a process, with a page for each: a second training might else read what
    the first one has left."""
    if not _met:
        _met.append(next(rendezvous("env://", rank, size))[0])
    return PrefixStore(f"world-{next(_worlds)}", _met[0])


class World:
    """A context manager around one process group; with one process there is none, and everything else is the same.

    rank, size: of this process, and how many there are. device: where this process computes. layout, place: how the processes are
    arranged, and where among them this one is; all of them share the batch until `arrange` says otherwise. share: which of the
    `layout.batch` shares of a batch this process sees, from 0. counts: whether it knows the loss of its share, and is the one of those
    that do which counts.
    Left by an error with other processes around, it says which rank failed and why and ends the process at once with
    exit code 1: a group cannot be taken down while the others wait in it. The launcher ends the others.
    """

    def __init__(self, *, alone: bool = False) -> None:
        """alone: whatever the launcher's environment says."""
        env = {} if alone else os.environ
        self.rank, self.size = int(env.get("RANK", "0")), int(env.get("WORLD_SIZE", "1"))
        here, visible = int(env.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
        local = int(env.get("LOCAL_RANK", "0"))
        self.device = torch.device("cuda", local % visible) if visible else torch.device("cpu")
        # NCCL refuses two ranks on one GPU; gloo carries tensors on a GPU through the host.
        self.backend = "nccl" if visible >= here else "gloo"
        self.mesh: DeviceMesh | None = None
        self._lay(Layout(data=self.size))

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.size > 1:
            # Checkpoints are agreed upon between processors, beside what the GPUs exchange.
            both = "cpu:gloo,cuda:nccl" if self.backend == "nccl" else "gloo"
            dist.init_process_group(both, store=_meeting(self.rank, self.size), rank=self.rank, world_size=self.size)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        here.span = None
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

    def arrange(self, layout: Layout) -> None:
        """Lay the processes out; to be called by all of them."""
        self._lay(layout)
        if self.size > 1:
            # To whoever averages gradients, those that see other tokens are as those that see other examples.
            sizes = (layout.pipeline, layout.data * layout.context, layout.shard, layout.tensor)
            self.mesh = init_device_mesh(self.device.type, sizes, mesh_dim_names=("pipeline", "data", "shard", "tensor"))
        if layout.context > 1:
            runs = (layout.pipeline * layout.data, layout.context, layout.shard * layout.tensor)
            mesh = init_device_mesh(self.device.type, runs, mesh_dim_names=("before", "context", "within"))
            here.span = Span(self.place.context, layout.context, mesh["context"].get_group())

    def _lay(self, layout: Layout) -> None:
        self.layout, self.place = layout, layout.place(self.rank)
        self.share = self.place.data * layout.shard + self.place.shard
        self.counts = self.place.tensor == 0 and self.place.pipeline == layout.pipeline - 1

    @property
    def knows(self) -> int:
        """The first rank of those that know the loss."""
        return self.size // self.layout.pipeline * (self.layout.pipeline - 1)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place; to be called by all of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agreed(self, value: T, *, source: int = 0) -> T:
        """Another process's value on every process: that of rank 0, or of `source`."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=source, device=torch.device("cpu"))
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
