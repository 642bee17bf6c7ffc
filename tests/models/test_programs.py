"""Modules, TorchScript and exported programs of PyTorch, saved by Noria and by MLflow, each loaded by the other; and those that do more."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from noria import models
from noria.errors import Forbidden, Invalid
from tests.conftest import need

need("torch")
from noria.models.sound import pt2, torchscript
from noria.train import architectures

pytestmark = pytest.mark.usefixtures("unsealed")

X = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
PICTURES = np.random.default_rng(1).random((4, 1, 12, 12)).astype(np.float32)
WORDS = np.random.default_rng(2).integers(0, 20, (4, 7))


class Two(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.first(x) + self.second(y)
        return hidden.softmax(1), hidden.argmax(1)


class Filled(nn.Module):
    """Takes what is missing for nothing, and branches on its size."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = torch.where(torch.isnan(x), torch.zeros_like(x), x)
        return self.line(whole).squeeze(1) / whole.shape[0]


class Read(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.memory, self.out = nn.Embedding(20, 4), nn.GRU(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.out(self.memory(self.words(ids))[0][:, -1])
        return found


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(20, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(self.words(ids)).mean(1)
        return found


def stack(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


MADE: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "number": (lambda: stack(nn.Linear(5, 1)), X),
    "binary": (lambda: stack(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid()), X),
    "kinds": (lambda: stack(nn.Linear(5, 3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 3), nn.Softmax(1)), X),
    "normed": (lambda: stack(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.GELU()), X),
    "pictures": (lambda: stack(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 3)), PICTURES),
    "up": (lambda: stack(nn.ConvTranspose2d(1, 2, 3, 2), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(3)), PICTURES),
    "words": (Read, WORDS),
    "attention": (Attentive, WORDS),
    "missing": (Filled, np.where(X > 1, np.nan, X).astype(np.float32)),
    "two": (Two, {"x": X, "y": X[:, :3]}),
    "whole numbers": (lambda: stack(nn.Embedding(20, 3), nn.Flatten(), nn.Linear(21, 2)), WORDS),
}


def made(name: str) -> tuple[nn.Module, Any, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    make, x = MADE[name]
    return make().eval(), x, tuple(map(torch.from_numpy, x.values() if isinstance(x, dict) else [x]))


def exported(name: str) -> Any:
    model, _, given = made(name)
    return torch.export.export(model, given, dynamic_shapes=tuple({0: torch.export.Dim.AUTO} for _ in given), strict=False)


def scripted(name: str) -> Any:
    return torch.jit.script(made(name)[0])


def wanted(name: str) -> Any:
    model, _, given = made(name)
    with torch.inference_mode():
        out = model(*given)
    return [each.numpy() for each in out] if isinstance(out, tuple) else [out.numpy()]


def ask(folder: Path, x: Any, **options: Any) -> list[Any]:
    found = models.load(folder, **options).predict(x)
    return list(found.values()) if isinstance(found, dict) else [found]


def check(found: list[Any], name: str) -> None:
    """A compiler may add up in another order than the module itself."""
    for one, other in zip(found, wanted(name), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


KINDS: dict[str, Callable[[str], Any]] = {"script": scripted, "exported": exported}


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own, and of torch.jit
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MADE)
def test_a_program_goes_both_ways_between_noria_and_mlflow(name: str, kind: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    model, x, given = made(name)
    models.save(KINDS[kind](name), tmp_path / "ours")
    check(ask(tmp_path / "ours", x), name)
    with torch.inference_mode():
        theirs = mlflow.pytorch.load_model(str(tmp_path / "ours"))(*given)
    check([each.numpy() for each in (theirs if isinstance(theirs, (tuple, list)) else [theirs])], name)
    if name != "two":  # Its pyfunc takes one tensor.
        check([mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x)], name)
    options: dict[str, Any] = {"pip_requirements": ["torch"]}
    if kind == "script":
        mlflow.pytorch.save_model(KINDS[kind](name), tmp_path / "theirs", serialization_format="pickle", **options)
    elif name != "two":
        mlflow.pytorch.save_model(model, tmp_path / "theirs", serialization_format="pt2", input_example=x, **options)
    if (tmp_path / "theirs").exists():
        check(ask(tmp_path / "theirs", x), name)


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize("name", [name for name in MADE if name not in ("two", "missing")])
def test_a_pickled_module_goes_both_ways_if_it_is_trusted(name: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    model, x, _ = made(name)
    models.save(model, tmp_path / "ours")
    mlflow.pytorch.save_model(model, tmp_path / "theirs", serialization_format="pickle", pip_requirements=["torch"])
    check([mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x)], name)
    for folder in ("ours", "theirs"):
        with pytest.raises(Forbidden, match="is a pickle"):
            models.load(tmp_path / folder)
        check(ask(tmp_path / folder, x, allow_pickle=True, in_process=True), name)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_that_is_cut_off_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    models.save(KINDS[kind]("kinds"), tmp_path / "m")
    file = next(path for path in (tmp_path / "m" / "data").iterdir() if path.suffix in (".pt2", ".pth"))
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises((Invalid, Forbidden)) as said:
        models.load(tmp_path / "m")
    assert "\n" not in str(said.value)


def with_text(old: bytes, new: bytes, file: Path) -> None:
    """A TorchScript archive in which one text stands for another."""
    records = {name: content.replace(old, new) if name.endswith(".py") else content for name, content in contents(file).items()}
    writer = torch._C.PyTorchFileWriter(str(file))
    for name, content in records.items():
        if not name.startswith(".data/") and name not in ("version", "byteorder"):
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()


def contents(file: Path) -> dict[str, bytes]:
    reader = torch._C.PyTorchFileReader(str(file))
    return {name: reader.get_record(name) for name in reader.get_all_records()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("text", [
    b"torch.save(input, \"{}\")", b"ops.aten.save(input, \"{}\")", b"(input).save(\"{}\")", b"getattr(torch, \"sa\\x76e\")(input, \"{}\")",
    b"getattr(torch, \"sa\" \"ve\")(input, \"{}\")", b"torch . save (input, \"{}\")", b"torch.from_file(\"/etc/passwd\", False, 9)",
    b"ops.c10d.barrier()", b"ops . symm_mem.x()", b"ops.prim.rpc_sync(\"a\", input)", b"__torch__.torch.classes.dist_c10d.FileStore(\"{}\", 1)",
])  # fmt: skip
def test_torchscript_that_does_more_than_compute_is_refused(text: bytes, tmp_path: Path) -> None:
    models.save(torch.jit.script(nn.Sequential(nn.ReLU())), tmp_path / "m")
    file = tmp_path / "m" / "data" / "model.pth"
    with_text(b"result = torch.relu(input)", b"result = " + text.replace(b"{}", str(tmp_path / "sprung").encode()), file)
    with pytest.raises(Forbidden, match="does more than to compute") as said:
        models.load(tmp_path / "m")
    assert "\n" not in str(said.value) and not (tmp_path / "sprung").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_that_is_trusted_may_write(tmp_path: Path) -> None:
    """What is refused is what really happens otherwise."""

    class Saves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x)

    models.save(torch.jit.script(Saves()), tmp_path / "m")
    with_text(
        b"return torch.relu(x)",
        b'torch.save(x, "%s")\n    return x' % str(tmp_path / "sprung").encode(),
        tmp_path / "m" / "data" / "model.pth",
    )
    with pytest.raises(Forbidden):
        models.load(tmp_path / "m")
    ask(tmp_path / "m", X, allow_pickle=True, in_process=True)
    assert (tmp_path / "sprung").exists()


def test_what_torchscript_writes_is_let_through() -> None:
    for text in (
        b'_0 = getattr(getattr(self.layers, "0"), "1")',
        b'x = ops.prim.RaiseException("no")',
        b"y = ops.quantized.linear(x)",
    ):
        torchscript.check({"code/a.py": text}, {"data.pkl": b"c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n"})


def change(file: Path, **records: Any) -> None:
    """An exported program's records, each replaced by what a function makes of it, or dropped."""
    with zipfile.ZipFile(file) as archive:
        held = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    for name, made_of in records.items():
        place = {
            "graph": "models/model.json",
            "weights": "data/weights/model_weights_config.json",
            "inputs": "data/sample_inputs/model.pt",
        }.get(name, name)
        if place.endswith(".json"):
            value = json.loads(held[place])
            made_of(value)
            held[place] = json.dumps(value).encode()
        else:
            held[place] = made_of
    writer = torch._C.PyTorchFileWriter(str(file))
    for name, content in held.items():
        if not name.startswith(".data/") and name not in ("version", "byteorder"):
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()


def in_node(name: str, value: Any) -> Callable[[Any], None]:
    return lambda graph: graph["graph_module"]["graph"]["nodes"][0].__setitem__(name, value)


def size(text: str) -> Callable[[Any], None]:
    def put(graph: Any) -> None:
        for value in graph["graph_module"]["graph"]["tensor_values"].values():
            value["sizes"] = [{"as_expr": {"expr_str": text, "hint": {"as_int": 2}}}]

    return put


def spec(**fields: Any) -> Callable[[Any], None]:
    def put(graph: Any) -> None:
        signature = graph["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = json.dumps([1, {"type": None, "context": None, "children_spec": [], **fields}])

    return put


def pickled(name: str) -> Callable[[Any], None]:
    def put(config: Any) -> None:
        entry = next(iter(config["config"].values()))
        entry.update({"use_pickle": True} if name == "pickle" else {"path_name": name})

    return put


FACTORY = json.dumps({"default_factory_module": "antigravity", "default_factory_name": "geohash", "dict_context": []})
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a function of the system": ({"graph": in_node("target", "torch.os.system")}, "uses torch.os.system"),
    "a function of Python": ({"graph": in_node("target", "_operator.methodcaller")}, "uses _operator.methodcaller"),
    "what a class has": ({"graph": in_node("target", "torch.ops.aten.__class__.mro")}, "uses torch.ops.aten.__class__"),
    "a file": ({"graph": in_node("target", "torch.ops.aten.from_file.default")}, "uses torch.ops.aten.from_file"),
    "a name that is code": ({"graph": in_node("name", "x = __import__('os').system('id')")}, "has the name"),
    "an input that is code": ({"graph": lambda graph: graph["graph_module"]["graph"]["inputs"][0]["as_tensor"].update(name="x=(y:=1)")}, "has the name"),
    "a size that is code": ({"graph": size("__import__('os').system('id')")}, "has the size"),
    "a size of parts": ({"graph": size("Symbol('s0').__class__")}, "has the size"),
    "a size called": ({"graph": size("exec(chr(105))")}, "has the size"),
    "a factory": ({"graph": spec(type="collections.defaultdict", context=FACTORY)}, "takes or gives"),
    "pickled weights": ({"weights": pickled("pickle")}, "is a pickle"),
    "weights elsewhere": ({"weights": pickled("../../secret")}, "is a pickle"),
    "an object": ({"weights": pickled("custom_obj_0")}, "is a pickle"),
    "a library": ({"data/aotinductor/model/a.so": b"\x7fELF"}, "holds data/aotinductor"),
    "weights of old": ({"data/weights/model.pt": b"pickle"}, r"holds data/weights/model\.pt"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_an_archive_that_is_more_than_a_graph_is_refused(what: str, tmp_path: Path) -> None:
    models.save(exported("kinds"), tmp_path / "m")
    records, why = BAD[what]
    change(tmp_path / "m" / "data" / "model.pt2", **records)
    with pytest.raises(Forbidden, match=why) as said:
        models.load(tmp_path / "m")
    assert "\n" not in str(said.value)


class Trap:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.place,))


def test_examples_in_an_archive_are_not_unpickled_and_its_guards_not_run(tmp_path: Path) -> None:
    models.save(exported("kinds"), tmp_path / "m")
    file, buffer = tmp_path / "m" / "data" / "model.pt2", io.BytesIO()
    change(file, graph=lambda graph: graph.update(guards_code=[f"__import__('pathlib').Path('{tmp_path}/sprung').touch()"]))
    check(ask(tmp_path / "m", X), "kinds")
    torch.save(Trap(tmp_path / "sprung"), buffer)
    change(file, inputs=buffer.getvalue())
    with pytest.raises(Invalid, match="cannot be read"):
        models.load(tmp_path / "m")
    assert not (tmp_path / "sprung").exists()


def test_a_graph_that_leads_nowhere_is_one_sentence(tmp_path: Path) -> None:
    for at, part in enumerate(("graph_module", "range_constraints", "schema_version")):
        models.save(exported("kinds"), tmp_path / str(at))
        change(tmp_path / str(at) / "data" / "model.pt2", graph=lambda graph, part=part: graph.pop(part))
        with pytest.raises(Invalid, match="cannot be read") as said:
            models.load(tmp_path / str(at))
        assert "\n" not in str(said.value)


def test_a_size_may_be_computed() -> None:
    symbol = "Symbol('s77', positive=True, integer=True)"
    for text in (symbol, f"Mul(Integer(2), {symbol})", f"FloorDiv({symbol}, 2) + 1", f"Max(1, {symbol}**2)"):
        pt2._expression(text)


def test_inputs_go_by_their_names(tmp_path: Path) -> None:
    models.save(exported("two"), tmp_path / "m")
    check(ask(tmp_path / "m", {"y": X[:, :3], "x": X}), "two")
    with pytest.raises(Invalid, match="no input z"):
        ask(tmp_path / "m", {"z": X})


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize("width", [2, 3, 5, 8, 13])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_architectures_of_any_width_come_back(name: str, width: int, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pictures = np.random.default_rng(width).random((2, 1, 28, 28)).astype(np.float32)
    model = architectures.build(name, width=width).eval()
    models.save(model, tmp_path / "m")
    with torch.inference_mode():
        wanted = model(torch.from_numpy(pictures)).numpy()
    assert np.array_equal(models.load(tmp_path / "m").predict(pictures), wanted)
    assert np.array_equal(mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(pictures), wanted)
