from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import example

from noria import models
from noria.errors import Invalid, NotFound
from noria.train import architectures, checkpoint
from noria.train.thaw import gradually
from noria.train.transfer import freeze, lora, merged, new_head, slower_below, transfer, weights
from tests.conftest import require


def test_weights_come_over_and_the_head_is_new(tmp_path: Path) -> None:
    trained = architectures.build("resnet18", num_classes=10)
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in trained.state_dict().items()}}, tmp_path / "old.pt")
    model = architectures.build("resnet18", num_classes=10)
    head = new_head(model, 3)
    assert head == "fc" and model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    kept = transfer(model, tmp_path / "old.pt", head=head)
    assert kept == ["fc.weight", "fc.bias"]
    assert torch.equal(model.conv1.weight, trained.conv1.weight)


def test_what_is_frozen_does_not_change_by_a_bit() -> None:
    model = example.mlp()
    freeze(model, "5")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = example.trainer(model, epochs=1).fit(example.TRAIN).model.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith("5.") for name in changed)
    with pytest.raises(Invalid, match="No weight of this model learns"):
        example.trainer(freeze(model, "nowhere"), epochs=1).fit(example.TRAIN)
    assert all(weight.requires_grad for weight in freeze(model, "").parameters())


def test_statistics_of_what_is_frozen_stay() -> None:
    model = freeze(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), "1").train()
    inputs = torch.randn(16, 4) + 5
    torch.testing.assert_close(model[0](inputs), inputs / (1 + 1e-5) ** 0.5)
    assert model.get_buffer("0.running_mean").tolist() == [0.0] * 4
    freeze(model, "").train()(inputs)
    assert min(model.get_buffer("0.running_mean").tolist()) > 0.3


def test_a_model_with_a_new_head_is_saved_by_its_name(tmp_path: Path) -> None:
    model = architectures.build("lenet")
    new_head(model, 3)
    models.save(model, tmp_path / "model")
    assert models.load(tmp_path / "model").predict(torch.zeros(2, 1, 28, 28).numpy()).shape == (2, 3)


def test_what_was_learned_first_learns_slower() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    rates = {
        id(weight): group["lr"]
        for group in slower_below(model, 0.9, by=3)(model.parameters()).param_groups
        for weight in group["params"]
    }
    assert [rates[id(layer.weight)] for layer in model] == pytest.approx([0.1, 0.3, 0.9])


