"""A loaded model: numpy in, numpy out, checked against the model's signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from noria.errors import Invalid
from noria.models.mlmodel import MLModel, TensorSpec

if TYPE_CHECKING:
    import numpy as np


class Predict(Protocol):
    """[n, ...] in, [n, ...] out; row i of the answer belongs to row i of the batch, whatever else is in it."""

    def __call__(self, batch: np.ndarray[Any, Any], /) -> np.ndarray[Any, Any]: ...


class Predictor:
    """A saved model, ready. `mlmodel` is what its folder says about it, `model` the object that the flavor loaded."""

    def __init__(self, folder: Path, mlmodel: MLModel, model: Any, predict: Predict) -> None:
        self.folder, self.mlmodel, self.model, self._predict = folder, mlmodel, model, predict

    @property
    def _input(self) -> TensorSpec | None:
        inputs = self.mlmodel.signature.inputs
        return inputs[0] if len(inputs) == 1 else None

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Of a batch, -1 where any length will do (first of all the batch's own); None if the model has no signature."""
        return self._input.shape if self._input else None

    @property
    def dtype(self) -> str | None:
        """The input's NumPy dtype, such as "float32"; None if the model has no signature."""
        return self._input.dtype if self._input else None

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        outputs = self.mlmodel.signature.outputs
        return outputs[0].shape if len(outputs) == 1 else None

    def check(self, batch: Any) -> np.ndarray[Any, Any]:
        """The batch as an array of the signature's dtype. Raises Invalid, naming both shapes, if it does not fit."""
        import numpy as np

        spec = self._input
        try:
            array = np.asarray(batch, dtype=spec.dtype if spec else None)
        except (TypeError, ValueError) as error:
            raise Invalid(f"The input is not an array of numbers ({error}).", "Send rows of equal length.") from None
        if spec and not _fits(array.shape, spec.shape):
            raise Invalid(f"The input has the shape {list(array.shape)}; this model takes {list(spec.shape)} (-1: any length).",
                          "Send a batch: the first length is the number of examples.")  # fmt: skip
        return array

    def predict(self, batch: Any) -> np.ndarray[Any, Any]:
        """Predictions for a batch of n examples, [n, ...]. Raises Invalid if the batch does not fit the signature."""
        return self._predict(self.check(batch))


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(want in (-1, have) for have, want in zip(shape, wanted, strict=True))
