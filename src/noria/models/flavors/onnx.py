"""Models in ONNX, in the layout of MLflow's own flavor `onnx`, run by ONNX Runtime on the CPU; loading runs no code.

model.onnx         beside MLmodel, where MLflow's loader looks for it
model.onnx.data    its weights, where they are too large for one file of protobuf (2 GiB)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noria.errors import Invalid, NoriaError, Unsupported
from noria.models.flavors import Saved, damaged, kept, library
from noria.models.predictor import Predict

LOADER = "mlflow.onnx"
_FILE = "model.onnx"
_LARGEST = 2**31 - 1
_EXTERNAL = 1  # TensorProto.DataLocation
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"}
_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(int64)": "int64",
           "tensor(int32)": "int32", "tensor(int16)": "int16", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}  # fmt: skip


def claims(model: object) -> bool:
    onnx = sys.modules.get("onnx")
    return onnx is not None and isinstance(model, onnx.ModelProto)


def save(model: Any, data: Path) -> Saved:
    onnx, runtime = library("onnx", "onnx"), library("onnxruntime", "onnx")
    file = data.parent / _FILE
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < _LARGEST // 2:
        onnx.save_model(model, file)
    else:
        onnx.save_model(model, file, save_as_external_data=True, location=f"{_FILE}.data")
        onnx.load_external_data_for_model(model, str(file.parent))  # Saving took the weights out of it.
    _check(file, file.parent)
    data.rmdir()
    entry = {"onnx_version": onnx.__version__, "data": _FILE, "providers": ["CPUExecutionProvider"], "code": None,
             "onnx_session_options": None}  # fmt: skip
    return Saved(entry, [f"onnx=={onnx.__version__}", f"onnxruntime=={runtime.__version__}"], {"data": _FILE})


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    file = kept(data, entry.get("data", _FILE))
    _check(file, kept(data, "MLmodel").parent)
    return _session(str(file), file)


def _check(file: Path, root: Path) -> None:
    """What ONNX Runtime would be told to read, looked at before it does. Raises Invalid or Unsupported."""
    onnx = library("onnx", "onnx")
    if file.stat().st_size > _LARGEST:
        raise damaged(file, "it is larger than protobuf allows")
    try:
        model = onnx.load_model(file, load_external_data=False)
        for tensor in _tensors(model):
            if tensor.data_location == _EXTERNAL:
                _check_external(tensor, file, root)
        onnx.checker.check_model(str(file))
    except NoriaError:
        raise
    except Exception as error:  # Protobuf's and the checker's own, which have no common base.
        raise damaged(file, error) from None
    if strange := sorted({each.domain for each in model.opset_import} - _DOMAINS):
        raise Unsupported(f"The model in {file.parent} needs operations of {', '.join(strange)}, which ONNX Runtime has not.",
                          "Export it with the operations of ONNX alone.")  # fmt: skip


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors in it: weights, constants, and those of graphs inside of graphs."""
    left = [model]
    while left:
        message = left.pop()
        if message.DESCRIPTOR.name == "TensorProto":
            yield message
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                left += [value] if hasattr(value, "ListFields") else list(value)


def _check_external(tensor: Any, file: Path, root: Path) -> None:
    said = {entry.key: entry.value for entry in tensor.external_data}
    place = (file.parent / said.get("location", "")).resolve()
    if not place.is_relative_to(root):
        raise Invalid(f"The model in {root} points to data outside of its folder.", "Do not trust it; get it again.")
    if not place.is_file():
        raise Invalid(
            f"The model in {root} is incomplete: it has no {place.name} with its weights.", "Get it again, with all files."
        )
    offset, length = int(said.get("offset", 0)), int(said.get("length", 0))
    if offset < 0 or length < 0 or offset + length > place.stat().st_size:
        raise damaged(place, f"{tensor.name} goes past its end")


def _session(content: str | bytes, name: object) -> Any:
    runtime = library("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own have no common base.
        raise Invalid(f"{name} cannot be run: {' '.join(str(error).split()):.200}.", "Export it anew.") from None


def predictor(model: Any) -> Predict:
    """Several inputs come as a table's columns or as a dict of arrays; several outputs go as one."""
    session = model if hasattr(model, "get_inputs") else _session(model.SerializeToString(), "The model")
    inputs, names = session.get_inputs(), [output.name for output in session.get_outputs()]

    def predict(batch: Any) -> Any:
        try:
            answers = [
                _array(answer) for answer in session.run(names, {one.name: _fed(one, batch, len(inputs)) for one in inputs})
            ]
        except NoriaError:
            raise
        except Exception as error:  # ONNX Runtime's own have no common base.
            raise Invalid(
                f"The model does not take this input ({' '.join(str(error).split()):.200}).", "Send what it was made for."
            ) from None
        return answers[0] if len(answers) == 1 else dict(zip(names, answers, strict=True))

    return predict


def _fed(wanted: Any, batch: Any, count: int) -> Any:
    """What one input is fed with, in its own type."""
    import numpy as np

    named = isinstance(batch, dict) or (count > 1 and hasattr(batch, "columns"))
    if count > 1 and not named:
        raise Invalid(f"This model has {count} inputs.", "Send arrays by their names.")
    if named and wanted.name not in batch:
        raise Invalid(f"The input {wanted.name} is missing.", "Send arrays by their names.")
    array = np.asarray(batch[wanted.name] if named else batch)
    if array.ndim == 1 and len(wanted.shape) == 2 and wanted.shape[1] == 1:
        array = array.reshape(-1, 1)  # A table's column.
    dtype = np.dtype(_DTYPES.get(wanted.type, array.dtype))
    fits = array.dtype.kind == dtype.kind or (array.dtype.kind in "iu" and dtype.kind in "iuf")
    return array.astype(dtype, copy=False) if fits else array


def _array(answer: Any) -> Any:
    """As an array; a list of tables, in which classifiers of other libraries give probabilities, by its sorted keys."""
    import numpy as np

    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        return np.array([[row[key] for key in sorted(row)] for row in answer])
    return np.asarray(answer)
