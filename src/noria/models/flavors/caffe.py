"""Models of Caffe, read by OpenCV's importer and run by its module dnn, so that old ones serve on; loading runs no code.

data/deploy.prototxt       the network
data/model.caffemodel      its weights

    noria.models.save(Net("deploy.prototxt", "model.caffemodel"), "folder")
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.errors import Invalid, NotFound
from noria.models.flavors import Saved, damaged, kept, library
from noria.models.predictor import Predict
from noria.models.sound import caffe

_NETWORK, _WEIGHTS = "deploy.prototxt", "model.caffemodel"
_LARGEST = 16 << 20
"""Bytes of a network's text; that of GoogLeNet has 36,000."""


class Net:
    """A network as its two files. Raises NotFound if one is missing, Invalid if they are no network with an input and weights."""

    def __init__(self, prototxt: str | Path, caffemodel: str | Path) -> None:
        self.prototxt, self.caffemodel = Path(prototxt), Path(caffemodel)
        for file in (self.prototxt, self.caffemodel):
            if not file.is_file():
                raise NotFound(f"There is no file {file}.", "A model of Caffe is two files: deploy.prototxt and a .caffemodel.")
        try:
            if self.prototxt.stat().st_size > _LARGEST:
                raise ValueError("it is too large for a network's text")
            text, weights = self.prototxt.read_bytes(), self.caffemodel.read_bytes()
            self.inputs = caffe.network(text.decode()).inputs
        except ValueError as error:
            raise damaged(self.prototxt, error) from None
        try:
            caffe.weights(weights)
        except ValueError as error:
            raise damaged(self.caffemodel, error) from None
        self.net = _imported(text, weights, self.prototxt)


def _imported(text: bytes, weights: bytes, file: Path) -> Any:
    import numpy as np

    cv2 = library("cv2", "caffe")
    try:
        return cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.frombuffer(weights, np.uint8))
    except cv2.error as error:
        raise Invalid(
            f"OpenCV cannot import {file}: {error.err or error!s:.200}.", "It knows the layers of Caffe's own release."
        ) from None


def claims(model: object) -> bool:
    return isinstance(model, Net)


def save(model: Net, data: Path) -> Saved:
    cv2 = library("cv2", "caffe")
    shutil.copyfile(model.prototxt, data / _NETWORK)
    shutil.copyfile(model.caffemodel, data / _WEIGHTS)
    return Saved(
        {"opencv_version": cv2.__version__, "inputs": list(model.inputs)}, [f"opencv-python-headless=={cv2.__version__}"]
    )


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Net:
    return Net(*(kept(data, f"{data.name}/{name}") for name in (_NETWORK, _WEIGHTS)))


def predictor(model: Net) -> Predict:
    """Several inputs come as a dict of arrays by the names in the network's text; several outputs go as one, by their layers'."""
    import numpy as np

    cv2, names = library("cv2", "caffe"), list(model.inputs)
    outputs = list(model.net.getUnconnectedOutLayersNames())

    def predict(batch: Any) -> Any:
        given = batch if isinstance(batch, dict) else {names[0]: batch}
        if set(given) != set(names):
            raise Invalid(f"This model's inputs are {', '.join(names)}.", "Send arrays by their names.")
        try:
            for name in names:
                model.net.setInput(np.ascontiguousarray(given[name], np.float32), name)
            answers = [np.array(answer) for answer in model.net.forward(outputs)]  # Copies: the next call writes into these.
        except (cv2.error, ValueError, TypeError) as error:
            reason = getattr(error, "err", "") or error
            raise Invalid(f"The model does not take this input ({reason!s:.200}).", f"Its shapes are {model.inputs}.") from None
        return answers[0] if len(answers) == 1 else dict(zip(outputs, answers, strict=True))

    return predict


class _PyFunc:
    """What mlflow.pyfunc calls: arrays, data frames and dicts of arrays in, arrays out."""

    def __init__(self, model: Net) -> None:
        self._predict = predictor(model)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return self._predict(data)


def _load_pyfunc(path: str) -> _PyFunc:
    return _PyFunc(load(Path(path), {}))
