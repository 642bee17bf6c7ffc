"""Functions and PythonModels, saved by Noria and by MLflow, each loaded by the other; here in a process without credentials."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import require

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("pandas")

import cloudpickle
import pandas as pd

from noria import models
from noria.errors import Forbidden, NoriaError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's own, of each class.
    from tests.models import python_models
    from tests.models.python_models import (
        Arrays,
        Bare,
        FromFile,
        Plain,
        Rows,
        Scale,
        Told,
        WithCode,
        Words,
        closure,
        function,
    )

pytestmark = [pytest.mark.slow, pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]
cloudpickle.register_pickle_by_value(python_models)  # Where they are loaded there are no tests.
X = np.random.default_rng(0).random((3, 4))
FRAME = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})


MADE: dict[str, tuple[Callable[[], Any], Any]] = {
    "scale": (lambda: Scale(3.0), X), "told": (Told, X), "bare": (Bare, X), "from a file": (FromFile, X), "with code": (WithCode, X),
    "rows": (Rows, FRAME), "words": (Words, pd.DataFrame({"text": ["a", "b"]})), "arrays": (Arrays, {"p": X, "q": X}),
    "function": (lambda: function, X), "closure": (lambda: closure(2.0), X),
}  # fmt: skip


def same(found: Any, known: Any) -> None:
    if isinstance(known, pd.DataFrame):
        pd.testing.assert_frame_equal(found, known, check_dtype=False)
    else:
        np.testing.assert_equal(found, known)


@pytest.mark.parametrize("name", MADE)
def test_a_function_goes_between_noria_and_mlflow(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mlflow", True, "")
    make, x = MADE[name]
    (tmp_path / "by.txt").write_text("5")
    (tmp_path / "helper_of_this_model.py").write_text("def twice(x):\n    return 2 * x\n")
    artifacts = {"by": str(tmp_path / "by.txt")} if name == "from a file" else {}
    code = [str(tmp_path / "helper_of_this_model.py")] if name == "with code" else []
    if code:
        monkeypatch.syspath_prepend(str(tmp_path))
    model = make()
    models.save(models.Custom(model, artifacts, code), tmp_path / "ours", input_example=x)
    known = mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x)
    with pytest.raises(Forbidden, match="allow_pickle=True"):
        models.load(tmp_path / "ours")
    ours = models.load(tmp_path / "ours", allow_pickle=True)
    assert ours.cage is not None
    same(ours.predict(x), known)
    ours.close()
    mlflow.pyfunc.save_model(str(tmp_path / "theirs"), python_model=model if name != "function" else Plain(), artifacts=artifacts or None,
                             code_paths=code or None, pip_requirements=["numpy"], signature=mlflow.models.infer_signature(x))  # fmt: skip
    theirs = models.load(tmp_path / "theirs", allow_pickle=True)
    same(theirs.predict(x), mlflow.pyfunc.load_model(str(tmp_path / "theirs")).predict(x))
    theirs.close()


def test_parameters_reach_the_function(tmp_path: Path) -> None:
    models.save(Told(), tmp_path / "m", input_example=X, params={"by": 2.0})
    model = models.load(tmp_path / "m", allow_pickle=True)
    np.testing.assert_array_equal(model.predict(X), X * 2)
    np.testing.assert_array_equal(model.predict(X, {"by": 3.0}), X * 3)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(X, params={"by": 3.0}), X * 3)
    with pytest.raises(NoriaError, match="no parameter to"):
        model.predict(X, {"to": 1})


def test_code_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "gone_by_then.py").write_text("def f(batch):\n    return batch\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import gone_by_then  # type: ignore[import-not-found]

        models.save(gone_by_then.f, tmp_path / "m")
    with pytest.raises(NoriaError, match="needs code that is not here"):
        models.load(tmp_path / "m", allow_pickle=True)
