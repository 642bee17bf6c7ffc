from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

import numpy as np
import torch

from noria import models
from noria.errors import AlreadyExists, Forbidden, Invalid, NotFound, Unsupported
from noria.models import mlmodel
from noria.models.flavors import FLAVORS
from noria.models.mlmodel import MLModel, Signature, TensorSpec
from noria.models.schema import ColSpec
from noria.train import architectures

X = np.random.default_rng(0).random((3, 1, 28, 28), dtype=np.float32)


def answer(model: torch.nn.Module) -> Any:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_an_architecture_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model = architectures.build(name, width=6)
    assert model.architecture[0] == name  # type: ignore[index]
    assert model.architecture[1]["width"] == 6  # type: ignore[index]
    models.save(model, tmp_path / "model", input_example=X)
    assert model.training
    predictor = models.load(tmp_path / "model")
    np.testing.assert_array_equal(predictor.predict(X), answer(model))
    np.testing.assert_allclose(predictor.predict(X[:1]), answer(model)[:1], atol=1e-6)
    assert (predictor.input_shape, predictor.dtype, predictor.output_shape) == ((-1, 1, 28, 28), "float32", (-1, 10))


def test_the_folder_is_what_mlflow_expects(tmp_path: Path) -> None:
    written = models.save(architectures.build("mlp"), tmp_path / "m", input_example=X, run_id="a" * 32, artifact_path="model",
                          metadata={"test_accuracy": 0.98})  # fmt: skip
    content = yaml.safe_load((tmp_path / "m" / "MLmodel").read_text())
    pyfunc = content["flavors"]["python_function"]
    assert pyfunc["loader_module"] == "noria.models.flavors.pytorch_state"
    assert (tmp_path / "m" / pyfunc["data"]).is_dir()
    assert json.loads(content["signature"]["inputs"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 28, 28]}}
    ]
    assert (content["run_id"], content["artifact_path"], content["metadata"]) == ("a" * 32, "model", {"test_accuracy": 0.98})
    assert content["model_size_bytes"] > 100_000
    assert np.asarray(json.loads((tmp_path / "m" / "serving_input_example.json").read_text())["inputs"]).shape == X.shape
    requirements = (tmp_path / "m" / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("torch==") and "+" not in line for line in requirements)
    assert yaml.safe_load((tmp_path / "m" / "conda.yaml").read_text())["dependencies"][-1] == {"pip": requirements}
    again = mlmodel.read(tmp_path / "m")
    assert (again.signature, again.model_uuid, again.run_id) == (written.signature, written.model_uuid, written.run_id)
    assert again.size == content["model_size_bytes"]


@pytest.mark.filterwarnings("ignore")  # mlflow's own, at its import
def test_mlflow_loads_and_predicts(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    model = architectures.build("cnn", width=4)
    models.save(model, tmp_path / "m", input_example=X)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(X), answer(model))


def test_the_loader_that_mlflow_calls(tmp_path: Path) -> None:
    from noria.models.flavors import pytorch_state

    model = architectures.build("mlp")
    models.save(model, tmp_path / "m")
    loaded = pytorch_state._load_pyfunc(str(tmp_path / "m" / "data"))
    np.testing.assert_array_equal(loaded.predict(X), answer(model))
    np.testing.assert_allclose(loaded.predict(X.astype(np.float64)), answer(model), atol=1e-6)


def test_another_module_is_a_pickle_and_loads_only_if_trusted(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 2))
    with pytest.warns(UserWarning, match="kept as a pickle, because of its class, Sequential"):
        models.save(model, tmp_path / "m", input_example=X)
    assert (tmp_path / "m" / "data" / "pickle_module_info.txt").read_text() == "pickle"
    assert mlmodel.read(tmp_path / "m").flavors["python_function"]["loader_module"] == "mlflow.pytorch"
    with pytest.raises(Forbidden, match="allow_pickle=True"):
        models.load(tmp_path / "m")
    trusted = models.load(tmp_path / "m", allow_pickle=True)
    np.testing.assert_array_equal(trusted.predict(X), answer(model))
    assert trusted.model is None and trusted.cage is not None
    here = models.load(tmp_path / "m", allow_pickle=True, in_process=True)
    np.testing.assert_array_equal(here.predict(X), answer(model))
    assert isinstance(here.model, torch.nn.Module) and here.cage is None


