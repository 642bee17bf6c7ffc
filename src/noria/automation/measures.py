"""What a model's answers on held-out examples come to. Pure: arrays in, numbers out.

`Examples` are arrays of one length, one entry for each held-out example:
    classification   y (labels), predicted (labels), right (bool), and loss (float64, natural logarithm) where there are scores
    regression       absolute and squared (float64), the errors, averaged over the outputs of an example
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from noria.errors import Invalid

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Examples = Mapping[str, "Array"]
Task = Literal["classification", "regression"]
_CLASSES = 100
"""More are no longer told one by one."""
_LEAST = 1e-15


def judged(x_out: Array, y: Array, task: Task | None = None) -> tuple[Task, str, dict[str, Array]]:
    """The task, what the outputs were taken for, and the examples.

    x_out: a model's outputs, [n] or [n, k]; y: [n], or [n, ...] of numbers for regression. Without a task it is regression if y holds
    fractions or several numbers for an example. Raises Invalid if they do not fit together.
    """
    import numpy as np

    out, y = np.asarray(x_out), np.asarray(y)
    if len(out) != len(y):
        raise Invalid(f"The model gave {len(out)} answers to {len(y)} examples.", "Its answers cannot be compared with y.")
    if task is None:
        task = "regression" if y.dtype.kind == "f" and (y.ndim > 1 or bool((y != np.floor(y)).any())) else "classification"
    if task == "regression":
        return task, "values", _errors(out, y)
    kind, predicted, loss = _classes(out, y)
    examples = {"y": y, "predicted": predicted, "right": predicted == y}
    return task, kind, {**examples, "loss": loss} if loss is not None else examples


def _errors(out: Array, y: Array) -> dict[str, Array]:
    import numpy as np

    if out.dtype.kind not in "biuf" or y.dtype.kind not in "biuf" or out.size != y.size:
        raise Invalid(f"Answers of shape {list(out.shape)} cannot be compared with y of shape {list(y.shape)}.", "Check y.")
    error = (out.reshape(len(y), -1).astype(np.float64) - y.reshape(len(y), -1).astype(np.float64)) if len(y) else out
    return {"absolute": np.abs(error).mean(axis=1), "squared": np.square(error).mean(axis=1)}


def _classes(out: Array, y: Array) -> tuple[str, Array, Array | None]:
    """What the outputs are, the label of each example, and its loss if there are scores."""
    import numpy as np

    if y.ndim != 1:
        raise Invalid(f"y has the shape {list(y.shape)}, and a class is one label.", "Write y as [n].")
    if out.ndim == 2 and out.shape[1] == 1:
        out = out[:, 0]
    if out.ndim == 1 and out.dtype.kind == "f" and set(np.unique(y).tolist()) <= {0, 1} and _within(out):
        return "probabilities", (out >= 0.5).astype(y.dtype), _loss(np.stack([1 - out, out], axis=1), y)
    if out.ndim == 1:
        return "labels", out.astype(y.dtype) if out.dtype.kind in "biuf" and y.dtype.kind in "biuf" else out, None
    if out.ndim != 2 or y.dtype.kind not in "biuf":
        raise Invalid(f"Answers of shape {list(out.shape)} are no classes for y of {y.dtype}.",
                      "A model answers labels, [n], or one score for each of the classes 0, 1, …, [n, k].")  # fmt: skip
    scores = out.astype(np.float64)
    sure = bool((scores >= 0).all() and (np.abs(scores.sum(axis=1) - 1) < 1e-3).all())
    return (
        "probabilities" if sure else "scores",
        out.argmax(axis=1).astype(y.dtype),
        _loss(scores if sure else _softmax(scores), y),
    )


def _within(out: Array) -> bool:
    return bool(((out >= 0) & (out <= 1)).all())


def _softmax(scores: Array) -> Array:
    import numpy as np

    with np.errstate(invalid="ignore", over="ignore"):  # A model that answers infinities has a loss of NaN.
        raised: Array = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances: Array = raised / raised.sum(axis=1, keepdims=True)
        return chances


def _loss(chances: Array, y: Array) -> Array:
    """Minus the logarithm of the chance that the right class was given; that of a class that the model does not know is the least."""
    import numpy as np

    label = y.astype(np.int64)
    known = (label >= 0) & (label < chances.shape[1])
    given = np.where(known, chances[np.arange(len(y)), np.where(known, label, 0)], 0.0)
    loss: Array = -np.log(np.clip(given.astype(np.float64), _LEAST, 1.0))
    return loss


def _accuracy(examples: Examples) -> float:
    return float(examples["right"].mean())


def _recalls(examples: Examples) -> dict[Any, float]:
    import numpy as np

    return {label: float(examples["right"][examples["y"] == label].mean()) for label in np.unique(examples["y"]).tolist()}


def _balanced(examples: Examples) -> float:
    found = _recalls(examples)
    return sum(found.values()) / len(found)


def _f1(examples: Examples) -> float:
    """The mean over the classes that occur, in y or among the answers."""
    import numpy as np

    y, predicted = examples["y"], examples["predicted"]
    labels = np.unique(np.concatenate([y, predicted]))
    both = [
        (float(((y == each) & (predicted == each)).sum()), float((y == each).sum() + (predicted == each).sum()))
        for each in labels
    ]
    return sum(2 * hits / total for hits, total in both) / len(both)


def _mean(name: str) -> Callable[[Examples], float]:
    return lambda examples: float(examples[name].mean())


MEASURES: dict[str, tuple[str, int, Callable[[Examples], float]]] = {
    "accuracy": ("right", 1, _accuracy),
    "balanced_accuracy": ("", 1, _balanced),
    "f1": ("", 1, _f1),
    "log_loss": ("loss", -1, _mean("loss")),
    "rmse": ("squared", -1, lambda examples: float(examples["squared"].mean() ** 0.5)),
    "mae": ("absolute", -1, _mean("absolute")),
}
"""By name: the array whose mean it comes from ("" for none), whether more is better (1) or less (-1), and how it is computed."""
_NEEDS = {"balanced_accuracy": "right", "f1": "predicted"}
_RECALL = "recall."


def names(examples: Examples) -> list[str]:
    """The measures that these examples have, without those of single classes."""
    return [name for name, (array, _, _) in MEASURES.items() if (array or _NEEDS[name]) in examples]


def measure(examples: Examples, name: str) -> float:
    """One measure; `recall.LABEL` is the accuracy on the examples of that class. Raises Invalid, with those there are."""
    if name.startswith(_RECALL) and "right" in examples:
        return float(examples["right"][_of(examples, name)].mean())
    if name not in names(examples):
        raise unknown(examples, name)
    return MEASURES[name][2](examples)


def unknown(examples: Examples, name: str) -> Invalid:
    known = names(examples) + ([f"{_RECALL}CLASS"] if "right" in examples else [])
    return Invalid(
        f"'{name}' is not measured on held-out examples (there are: {', '.join(known) or 'none'}).", "Name another one."
    )


def _of(examples: Examples, name: str) -> Array:
    import numpy as np

    found: Array = np.asarray([str(each) for each in examples["y"].tolist()]) == name.removeprefix(_RECALL)
    if not found.any():
        raise Invalid(f"No held-out example is of the class '{name.removeprefix(_RECALL)}'.", "Name another one.")
    return found


def sign(name: str) -> int:
    """1 if more is better, -1 if less is."""
    return MEASURES[name][1] if name in MEASURES else 1


def every(examples: Examples) -> dict[str, float]:
    """All measures, and the recall of each class if there are not too many."""
    recalls = _recalls(examples) if "right" in examples else {}
    single = {f"{_RECALL}{label}": value for label, value in recalls.items()} if len(recalls) <= _CLASSES else {}
    return {**{name: measure(examples, name) for name in names(examples)}, **single}


def each(examples: Examples, name: str) -> Array:
    """How good each answer is by a measure that is a mean over examples, more being better: float64, [n]. Raises Invalid for others."""
    import numpy as np

    array = MEASURES.get(name, ("", 1, None))[0]
    if not array or array not in examples:
        raise Invalid(
            f"'{name}' is no mean over examples, so its slices cannot be judged.", "Take accuracy, log_loss, rmse or mae."
        )
    value: Array = examples[array].astype(np.float64) * sign(name)
    return value


def rows(examples: Examples, chosen: Array) -> dict[str, Array]:
    """The examples of these numbers, or of this mask."""
    return {name: array[chosen] for name, array in examples.items()}
