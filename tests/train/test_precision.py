from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytest

pytest.importorskip("torch")

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import example

from noria.errors import Invalid, NoriaError, Unsupported
from noria.train.data import Batch
from noria.train.dropout import Dropout
from noria.train.optimizers import adamw
from noria.train.precision import LossScale, Precision, in_fp8
from noria.train.steps import Sums, classification
from tests.conftest import require, which

CPU = torch.device("cpu")


def losses(precision: str) -> list[float]:
    curve: list[float] = []

    def log(values: Mapping[str, float], /, *, step: int) -> None:
        curve.extend([values["loss"]] if "loss" in values else [])

    example.trainer(example.mlp(), precision=precision, optimizer=adamw(1e-4), log=log).fit(example.TRAIN)
    return curve


def test_half_the_bits_learn_the_same() -> None:
    whole = losses("fp32")
    for precision in ("bf16", "fp16"):
        half = losses(precision)
        assert half != whole and half == pytest.approx(whole, abs=0.05)


def test_a_step_that_overflows_is_skipped_and_the_scale_halves() -> None:
    scale = LossScale(value=8.0, patience=2)
    assert not scale.after(torch.tensor(float("inf")))
    assert scale.value == 4.0
    assert scale.after(torch.tensor(1.0)) and scale.after(torch.tensor(1.0))
    assert scale.value == 8.0
    other = LossScale()
    other.restore(scale.state())
    assert (other.value, other.good) == (8.0, 0)


def test_fp16_gets_over_a_scale_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (2.0**40, 2000))
    before = {name: weight.clone() for name, weight in example.mlp().named_parameters()}
    result = example.trainer(example.mlp(), precision="fp16", epochs=6).fit(example.TRAIN)
    assert all(torch.isfinite(weight).all() for weight in result.model.parameters())
    assert any(not torch.equal(before[name], weight) for name, weight in result.model.named_parameters())


def test_what_a_device_does_not_compute_in_is_refused() -> None:
    with pytest.raises(Unsupported, match="tf32 needs an NVIDIA GPU"):
        Precision("tf32", CPU)
    with pytest.raises(Invalid, match="no precision 'fp12'"):
        Precision("fp12", CPU)  # type: ignore[arg-type]


def heavy(limit: int, sizes: list[int]) -> Any:
    """A step that needs more memory than there is for more than so many examples."""

    def step(model: torch.nn.Module, batch: Batch) -> Sums:
        sizes.append(len(batch.weights))
        if len(batch.weights) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB.")
        return classification(model, batch)

    return step


def test_what_does_not_fit_is_tried_in_halves_and_comes_to_the_same() -> None:
    sizes: list[int] = []
    # AdamW makes a whole step of a gradient that is hardly more than rounding, and so hides what halves do behind it.
    plan: dict[str, Any] = {"epochs": 1, "optimizer": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9)}
    halved = example.trainer(example.mlp(), step=heavy(3, sizes), micro="auto", **plan).fit(example.TRAIN)
    whole = example.trainer(example.mlp(), **plan).fit(example.TRAIN)
    assert sizes[:5] == [8, 4, 2, 2, 2]
    for one, other in zip(whole.model.parameters(), halved.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_what_does_not_fit_is_one_sentence_with_a_cure() -> None:
    with pytest.raises(NoriaError, match=r"8 examples at a time do not fit .* micro=4"):
        example.trainer(example.mlp(), step=heavy(3, []), epochs=1).fit(example.TRAIN)


@pytest.mark.parametrize("micro", [1, 3, 8])
def test_a_batch_in_parts_is_the_whole_batch(micro: int) -> None:
    """Also the last one of an epoch, which has 2 examples of 8."""
    whole = example.trainer(example.mlp(), clip=0.5).fit(example.TRAIN)
    parts = example.trainer(example.mlp(), clip=0.5, micro=micro).fit(example.TRAIN)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_what_is_computed_twice_is_the_same() -> None:
    plain = example.trainer(example.mlp()).fit(example.TRAIN)
    again = example.trainer(example.mlp(), recompute=True).fit(example.TRAIN)
    assert all(torch.equal(one, other) for one, other in zip(plain.model.parameters(), again.model.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_compiled_it_computes_the_same() -> None:
    require("gcc", which("g++"), "install the package g++")

    def losses(compiled: bool) -> list[float]:
        found: list[float] = []

        def log(values: Mapping[str, float], /, *, step: int) -> None:
            found.extend([values["loss"]] if "loss" in values else [])

        torch.manual_seed(3)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(324, 8), torch.nn.GELU(), Dropout(), torch.nn.Linear(8, 3))
        example.trainer(net, compile=compiled, batch=10, epochs=1, clip=1.0, augment=None, log=log).fit(example.TRAIN)
        return found

    assert losses(True) == pytest.approx(losses(False), abs=1e-5)


def test_fp8_learns_as_bf16_does_within_its_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded as fp8 is, and multiplied in fp32, which is what a machine without it can do."""
    require("torchao", find_spec("torchao") is not None, "pip install torchao")

    def last(prepare: bool) -> float:
        torch.manual_seed(3)
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(324, 10), torch.nn.Linear(10, 32), torch.nn.GELU(), torch.nn.Linear(32, 16)
        )
        if prepare:
            in_fp8(model, emulate=True)
            assert [type(layer).__name__ for layer in model[1:]] == ["Linear", "Linear", "GELU", "Float8Linear"]
        return example.trainer(model, precision="bf16", epochs=6).fit(example.TRAIN, example.VALIDATION).values["val_loss"]

    assert last(True) == pytest.approx(last(False), rel=0.05)


def test_fp8_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"fp8 needs an NVIDIA GPU .* newer\. Use precision='bf16'"):
        example.trainer(example.model(), precision="fp8", folder=tmp_path).fit(example.TRAIN)
    assert list(tmp_path.iterdir()) == []
    require("torchao", find_spec("torchao") is not None, "pip install torchao")
    with pytest.raises(Invalid, match="no linear layer whose sides"):
        in_fp8(torch.nn.Linear(3, 3))