def test_loading_weights_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    models.save(architectures.build("mlp"), tmp_path / "m")
    torch.save({"layers.1.weight": Trap()}, tmp_path / "m" / "data" / "state.pt")
    with pytest.raises(Invalid, match=r"'data/state.pt' was changed"):
        models.load(tmp_path / "m")
    (tmp_path / "m" / "noria.digests.json").unlink()
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        models.load(tmp_path / "m")
    assert not (tmp_path / "sprung").exists()


def test_data_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    models.save(architectures.build("mlp"), tmp_path / "m")
    file = tmp_path / "m" / "MLmodel"
    file.write_text(file.read_text().replace("model_data: data", "model_data: ../other"))
    with pytest.raises(Invalid, match="outside"):
        models.load(tmp_path / "m")


def test_inputs_that_do_not_fit_are_refused_with_both_shapes(tmp_path: Path) -> None:
    models.save(architectures.build("mlp"), tmp_path / "m", input_example=X)
    predictor = models.load(tmp_path / "m")
    assert predictor.predict(X.tolist()).shape == (3, 10)
    with pytest.raises(Invalid, match=r"\[28, 28\]; this model takes \[-1, 1, 28, 28\]"):
        predictor.predict(X[0, 0])
    with pytest.raises(Invalid, match="array of numbers"):
        predictor.predict([[1.0], [1.0, 2.0]])


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    models.save(architectures.build("mlp"), tmp_path / "a")
    first = models.digest(tmp_path / "a")
    assert first == models.digest((tmp_path / "a").rename(tmp_path / "b"))
    (tmp_path / "b" / "extra").write_text("")
    assert models.digest(tmp_path / "b") != first
    with pytest.raises(NotFound):
        models.digest(tmp_path / "a")


def test_a_save_that_fails_leaves_nothing_and_none_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="pytorch_state"):
        models.save(object(), tmp_path / "m")
    with pytest.raises(RuntimeError):
        models.save(architectures.build("mlp"), tmp_path / "m", input_example=X[:, :, :5])
    assert list(tmp_path.iterdir()) == []
    models.save(architectures.build("mlp"), tmp_path / "m")
    with pytest.raises(AlreadyExists):
        models.save(architectures.build("mlp"), tmp_path / "m")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file MLmodel"):
        models.load(tmp_path)
    (tmp_path / "MLmodel").write_text("flavors: [1")
    with pytest.raises(Invalid, match="cannot be read"):
        models.load(tmp_path)
    (tmp_path / "MLmodel").write_text("flavors: {prophet: {}}")
    with pytest.raises(Unsupported, match="prophet"):
        models.load(tmp_path)


def test_what_mlflow_wrote_is_kept_when_it_is_read_and_written() -> None:
    text = yaml.safe_dump({
        "flavors": {"python_function": {"loader_module": "mlflow.sklearn"}, "sklearn": {"pickled_model": "model.pkl"}},
        "mlflow_version": "3.17.2", "model_id": None, "model_uuid": "u", "utc_time_created": "2026-01-02 03:04:05.000006",
        "signature": {"inputs": '[{"type": "double", "name": "x", "required": true}]', "outputs": None, "params": None},
    })  # fmt: skip
    read = mlmodel.loads(text)
    assert read.signature == Signature((ColSpec("double", "x"),))
    assert yaml.safe_load(mlmodel.dumps(read)) == yaml.safe_load(text)
    named = MLModel({}, Signature((TensorSpec("int64", (-1, 8), "ids"),), ()))
    assert mlmodel.loads(mlmodel.dumps(named)).signature == named.signature


@pytest.mark.parametrize("name", FLAVORS.names())
def test_no_flavor_claims_what_is_not_its(name: str) -> None:
    assert not FLAVORS.get(name).claims(object())


def test_asking_who_claims_a_model_does_not_import_torch() -> None:
    code = (
        "import sys\nfrom noria.models.flavors import FLAVORS\n"
        "assert not any(FLAVORS.get(name).claims(object()) for name in FLAVORS.names())\n"
        "import noria.models, noria.train\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_an_architecture_refuses_what_it_does_not_know() -> None:
    with pytest.raises(Invalid, match="depth"):
        architectures.build("mlp", depth=3)
    with pytest.raises(Invalid, match=r"alexnet, .*cnn, "):
        architectures.build("resnet999")