def test_what_are_no_weights_of_this_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        weights(tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(Invalid, match="cannot be read as weights"):
        weights(tmp_path / "text.pt")
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(Invalid, match="no state dict"):
        weights(tmp_path / "other.pt")
    torch.save(example.mlp(), tmp_path / "pickle.pt")
    with pytest.raises(Invalid, match="cannot be read as weights"):
        weights(tmp_path / "pickle.pt")
    with pytest.raises(Invalid, match="of another model"):
        transfer(example.mlp(), architectures.build("lenet").state_dict())


@pytest.mark.slow  # Its import takes seconds.
@pytest.mark.filterwarnings("ignore")  # peft's own, and those of transformers, which it imports
def test_adapters_learn_beside_what_does_not_change_by_a_bit(tmp_path: Path) -> None:
    require("peft", find_spec("peft") is not None, "pip install 'noria[lora]'")
    before = example.model().state_dict()
    model = lora(example.model(), "features.3", "head.0", rank=2)
    with torch.no_grad():
        assert torch.equal(model(example.TRAIN.inputs), example.model()(example.TRAIN.inputs))
    model.head[3].requires_grad_(True)
    learned = example.trainer(model, epochs=2).fit(example.TRAIN).model
    after = {name.replace(".base_layer", ""): tensor for name, tensor in learned.state_dict().items() if ".lora_" not in name}
    assert after.keys() == before.keys()
    assert {name for name, tensor in after.items() if not torch.equal(tensor, before[name])} == {"head.3.weight", "head.3.bias"}
    with torch.no_grad():
        wanted = learned(example.VALIDATION.inputs)
        one = merged(learned)
        torch.testing.assert_close(one(example.VALIDATION.inputs), wanted)
    changed = {name for name, tensor in one.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"features.3.weight", "head.0.weight", "head.3.weight", "head.3.bias"}
    assert all(weight.requires_grad for weight in one.parameters())
    models.save(one, tmp_path / "model")
    answer = models.load(tmp_path / "model").predict(example.VALIDATION.inputs.numpy())
    torch.testing.assert_close(torch.from_numpy(answer), wanted)
    with pytest.raises(Invalid, match="nothing to adapt"):
        lora(example.model(), "nowhere")


def changed_by_epoch(folder: Path, **changes: Any) -> list[set[str]]:
    """The layers of `example.mlp` that each of three epochs has changed."""
    example.trainer(example.mlp(), folder=folder, keep=9, **changes).fit(example.TRAIN)
    states = [example.mlp().state_dict()]
    for step in (7, 14, 21):
        read = {"model": example.mlp().state_dict()}
        checkpoint.load(checkpoint.at(folder, step), read)
        states.append(read["model"])
    return [{name[0] for name in one if not torch.equal(one[name], two[name])} for one, two in pairwise(states)]


def test_layers_are_thawed_by_epoch(tmp_path: Path) -> None:
    net = example.mlp()
    assert [name for name, _ in net.named_children()] == ["0", "1", "2", "3", "4", "5", "6"] and gradually(net)[1] == ["5", "6"]
    assert changed_by_epoch(tmp_path / "by-name", thaw={0: ["6"], 1: ["3", "6"], 2: [""]}) == [
        {"6"},
        {"3", "6"},
        {"1", "2", "3", "5", "6"},
    ]
    assert changed_by_epoch(tmp_path / "late", thaw={2: ["6"]}) == [{"1", "2", "3", "5", "6"}] * 2 + [{"6"}]
    by_rate = changed_by_epoch(tmp_path / "gradual", thaw=gradually(net), optimizer=slower_below(net, 1e-3))
    assert by_rate == [{"6"}, {"5", "6"}, {"3", "5", "6"}]


def test_a_thaw_of_no_layer_is_one_sentence() -> None:
    with pytest.raises(Invalid, match="thaw of epoch 1: this model has no layer 'heads'"):
        example.trainer(example.mlp(), thaw={1: ["heads"]}).fit(example.TRAIN)


HUBBED = """
import sys, torch
from noria.errors import NoriaError
from noria.train.transfer import weights
try:
    print(sorted(weights(sys.argv[1])))
except NoriaError as error:
    print(error)
"""


def test_weights_come_from_a_hub_and_are_kept_for_nodes_without_a_network(tmp_path: Path) -> None:
    require("transformers", find_spec("huggingface_hub") is not None, "pip install huggingface_hub")
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "model.pt")
    body = (tmp_path / "model.pt").read_bytes()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            known = self.path == "/ada/net/resolve/main/model.pt"
            self.send_response(200 if known else 404)
            for name, value in {"X-Repo-Commit": "c" * 40, "ETag": '"e1"', "Content-Length": len(body)}.items():
                self.send_header(name, str(value))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def asked(name: str, **more: str) -> str:
        env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", **more}
        return subprocess.run([sys.executable, "-c", HUBBED, name], env=env, capture_output=True, text=True, check=True).stdout

    assert asked("hf://ada/net/model.pt") == "['fc.weight']\n"
    assert asked("hf://ada/net/model.pt", HF_HUB_OFFLINE="1") == "['fc.weight']\n"
    server.shutdown()
    server.server_close()
    assert asked("hf://ada/net/model.pt") == "['fc.weight']\n"
    assert "cannot be fetched" in asked("hf://ada/net/other.pt") and "login node" in asked(
        "hf://ada/net/other.pt", HF_HUB_OFFLINE="1"
    )
    assert "Write hf://owner/name/model.safetensors." in asked("hf://ada")
