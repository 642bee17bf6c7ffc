"""How well the hardware is used: the model's operations a second, their part of what the GPUs could do at most, and the most memory taken."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noria.errors import NoriaError
from noria.hardware.peaks import peak
from noria.train import context, count
from noria.train.distributed import World

_PASSES = 3
"""Of a step, in forward passes: there, and twice back (see `count.py`)."""


class Meter:
    """model: as it is before it is laid out. What it computes is counted when it is first asked for, on rank 0."""

    def __init__(self, model: nn.Module, world: World, precision: str) -> None:
        self._twin = count.twin(model) if world.rank == 0 else None
        self._world = world
        self._flops: float | None = None
        device = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else ""
        self._peak = peak(device, precision) * world.size

    def read(self, speed: float, inputs: Tensor) -> dict[str, float]:
        """speed: examples a second of all processes. inputs: some that this process saw. Left out: what cannot be counted, and the part of a
        peak that nobody knows."""
        if self._twin is not None:
            self._flops, self._twin = self._of_example(self._twin, inputs), None
        found = {"examples_per_s": speed}
        if self._flops:
            found["tflops"] = self._flops * speed / 1e12
            if self._peak:
                found["mfu"] = self._flops * speed / self._peak
        if self._world.device.type == "cuda":
            found["memory_peak_bytes"] = float(torch.cuda.max_memory_allocated(self._world.device))
        return found

    def _of_example(self, twin: nn.Module, inputs: Tensor) -> float:
        example = (
            torch.cat([inputs[:1].to("meta")] * self._world.layout.context, 1) if self._world.layout.context > 1 else inputs[:1]
        )
        try:
            with context.alone():
                return 2.0 * _PASSES * count.multiply_adds(twin, example)
        except NoriaError:
            return 0.0
