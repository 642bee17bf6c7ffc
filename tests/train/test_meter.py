"""What a training does to the hardware, said in numbers, and a few of its steps recorded."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

sys.path.insert(0, str(Path(__file__).parent))
import example

from noria.errors import Invalid
from noria.train.trainer import Trainer


def test_operations_a_second_are_the_models_times_three_passes() -> None:
    logged: dict[str, float] = {}

    def log(values: Mapping[str, float], /, *, step: int) -> None:
        logged.update(values)

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(324, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
    Trainer(model, epochs=1, batch=8, log=log, progress=None, rewind=None).fit(example.TRAIN)
    assert logged["tflops"] == pytest.approx(3 * 2 * (324 * 10 + 10 * 3) * logged["examples_per_s"] / 1e12)
    assert "mfu" not in logged, "nobody knows the peak of a CPU"


class Moody(torch.nn.Sequential):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.sum() > 0:
            return super().forward(inputs)
        return super().forward(-inputs)


def test_a_model_that_cannot_be_counted_trains_all_the_same() -> None:
    logged: dict[str, float] = {}

    def log(values: Mapping[str, float], /, *, step: int) -> None:
        logged.update(values)

    Trainer(Moody(torch.nn.Flatten(), torch.nn.Linear(324, 3)), epochs=1, batch=8, log=log, progress=None, rewind=None).fit(
        example.TRAIN
    )
    assert "examples_per_s" in logged and "tflops" not in logged


def test_a_profile_is_kept_with_the_run(noria: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    noria("train", "digits", "--set", "epochs=1", "--set", "max_examples=640", "--profile", OMP_NUM_THREADS="1")
    run = json.loads(noria("runs", "list", "--json").stdout)["runs"][0]["info"]["run_id"]
    noria("runs", "show", run)
    (trace,) = (tmp_path / "home").rglob("rank0.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert {"ProfilerStep#0", "aten::conv2d"} & {event.get("name") for event in events}
    (table,) = (tmp_path / "home").rglob("rank0.txt")
    assert re.search(r"aten::\w*convolution", table.read_text())


def test_a_number_of_steps_that_is_none_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_PROFILE", "yes")
    with pytest.raises(Invalid, match="NORIA_PROFILE is 'yes', which is not a number of steps"):
        Trainer(example.model(), steps=2, batch=8, log=None, progress=None, rewind=None).fit(example.TRAIN)


def test_a_training_that_is_shorter_than_the_profile_says_what_it_saw() -> None:
    trainer = Trainer(example.model(), steps=2, batch=8, profile=5, log=None, progress=None, rewind=None)
    assert trainer.fit(example.TRAIN).steps == 2
