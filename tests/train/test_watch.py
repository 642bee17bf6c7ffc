"""What is seen beside a training: layers that do not learn, units that are silent, and a curve that stays short."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from noria.train import architectures
from noria.train.data import Arrays, batches
from noria.train.optimizers import adamw
from noria.train.steps import classification
from noria.train.watch import ENOUGH, POINTS, Curve, Watch

IMAGES = torch.rand(256, 12, generator=torch.Generator().manual_seed(0)) - 0.5
DATA = Arrays(IMAGES, (IMAGES[:, :6].sum(1) > IMAGES[:, 6:].sum(1)).long())


def watched(model: nn.Module, epochs: int = 3, batch: int = 64) -> Watch:
    """Train a little, with a look at the last step of each epoch."""
    watch, optimizer = Watch(), adamw(1e-3)(model.parameters())
    for epoch in range(epochs):
        steps = list(batches(DATA, batch, seed=0, epoch=epoch))
        for number, part in enumerate(steps, 1):
            if number == len(steps):
                watch.begin(model)
            loss, weight, _ = classification(model, part)  # type: ignore[misc]  # it measures more
            (loss / weight).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            if number == len(steps):
                watch.end()
            optimizer.step()
            optimizer.zero_grad()
            watch.loss(loss.item() / weight.item())
        watch.validated(loss.item() / weight.item())
    return watch


def names(watch: Watch) -> list[str]:
    return [finding.name for finding in watch.findings()]


def test_a_dead_layer_is_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    nn.init.constant_(model[2].bias[:24], -100.0)  # type: ignore[index,arg-type]  # to torch a child may be anything
    watch = watched(model)
    (finding,) = (each for each in watch.findings() if each.name == "dead")
    assert watch.dead["3"] >= 0.75 > 0.5 > watch.dead["1"] and "of the units of 3 answer 0" in finding.says
    assert not any(layer._forward_hooks for layer in model.modules())


def test_a_channel_is_a_unit_of_maps() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())
    nn.init.constant_(model[0].bias[:6], -100.0)  # type: ignore[index,arg-type]  # to torch a child may be anything
    watch = Watch()
    watch.begin(model)
    model(torch.rand(2, 1, 6, 6))
    assert watch.end() == ({}, {"1": pytest.approx(0.75, abs=0.13)})


def test_few_answers_say_nothing_and_those_of_several_calls_are_put_together() -> None:
    model, watch = nn.Sequential(nn.ReLU()), Watch()
    halves = torch.eye(2).repeat(ENOUGH // 4, 1)
    watch.begin(model)
    model(halves)
    assert watch.end()[1] == {}
    watch.begin(model)
    model(halves[:, :1] * torch.tensor([1.0, 0.0])), model(halves[:, :1] * torch.tensor([0.0, 1.0]))
    assert watch.end()[1] == {"0": 0.0}


def test_a_deep_net_of_sigmoids_vanishes_and_one_of_relus_does_not() -> None:
    for kind, expected in ((nn.Sigmoid, True), (nn.ReLU, False)):
        torch.manual_seed(0)
        hidden = [layer for _ in range(9) for layer in (nn.Linear(24, 24), kind())]
        watch = watched(nn.Sequential(nn.Linear(12, 24), kind(), *hidden, nn.Linear(24, 2)))
        assert list(watch.gradients) == [str(2 * number) for number in range(11)] and len(watch.gradients["0"]) == 3
        assert ("vanishing" in names(watch)) == expected


@pytest.mark.parametrize("name", ["cnn", "gpt", "lstm", "transformer"])
def test_every_layer_with_a_matrix_has_a_norm(name: str) -> None:
    small = {"cnn": {"width": 4}, "gpt": {"vocabulary": 9, "context": 8, "width": 12, "layers": 2, "heads": 3},
             "lstm": {"task": "generate", "vocabulary": 9}, "transformer": {"vocabulary": 9, "width": 12, "heads": 3, "layers": 2}}  # fmt: skip
    model, watch = architectures.build(name, **small[name]), Watch()
    watch.begin(model)
    model(torch.rand(2, 1, 28, 28) if name == "cnn" else torch.ones(2, 8, dtype=torch.int64)).square().sum().backward()
    gradients, _ = watch.end()
    matrices = {path for path, layer in model.named_modules() for weight in layer.parameters(recurse=False) if weight.dim() > 1}
    assert gradients.keys() == matrices and all(norm > 0 for norm in gradients.values())


def test_a_curve_stays_short_and_keeps_its_course() -> None:
    curve = Curve()
    for step in range(10 * POINTS):
        curve.add(float(step))
    assert POINTS // 2 <= len(curve.points) < POINTS
    assert curve.points[0] == pytest.approx(7.5) and curve.points[-1] == pytest.approx(10 * POINTS, rel=0.01)
    assert curve.points == sorted(curve.points)


def test_it_goes_on_from_a_checkpoint() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 2))
    watch, again = watched(model, epochs=8), Watch()
    again.restore(json.loads(json.dumps(watch.state())))
    assert again.state() == watch.state() and again.findings() == watch.findings() != []
    again.loss(1.0)
    assert again.losses.points[:-1] == watch.losses.points
