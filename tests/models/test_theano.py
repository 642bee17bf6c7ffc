"""Graphs of Theano's day through PyTensor, kept without a pickle."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria import models
from noria.errors import Invalid, NotFound, Unsupported
from tests.conftest import need

need("pytensor")


import pytensor
import pytensor.tensor as pt

from noria.models.flavors.theano import Graph, weights

pytestmark = pytest.mark.usefixtures("unsealed")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(6, 5))
HOLES = np.where(RANDOM.random(X.shape) < 0.3, np.nan, X)
PICTURES = RANDOM.random((3, 7, 7)).astype(np.float32)


def weight(*shape: int, dtype: str = "float64") -> Any:
    return pytensor.shared(RANDOM.normal(size=shape).astype(dtype))


def dense(x: Any, out: int = 3) -> Any:
    return pt.dot(x, weight(5, out)) + weight(out)


def number() -> Graph:
    x = pt.matrix("x")
    return Graph([x], [dense(x, 1)[:, 0]])


def binary() -> Graph:
    x = pt.matrix("x")
    return Graph([x], [pt.sigmoid(dense(x, 1)) > 0.5])


def kinds() -> Graph:
    x = pt.matrix("x")
    return Graph([x], {"p": pt.special.softmax(pt.tanh(dense(x)), axis=-1)})


def two_outputs() -> Graph:
    x = pt.matrix("x")
    p = pt.exp(pt.special.log_softmax(dense(x), axis=1))
    return Graph([x], {"p": p, "kind": pt.argmax(p, axis=1)})


def two_inputs() -> Graph:
    x, y = pt.matrix("x"), pt.matrix("y")
    return Graph([x, y], [pt.concatenate([dense(x), y], axis=1).sum(axis=1)])


def missing() -> Graph:
    x = pt.matrix("x")
    return Graph([x], [dense(pt.switch(pt.isnan(x), 0.0, x))])


def words() -> Graph:
    ids = pt.lmatrix("ids")
    return Graph([ids], [weight(20, 4)[ids].mean(axis=1)])


def normed() -> Graph:
    x = pt.matrix("x")
    spread = pt.sqrt(pt.sqr(x - x.mean(axis=0)).mean(axis=0) + 1e-5)
    return Graph([x], [pt.maximum((x - x.mean(axis=0)) / spread, 0) * weight(5)])


def shapes() -> Graph:
    x = pt.matrix("x")
    return Graph([x], [x.reshape((x.shape[0], 5, 1)).max(axis=2)[::2, 1:4].dimshuffle(1, 0)])


def convolution() -> Graph:
    x = pt.tensor3("x", dtype="float32")
    found = pt.signal.convolve2d(x[:, None], weight(2, 3, 3, dtype="float32"), mode="valid")
    return Graph([x], [pt.maximum(found, 0).max(axis=(2, 3))])


def padded() -> Graph:
    x = pt.matrix("x")
    room = pt.zeros((x.shape[0], 7))
    return Graph([x], [pt.set_subtensor(room[:, 1:6], x) @ weight(7, 2)])


def whole_numbers() -> Graph:
    x = pt.lmatrix("x")
    return Graph([x], [pt.cast(x // 2 % 3, "float32") * np.float32(0.5)])


MADE: dict[str, tuple[Callable[[], Graph], Any]] = {
    "number": (number, X),
    "binary": (binary, X),
    "kinds": (kinds, X),
    "two outputs": (two_outputs, X),
    "two inputs": (two_inputs, {"x": X, "y": X[:, :2]}),
    "missing": (missing, HOLES),
    "words": (words, RANDOM.integers(0, 20, (6, 3))),
    "normed": (normed, X),
    "shapes": (shapes, X),
    "convolution": (convolution, PICTURES),
    "padded": (padded, X),
    "whole numbers": (whole_numbers, RANDOM.integers(0, 50, (4, 3))),
}


def answer(graph: Graph, x: Any) -> dict[str, Any]:
    mode = pytensor.compile.mode.Mode(linker="py", optimizer=None)
    function = pytensor.function(graph.inputs, list(graph.outputs.values()), mode=mode)
    return dict(zip(graph.outputs, function(*(x.values() if isinstance(x, dict) else [x])), strict=True))


def ask(folder: Path, x: Any) -> Any:
    return models.load(folder).predict(x)


def check(found: Any, wanted: dict[str, Any]) -> None:
    found = found if isinstance(found, dict) else {next(iter(wanted)): found}
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=1e-6)


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize("name", MADE)
def test_a_graph_is_kept_without_a_pickle_and_mlflow_asks_it(name: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    make, x = MADE[name]
    graph = make()
    models.save(graph, tmp_path / "m")
    found = ask(tmp_path / "m", x)
    check(found, answer(graph, x))
    theirs = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(x)
    assert json.dumps(theirs, default=np.ndarray.tolist) == json.dumps(found, default=np.ndarray.tolist)
    assert {path.name for path in (tmp_path / "m" / "data").iterdir()} == {"graph.json", "arrays.npz"}


def test_a_graph_that_is_loaded_is_saved_as_it_was(tmp_path: Path) -> None:
    models.save(kinds(), tmp_path / "one")
    models.save(models.load(tmp_path / "one").model, tmp_path / "two")
    one, two = ((tmp_path / name / "data" / "graph.json").read_text() for name in ("one", "two"))
    assert one == two


def test_a_graph_answers_what_numpy_does(tmp_path: Path) -> None:
    w, b, x = RANDOM.random((5, 3)), RANDOM.random(3), pt.matrix("x")
    graph = Graph([x], [pt.special.softmax(pt.tanh(pt.dot(x, pytensor.shared(w)) + pytensor.shared(b)), axis=-1)])
    models.save(graph, tmp_path / "m")
    raised = np.exp(np.tanh(X @ w + b))
    np.testing.assert_allclose(ask(tmp_path / "m", X), raised / raised.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize(("change", "why"), [
    (lambda said: said["nodes"][0].update(op="system"), "operation system, which is not known"),
    (lambda said: said["nodes"][0].update(op="__class__"), "is not known"),
    (lambda said: said["nodes"][0]["inputs"].__setitem__(0, 99), "what comes after it"),
    (lambda said: said["nodes"][0]["inputs"].__setitem__(0, -1), "what comes after it"),
    (lambda said: said["nodes"][0]["inputs"].__setitem__(0, "a99"), "a99"),
    (lambda said: said["inputs"][0].update(dtype="object"), "cannot be read"),
    (lambda said: said.update(format=7), "of the format 7"),
    (lambda said: said.pop("nodes"), "nodes"),
    (lambda said: said["outputs"].update(p=10**6), "what comes after it"),
])  # fmt: skip
def test_a_graph_of_something_else_is_one_sentence(change: Callable[[Any], Any], why: str, tmp_path: Path) -> None:
    models.save(kinds(), tmp_path / "m")
    file = tmp_path / "m" / "data" / "graph.json"
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))
    with pytest.raises(Invalid, match=why) as seen:
        models.load(tmp_path / "m")
    assert "\n" not in str(seen.value)


class Trap:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.place,))


@pytest.mark.parametrize("damage", ["cut", "pickle", "bomb", "gone", "link"])
def test_arrays_that_are_none_are_refused(damage: str, tmp_path: Path) -> None:
    models.save(kinds(), tmp_path / "m")
    file = tmp_path / "m" / "data" / "arrays.npz"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "pickle":
        np.savez(file, a0=np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    elif damage == "bomb":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a0.npy", bytes(10**7))
    else:
        other = file.rename(tmp_path / "elsewhere")
        if damage == "link":
            file.symlink_to(other)
    with pytest.raises(Invalid, match=r"cannot be read|incomplete|is a link|is damaged"):
        models.load(tmp_path / "m")
    assert not (tmp_path / "sprung").exists()


def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    x = pt.matrix("x")
    with pytest.raises(Unsupported, match="operation Cholesky, which cannot be kept"):
        models.save(Graph([x], [pt.linalg.cholesky(x)]), tmp_path / "m")
    with pytest.raises(Invalid, match="not among its inputs"):
        models.save(Graph([pt.matrix("y")], [x + 1]), tmp_path / "m")
    with pytest.raises(Invalid, match="different names"):
        Graph([x, x], [x])


def test_weights_of_theanos_day_are_read_and_nothing_else_is_made(tmp_path: Path) -> None:
    held = [RANDOM.random((5, 3)).astype(np.float32), {"b": np.arange(3)}, (1, "two", None)]
    for protocol in (0, 2, 4):
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(held, protocol))
        array, table, rest = weights(tmp_path / "w.pkl")
        assert np.array_equal(array, held[0]) and np.array_equal(table["b"], np.arange(3)) and rest == held[2]
    two = b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n(I1\n(I2\ntp6\ncnumpy\ndtype\np7\n" \
          b"(S'f4'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\np13\ntp14\nb."  # fmt: skip
    (tmp_path / "w.pkl").write_bytes(two)  # As Python 2 wrote [1, 2].
    assert weights(tmp_path / "w.pkl").tolist() == [1.0, 2.0]
    for bad in (Trap(tmp_path / "sprung"), np.array([print], dtype=object), np.array([1, "a"], dtype=object)):
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(bad))
        with pytest.raises(Invalid, match="no pickle of arrays alone"):
            weights(tmp_path / "w.pkl")
    (tmp_path / "w.pkl").write_bytes(b"\x80\x04\x95")
    with pytest.raises(Invalid, match="no pickle of arrays alone"):
        weights(tmp_path / "w.pkl")
    with pytest.raises(NotFound):
        weights(tmp_path / "gone.pkl")
    assert not (tmp_path / "sprung").exists()


def test_input_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    models.save(two_inputs(), tmp_path / "two")
    models.save(kinds(), tmp_path / "one")
    with pytest.raises(Invalid, match="inputs are x, y"):
        ask(tmp_path / "two", X)
    with pytest.raises(Invalid, match="does not take this input"):
        ask(tmp_path / "one", X[:, :2])
