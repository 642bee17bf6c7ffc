"""A few steps under torch's profiler: the trace, for Perfetto or chrome://tracing, and a table of what took longest, kept with the run."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity

import noria.client.fluent as client
from noria.client.made import log_text
from noria.errors import Invalid

_WARM = 3
"""Steps before it begins: the first ones allocate, compile and choose algorithms."""
_ROWS = 30


def asked() -> int:
    """How many steps NORIA_PROFILE says; Invalid if that is no number."""
    text = os.environ.get("NORIA_PROFILE", "").strip() or "0"
    if not (text.isascii() and text.isdigit()):
        raise Invalid(f"NORIA_PROFILE is '{text}', which is not a number of steps.", "Set it to 5, or unset it.")
    return int(text)


class Profile:
    """To be told of each step that is over. steps: how many to record, after the first few. trace: where the artifacts go in the run."""

    def __init__(self, steps: int, trace: str) -> None:
        self.steps, self.trace, self.seen = steps, trace, 0
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._profiler = torch.profiler.profile(activities=activities, record_shapes=True)

    def step(self, *, last: bool) -> bool:
        """Whether it wants to hear of more. last: no step comes after this one."""
        self.seen += 1
        if self.seen == _WARM and not last:
            self._profiler.start()
        elif self.seen > _WARM and (last or self.seen == _WARM + self.steps):
            self._profiler.stop()
            self._keep()
            return False
        return not last

    def _keep(self) -> None:
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        log_text(self._profiler.key_averages().table(sort_by=by, row_limit=_ROWS), f"{self.trace}.txt")
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{Path(self.trace).name}.json.gz"
            self._profiler.export_chrome_trace(str(file))
            client.log_artifact(file, str(Path(self.trace).parent))
