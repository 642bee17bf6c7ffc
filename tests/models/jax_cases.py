"""Functions of JAX: saved by Noria, read by both; MLflow has no flavor of its own for them, so the way back is what it loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import require

pytest.importorskip("jax")
pytest.importorskip("safetensors")

import jax
import jax.numpy as jnp

from noria import models
from noria.errors import Forbidden, Invalid, NoriaError, Unsupported
from noria.models import digests

R = np.random.default_rng(0)
X = R.random((3, 4), dtype="float32")
W, B = R.random((4, 2), dtype="float32"), R.random(2, dtype="float32")


def attention(p: Any, x: Any) -> Any:
    return jax.nn.softmax(x @ p["k"] @ (x @ p["k"]).T) @ x


def scanned(p: Any, x: Any) -> Any:
    return jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, p)[0]


def convolved(p: Any, x: Any) -> Any:
    return jax.lax.conv_general_dilated(x[:, None, None, :], p, (1, 1), "SAME").mean(axis=(1, 2))


MADE: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "line": lambda: (lambda p, x: x @ p["w"] + p["b"], {"w": W, "b": B}, X),
    "layers": lambda: (lambda p, x: jax.nn.relu(x @ p[0]["w"]) @ p[1]["w"], [{"w": W}, {"w": W.T}], X),
    "softmax": lambda: (lambda p, x: jax.nn.softmax(x @ p), W, X),
    "no parameters": lambda: (lambda p, x: jnp.sin(x), {}, X),
    "two inputs": lambda: (lambda p, x: x["a"] * p + x["b"], np.float32(2), {"a": X, "b": X}),
    "two outputs": lambda: (lambda p, x: {"sum": x.sum(1), "most": x.argmax(1)}, {}, X),
    "embedding": lambda: (
        lambda p, x: jnp.take(p, x, axis=0).mean(1),
        R.random((10, 4), dtype="float32"),
        np.arange(6).reshape(2, 3) % 10,
    ),
    "scan": lambda: (scanned, R.random((3, 4, 4), dtype="float32"), X),
    "convolution": lambda: (convolved, R.random((2, 1, 1, 3), dtype="float32"), X),
    "half": lambda: (lambda p, x: (x.astype(jnp.bfloat16) @ p).astype(jnp.float32), jnp.asarray(W, jnp.float16), X),
    "brain": lambda: (lambda p, x: (x @ p).astype(jnp.float32), jnp.asarray(W, jnp.bfloat16), X),
    "solve": lambda: (
        lambda p, x: jnp.linalg.solve(p, x.T).T,
        R.random((4, 4), dtype="float32") + 4 * np.eye(4, dtype="float32"),
        X,
    ),
}


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MADE)
def test_a_function_goes_between_noria_and_mlflow(name: str, tmp_path: Path) -> None:
    require("mlflow", bool(pytest.importorskip("mlflow")), "pip install mlflow")
    import mlflow

    apply, params, x = MADE[name]()
    answer = jax.tree_util.tree_map(np.asarray, apply(params, x))
    models.save(models.JaxFunction(apply, params, x), tmp_path / "m", input_example=x)
    ours, theirs = models.load(tmp_path / "m"), mlflow.pyfunc.load_model(str(tmp_path / "m"))
    for found in (ours.predict(x), theirs.predict(x)):
        jax.tree_util.tree_map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, answer)
    longer = jax.tree_util.tree_map(lambda each: np.concatenate([each, each]), x)
    again = jax.tree_util.tree_map(np.asarray, apply(params, longer))
    jax.tree_util.tree_map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours.predict(longer), again)
    # What MLflow read it writes again, and that is read here.
    theirs.metadata.save(str(tmp_path / "m" / "MLmodel"))
    (tmp_path / "m" / digests.FILE).unlink()
    jax.tree_util.tree_map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), models.load(tmp_path / "m").predict(x), answer
    )


def test_an_exported_function_is_kept_as_it_is(tmp_path: Path) -> None:
    exported = jax.export.export(jax.jit(lambda x: x * 2))(jax.ShapeDtypeStruct(X.shape, X.dtype))
    models.save(exported, tmp_path / "m")
    np.testing.assert_array_equal(models.load(tmp_path / "m").predict(X), X * 2)


def test_code_that_is_not_xlas_own_is_neither_kept_nor_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(p: Any, x: Any) -> Any:
        return jax.pure_callback(lambda a: a, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    with pytest.raises(NoriaError):
        models.save(models.JaxFunction(calls, {}, X), tmp_path / "m")
    exported = jax.export.export(jax.jit(lambda x: x * 2))(jax.ShapeDtypeStruct(X.shape, X.dtype))
    from noria.models.flavors import jax as flavor

    models.save(exported, tmp_path / "m")
    monkeypatch.setattr(flavor, "_strange", lambda _: ["xla_python_cpu_callback"])
    with pytest.raises(Forbidden, match="xla_python_cpu_callback"):
        models.load(tmp_path / "m")
    with pytest.raises(Unsupported, match="not XLA's own"):
        models.save(exported, tmp_path / "n")


@pytest.mark.parametrize(
    "text", ["custom_call @xla_ffi_python_cpu_callback(%0)", 'stablehlo.custom_call @"evil"(%0)', '{call_target_name = "evil"}']
)
def test_calls_are_found_in_the_text_of_a_module(text: str) -> None:
    from noria.models.flavors import jax as flavor

    class Exported:
        def mlir_module(self) -> str:
            return text

    assert flavor._strange(Exported())


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    models.save(models.JaxFunction(lambda p, x: x @ p, W, X), tmp_path / "m")
    (tmp_path / "m" / digests.FILE).unlink()
    file = tmp_path / "m" / "data" / "function.jax"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(Invalid, match="is damaged"):
        models.load(tmp_path / "m")
    with pytest.raises(Invalid, match="cannot be exported for batches of any length"):
        models.save(models.JaxFunction(lambda p, x: x[int(x.sum())], {}, X), tmp_path / "n")
    assert json.loads((tmp_path / "m" / "data" / "params.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}")
