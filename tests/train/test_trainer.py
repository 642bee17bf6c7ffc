from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

sys.path.insert(0, str(Path(__file__).parent))
import example

from noria.errors import Invalid, NoriaError
from noria.train import checkpoint
from noria.train.data import Batch
from noria.train.optimizers import adamw
from noria.train.results import Progress, Result
from noria.train.schedules import constant, one_cycle
from noria.train.steps import Sums, classification
from noria.train.trainer import evaluate


class Crash(Exception):
    """The power fails."""


class Record:
    """What a run logged; `at` is called before each step's values are kept."""

    def __init__(self, at: Callable[[int], None] = lambda step: None) -> None:
        self.points: dict[tuple[str, int], float] = {}
        self.rewound: list[int] = []
        self.epochs: list[Progress] = []
        self.at = at

    def log(self, values: Mapping[str, float], /, *, step: int) -> None:
        self.at(step)
        for key, value in values.items():
            assert (key, step) not in self.points
            self.points[key, step] = value

    def rewind(self, step: int) -> None:
        self.rewound.append(step)
        self.points = {place: value for place, value in self.points.items() if place[1] < step}

    @property
    def lasting(self) -> dict[tuple[str, int], float]:
        return {
            place: value
            for place, value in self.points.items()
            if place[0] not in ("examples_per_s", "tflops") and not place[0].startswith("time/")
        }


def train(record: Record, model: torch.nn.Module | None = None, **plan: Any) -> Result:
    ears: dict[str, Any] = {"log": record.log, "rewind": record.rewind, "progress": record.epochs.append}
    return example.trainer(example.model() if model is None else model, **ears, **plan).fit(example.TRAIN, example.VALIDATION)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_every_step_is_logged_once_and_every_epoch_at_its_last_step() -> None:
    record = Record()
    result = train(record)
    assert sorted(step for key, step in record.points if key == "loss") == list(range(21))
    for key in ("val_loss", "val_accuracy", "epoch", "examples_per_s"):
        assert [step for name, step in record.points if name == key] == [6, 13, 20]
    assert [record.points["epoch", step] for step in (6, 13, 20)] == [1, 2, 3]
    assert [(progress.step, progress.steps, progress.epoch) for progress in record.epochs] == [
        (7, 21, 1),
        (14, 21, 2),
        (21, 21, 3),
    ]
    assert (result.steps, result.stopped) == (21, "done")
    assert record.rewound == []


def test_the_best_epoch_is_what_comes_back() -> None:
    record = Record()
    result = train(record, monitor="val_loss", mode="min", optimizer=adamw(0.05))
    assert result.values["val_loss"] == min(value for (key, _), value in record.points.items() if key == "val_loss")
    found = evaluate(result.model, classification, example.VALIDATION)
    assert found["loss"] == pytest.approx(result.values["val_loss"], abs=1e-6)


