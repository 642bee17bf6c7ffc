"""A loaded model: arrays or a table in, arrays or a table out, checked against the model's signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from noria.errors import Invalid, NoriaError
from noria.models.enforce import enforce, parameters
from noria.models.infer import is_array, is_frame
from noria.models.mlmodel import MLModel
from noria.models.schema import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from noria.models.cage import Cage


class Predict(Protocol):
    """[n, ...] in, [n, ...] out; row i of the answer belongs to row i of the batch, whatever else is in it.

    In: an array, a DataFrame if the model's signature is of columns, or a dict of arrays if it names several tensors. Out: any of these.
    """

    def __call__(self, batch: Any, /) -> Any: ...


class Predictor:
    """A saved model, ready. `mlmodel` is what its folder says about it, `model` the object that the flavor loaded (None in a process of its own).

    load_seconds: what it took until it was ready, checks included. cage: the process that it runs in, if that is not this one.
    """

    def __init__(
        self, folder: Path, mlmodel: MLModel, model: Any, predict: Predict, *, seconds: float = 0.0, cage: Cage | None = None
    ) -> None:
        self.folder, self.mlmodel, self.model, self._predict = folder, mlmodel, model, predict
        self.load_seconds, self.cage = seconds, cage
        self._takes_params = len(inspect.signature(predict).parameters) > 1

    @property
    def _input(self) -> TensorSpec | None:
        tensors = self.mlmodel.signature.tensors
        return tensors[0] if len(tensors) == 1 else None

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Of a batch, -1 where any length will do (first of all the batch's own); None if the model's signature is no one tensor."""
        return self._input.shape if self._input else None

    @property
    def dtype(self) -> str | None:
        """The input's NumPy dtype, such as "float32"; None if the model's signature is no one tensor."""
        return self._input.dtype if self._input else None

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        outputs = self.mlmodel.signature.outputs
        return outputs[0].shape if len(outputs) == 1 and isinstance(outputs[0], TensorSpec) else None

    def check(self, batch: Any) -> Any:
        """The batch as the model takes it. Raises Invalid, with what does not fit and what would."""
        return enforce(batch, self.mlmodel.signature)

    def params(self, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The parameters with their defaults; None for a model that has none. Raises Invalid for one that it does not have."""
        return parameters(given, self.mlmodel.signature.params) or None

    def predict(self, batch: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Predictions for a batch of n examples: an array [n, ...], a DataFrame or a dict of arrays, as the model answers.

        batch: an array, lists, a DataFrame or a dict of arrays, as the signature says. Raises Invalid if the batch does not fit it.
        """
        return self.answer(self.check(batch), self.params(params))

    def answer(self, batch: Any, params: Mapping[str, Any] | None = None) -> Any:
        """As predict, for what `check` and `params` gave."""
        try:
            found = self._predict(batch, params) if params and self._takes_params else self._predict(batch)  # type: ignore[call-arg]  # It was asked above whether it takes them.
        except NoriaError:
            raise
        except MemoryError:
            raise Invalid("This batch asks for more memory than there is.", "Send fewer rows at once.") from None
        return _arrays(found)

    def close(self) -> None:
        """End the model's process, if it has one of its own."""
        if self.cage is not None:
            self.cage.close()


def _arrays(found: Any) -> Any:
    """Tensors of any library and lists of numbers as arrays; anything else as it is."""
    if is_array(found) or is_frame(found) or found is None or isinstance(found, str | bytes):
        return found
    if hasattr(found, "detach"):
        return found.detach().cpu().numpy()
    if isinstance(found, Mapping):
        return {str(name): _arrays(each) for name, each in found.items()}
    if hasattr(found, "to_numpy") and hasattr(found, "to_frame"):
        return found.to_numpy()
    if isinstance(found, list | tuple) and found and all(isinstance(each, bool | int | float) for each in found):
        return _asarray(found)
    return _asarray(found) if hasattr(found, "__array__") else found


def _asarray(found: Any) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.asarray(found)