@pytest.mark.parametrize("crash", [0, 5, 7, 13, 16, 20])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path, crash: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, with dropout, augmentation, an average of the weights and Adam's moments."""
    with_all: dict[str, Any] = {"ema": 0.9, "clip": 1.0}
    whole = Record()
    uninterrupted = train(whole, example.model(dropout=0.3), **with_all)

    def fail(step: int) -> None:
        if step == crash:
            raise Crash

    record = Record(fail)
    with pytest.raises(Crash):
        train(record, example.model(dropout=0.3), folder=tmp_path, **with_all)
    record.at = lambda step: None
    monkeypatch.setenv("NORIA_ATTEMPT", "2")
    torch.manual_seed(99)  # Nothing may hang on what the global generator held.
    resumed = train(record, example.model(dropout=0.3), folder=tmp_path, **with_all)
    assert record.rewound == ([7 * (crash // 7)])
    assert record.lasting == whole.lasting
    assert same_weights(resumed.model, uninterrupted.model)


def test_what_the_curves_say_comes_with_the_result(tmp_path: Path) -> None:
    """Also of those before a restart."""
    plan: dict[str, Any] = {"optimizer": lambda weights: torch.optim.SGD(weights, lr=1e-7), "schedule": constant, "epochs": 4}
    whole = train(Record(), **plan)
    assert [finding.name for finding in whole.findings] == ["flat", "under-fitting"]

    def fail(step: int) -> None:
        if step == 20:
            raise Crash

    with pytest.raises(Crash):
        train(Record(fail), folder=tmp_path, **plan)
    assert train(Record(), folder=tmp_path, **plan).findings == whole.findings


def test_a_loop_of_ones_own_does_what_the_trainer_does() -> None:
    """The one in the documents."""
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    (loop,) = re.findall(r"## A loop of your own.*?```python\n(.*?)```", page, re.DOTALL)
    model = example.model()
    data = SimpleNamespace(train=example.TRAIN, validation=example.VALIDATION)
    exec(loop.replace('"bf16"', '"fp32"').replace("range(10)", "range(2)"), {"model": model, "data": data, "print": str})
    result = example.trainer(example.model(), epochs=2, batch=64, schedule=constant, augment=None).fit(example.TRAIN)
    for one, other in zip(model.state_dict().values(), result.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("step", [4, 13, 15])
def test_sigterm_finishes_the_step_saves_and_exits_75(tmp_path: Path, step: int) -> None:
    whole = Record()
    train(whole)
    before = signal.getsignal(signal.SIGTERM)
    record, seen = Record(), count()

    def told(model: torch.nn.Module, batch: Batch) -> Sums:
        if model.training and next(seen) == step:
            signal.raise_signal(signal.SIGTERM)
        return classification(model, batch)

    with pytest.raises(SystemExit) as exit:
        train(record, folder=tmp_path, step=told)
    assert exit.value.code == 75
    assert signal.getsignal(signal.SIGTERM) is before
    assert max(now for key, now in record.points if key == "loss") == step
    train(record, folder=tmp_path)
    assert record.lasting == whole.lasting


def test_a_finished_run_that_is_started_again_only_answers(tmp_path: Path) -> None:
    first = train(Record(), folder=tmp_path)
    record = Record()
    again = train(record, folder=tmp_path)
    assert record.points == {}
    assert same_weights(first.model, again.model)
    assert first.values == again.values


def test_a_damaged_checkpoint_costs_an_epoch_and_no_more(tmp_path: Path) -> None:
    whole = Record()
    train(whole, folder=tmp_path)
    newest = checkpoint.latest(tmp_path)
    assert newest is not None
    file = next(newest.glob("*.distcp"))
    file.write_bytes(file.read_bytes()[:-100])
    record = Record()
    with pytest.warns(UserWarning, match="damaged"):
        train(record, folder=tmp_path)
    assert record.rewound == [14]
    assert record.lasting == {place: value for place, value in whole.lasting.items() if place[1] >= 14}


def test_checkpoints_of_another_plan_are_refused(tmp_path: Path) -> None:
    train(Record(), folder=tmp_path)
    with pytest.raises(Invalid, match="another plan"):
        train(Record(), folder=tmp_path, batch=16)


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    record = Record()
    result = train(record, epochs=10, optimizer=adamw(0.0), patience=2, folder=tmp_path)
    assert (result.steps, result.best_step, result.stopped) == (21, 21, "patience")
    assert train(Record(), epochs=10, optimizer=adamw(0.0), patience=2, folder=tmp_path).steps == 21


def test_a_loss_that_is_no_number_is_an_error_with_a_cure() -> None:
    with pytest.raises(NoriaError, match="Lower the learning rate"):
        train(Record(), optimizer=adamw(1e30))


def test_the_average_of_constant_weights_is_these_weights() -> None:
    model = example.model()
    result = train(Record(), optimizer=adamw(0.0), ema=0.9)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(result.model.state_dict()[name], tensor)


def test_an_unknown_metric_to_monitor_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid, match="val_accuracy"):
        train(Record(), monitor="accuracy")


def test_the_schedule_goes_up_and_down() -> None:
    factor = one_cycle(warmup=0.25, first=0.04, last=0.0)
    values = [factor(done / 100) for done in range(101)]
    assert (values[0], values[25], values[100]) == pytest.approx((0.04, 1.0, 0.0))
    assert values[:26] == sorted(values[:26])
    assert values[25:] == sorted(values[25:], reverse=True)
