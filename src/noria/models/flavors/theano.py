"""Graphs of Theano's day, as PyTensor has them: operations by their names and arrays, so loading runs no code and unpickles nothing.

data/graph.json     inputs, operations in their order, outputs
data/arrays.npz     weights and constants, as NumPy's own arrays

    noria.models.save(Graph([x], {"p": y}), "folder")       shared variables are kept with the values that they have

Kept are feed-forward graphs: arithmetic, products, sums, softmax, shapes, indices, convolve2d. A Scan is not, nor what draws
random numbers. Operations are known by the names of PyTensor's public functions, not of its classes, so that releases may differ.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noria.errors import Invalid, NotFound, Unsupported
from noria.models.flavors import Saved, damaged, kept, library
from noria.models.predictor import Predict

_GRAPH, _ARRAYS = "graph.json", "arrays.npz"
_FORMAT = 1
_ELEMENTWISE = {
    **{name: name.lower() for name in (
        "LT", "GT", "LE", "GE", "EQ", "NEQ", "IsNan", "IsInf", "Switch", "Invert", "Maximum", "Minimum", "Add", "Mul", "Sub", "Mod", "Pow",
        "Clip", "Second", "Abs", "Sign", "Floor", "Ceil", "Neg", "Reciprocal", "Log", "Log2", "Log10", "Log1p", "Exp", "Expm1", "Sqr",
        "Sqrt", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Tanh", "Erf", "Sigmoid", "Softplus")},
    "AND": "and_", "OR": "or_", "XOR": "xor", "TrueDiv": "true_div", "IntDiv": "int_div", "RoundHalfToEven": "round",
    "ArcTan": "arctan", "Trunc": "trunc", "Identity": "identity",
}  # fmt: skip
_REDUCED = {"Sum": "sum", "Prod": "prod", "Max": "max", "Min": "min", "All": "all", "Any": "any", "Argmax": "argmax"}
_ALIKE = {"SpecifyShape", "TensorFromScalar", "ScalarFromTensor"}
_CURE = "Rebuild that part of the graph, or export the model to ONNX."


class Graph:
    """Inputs and named outputs, all of them PyTensor's variables; without names outputs are output_0, output_1 and so on."""

    def __init__(self, inputs: Sequence[Any], outputs: Mapping[str, Any] | Sequence[Any]) -> None:
        self.inputs = list(inputs)
        named = outputs if isinstance(outputs, Mapping) else {f"output_{at}": each for at, each in enumerate(outputs)}
        self.outputs = dict(named)
        self.names = [variable.name or f"input_{at}" for at, variable in enumerate(self.inputs)]
        if not self.inputs or not self.outputs or len(set(self.names)) != len(self.names):
            raise Invalid("A graph needs inputs of different names, and an output.", "Name them: pytensor.tensor.matrix('x').")


def weights(path: str | Path) -> Any:
    """The arrays of a pickle that holds nothing else. Raises NotFound, or Invalid for one that would make something else."""
    from noria.models.sound import pickled

    file = Path(path)
    if not file.is_file():
        raise NotFound(f"There is no file {file}.", "Check the path.")
    try:
        return pickled.arrays(file)
    except ValueError as error:
        raise Invalid(
            f"{file} is no pickle of arrays alone: {error!s:.200}.", "Take its arrays out where you trust it: numpy.savez."
        ) from None


def claims(model: object) -> bool:
    return isinstance(model, Graph)


def save(model: Graph, data: Path) -> Saved:
    import numpy as np

    pytensor = library("pytensor", "theano")
    said, constants = _Writer(model).written()
    (data / _GRAPH).write_text(json.dumps(said, indent=1))
    np.savez(data / _ARRAYS, **constants)
    return Saved({"pytensor_version": pytensor.__version__, "format": _FORMAT}, [f"pytensor=={pytensor.__version__}"])


class _Writer:
    """A graph as values: first inputs, then arrays, then what each operation makes of values before it."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, list[dict[str, Any]]()
        self.found: dict[Any, int | str] = {variable: at for at, variable in enumerate(graph.inputs)}
        self.constants = dict[str, Any]()

    def written(self) -> tuple[dict[str, Any], dict[str, Any]]:
        from pytensor.graph.traversal import io_toposort

        outputs = list(self.graph.outputs.values())
        for node in io_toposort(self.graph.inputs, outputs):
            self._node(node)
        inputs = [{"name": name, "dtype": str(one.type.dtype), "shape": list(one.type.shape)}
                  for name, one in zip(self.graph.names, self.graph.inputs, strict=True)]  # fmt: skip
        kept = {name: self._value(one) for name, one in self.graph.outputs.items()}
        return {"format": _FORMAT, "inputs": inputs, "nodes": self.nodes, "outputs": kept}, self.constants

    def _value(self, variable: Any) -> int | str:
        """The place of a variable: a number, or the name of an array."""
        import numpy as np

        if variable not in self.found:
            if variable.owner is not None or not hasattr(variable.type, "dtype"):
                raise Unsupported(f"The graph holds a {variable.type}, which cannot be kept.", _CURE)
            given = variable.get_value(borrow=True) if hasattr(variable, "get_value") else getattr(variable, "data", None)
            if given is None:
                raise Invalid(
                    f"The graph needs {variable}, which is not among its inputs.", "Name all of them: Graph([x, y], ...)."
                )
            array = np.asarray(given, dtype=variable.type.dtype)
            name = self.found[variable] = f"a{len(self.constants)}"
            self.constants[name] = array
        return self.found[variable]

    def _node(self, node: Any) -> None:
        if type(node.op).__name__ in _ALIKE:
            self.found[node.outputs[0]] = self._value(node.inputs[0])
            return
        name, given = _described(node)
        inputs = list(node.inputs)
        if name == "convolve2d":
            given["mode"] = "full" if _fixed(inputs.pop()) else "valid"
        if name == "join":
            given["axis"] = int(_fixed(inputs.pop(0)))
        self.nodes.append({"op": name, "inputs": [self._value(one) for one in inputs], **given})
        self.found[node.outputs[0]] = len(self.graph.inputs) + len(self.nodes) - 1


def _fixed(variable: Any) -> Any:
    while variable.owner is not None and type(variable.owner.op).__name__ in ("DimShuffle", *_ALIKE):
        variable = variable.owner.inputs[0]
    if getattr(variable, "data", None) is None:
        raise Unsupported(f"The graph computes {variable}, which must be a constant to be kept.", _CURE)
    return variable.data


def _described(node: Any) -> tuple[str, dict[str, Any]]:
    """The name of a node's operation, and its settings as JSON has them."""
    op = node.op
    kind = type(op).__name__
    if kind == "Elemwise":
        part = type(op.scalar_op).__name__
        if part == "Cast":
            return "cast", {"dtype": str(op.scalar_op.o_type.dtype)}
        if part in _ELEMENTWISE:
            return _ELEMENTWISE[part], {}
        kind = f"Elemwise of {part}"
    if kind == "Blockwise":
        kind = type(op.core_op).__name__
        op = op.core_op
    if kind in _REDUCED:
        axis = None if op.axis is None else [int(each) for each in op.axis]
        return _REDUCED[kind], {
            "axis": axis,
            **({"dtype": op.dtype, "acc_dtype": op.acc_dtype} if kind in ("Sum", "Prod") else {}),
        }
    if kind in ("Subtensor", "AdvancedSubtensor", "IncSubtensor", "AdvancedIncSubtensor"):
        return _indexed(kind, op)
    plain = {
        "Dot": "dot",
        "Shape": "shape",
        "Join": "join",
        "AdvancedSubtensor1": "take",
        "MakeVector": "make_vector",
        "Alloc": "alloc",
    }
    settings: dict[str, tuple[str, Any]] = {"DimShuffle": ("dimshuffle", "new_order"), "Softmax": ("softmax", "axis"), "LogSoftmax": ("log_softmax", "axis"),
                "Reshape": ("reshape", "ndim"), "Shape_i": ("shape_i", "i"), "Convolve2d": ("convolve2d", "method")}  # fmt: skip
    if kind in plain:
        return plain[kind], {}
    if kind in settings and hasattr(op, settings[kind][1]):
        name, attribute = settings[kind]
        value = getattr(op, attribute)
        return name, {attribute: list(value) if isinstance(value, tuple) else value}
    raise Unsupported(f"The graph holds the operation {kind}, which cannot be kept.", _CURE)


def _indexed(kind: str, op: Any) -> tuple[str, dict[str, Any]]:
    """Indices as numbers of inputs after the first (two, where something is put there); a slice as three of them."""
    index = [[each.start, each.stop, each.step] if isinstance(each, slice) else each for each in op.idx_list]
    flat = [one for each in index for one in (each if isinstance(each, list) else [each])]
    if not all(one is None or type(one) is int for one in flat):
        raise Unsupported("The graph holds an index of a kind that cannot be kept.", _CURE)
    if "Inc" in kind:
        return ("set" if op.set_instead_of_inc else "increase"), {"index": index}
    return "index", {"index": index}


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Graph:
    file, beside = (kept(data, f"{data.name}/{name}") for name in (_GRAPH, _ARRAYS))
    library("pytensor", "theano")
    try:
        said = json.loads(file.read_text())
        if said["format"] != _FORMAT:
            raise ValueError(f"it is of the format {said['format']}")
        return _read(said, _loaded(beside))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        zipfile.BadZipFile,
        RecursionError,
        OverflowError,
    ) as error:
        raise damaged(file, error) from None


def _loaded(file: Path) -> dict[str, Any]:
    """Its arrays. One that would unpack to more than the file itself is refused before it is."""
    import numpy as np

    with zipfile.ZipFile(file) as archive:
        if sum(info.file_size for info in archive.infolist()) > file.stat().st_size:
            raise ValueError(f"{file.name} holds more than it should")
    with np.load(file, allow_pickle=False) as archive:
        return dict(archive)


def _read(said: Mapping[str, Any], constants: Mapping[str, Any]) -> Graph:
    from pytensor import tensor

    values: list[Any] = [
        tensor.tensor(str(each["name"]), dtype=each["dtype"], shape=tuple(each["shape"])) for each in said["inputs"]
    ]
    inputs = list(values)

    def value(place: int | str) -> Any:
        if isinstance(place, str):
            return tensor.constant(constants[place])
        if not 0 <= place < len(values):
            raise ValueError("an operation asks for what comes after it")
        return values[place]

    for node in said["nodes"]:
        made = _made(tensor, str(node["op"]), [value(place) for place in node["inputs"]], node)
        values.append(made)
    return Graph(inputs, {str(name): value(place) for name, place in said["outputs"].items()})


def _made(tensor: Any, op: str, given: list[Any], said: Mapping[str, Any]) -> Any:
    if op in _ELEMENTWISE.values():
        return getattr(tensor, op)(*given)
    if op in _REDUCED.values():
        options = {name: said[name] for name in ("dtype", "acc_dtype") if said.get(name)}
        axis = said["axis"]
        return getattr(tensor, op)(
            given[0], axis=axis[0] if op == "argmax" and axis and len(axis) == 1 else axis and tuple(axis), **options
        )
    if op in ("index", "set", "increase"):
        return _indexing(tensor, op, given, said["index"])
    makers = {
        "cast": lambda: tensor.cast(given[0], said["dtype"]),
        "dot": lambda: tensor.matmul(*given) if min(one.ndim for one in given) > 1 else tensor.dot(*given),
        "shape": lambda: given[0].shape,
        "shape_i": lambda: given[0].shape[said["i"]],
        "take": lambda: given[0][given[1]],
        "make_vector": lambda: tensor.stack(given),
        "alloc": lambda: tensor.alloc(*given),
        "dimshuffle": lambda: given[0].dimshuffle(said["new_order"]),
        "softmax": lambda: tensor.special.softmax(given[0], axis=_axis(said["axis"])),
        "log_softmax": lambda: tensor.special.log_softmax(given[0], axis=_axis(said["axis"])),
        "reshape": lambda: given[0].reshape(given[1], ndim=said["ndim"]),
        "join": lambda: tensor.join(said["axis"], *given),
        "convolve2d": lambda: tensor.signal.convolve2d(*given, mode=said["mode"], method=said["method"]),
    }
    if op not in makers:
        raise ValueError(f"it holds the operation {op:.40}, which is not known here")
    return makers[op]()


def _axis(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _indexing(tensor: Any, op: str, given: list[Any], index: list[Any]) -> Any:
    first, *rest = given
    put = rest.pop(0) if op != "index" else None

    def one(place: int | None) -> Any:
        if place is None:
            return None
        if place < 0:
            raise ValueError("an index asks for what is not there")
        return rest[place]

    part = first[tuple(slice(*map(one, each)) if isinstance(each, list) else one(each) for each in index)]
    return part if put is None else (tensor.set_subtensor if op == "set" else tensor.inc_subtensor)(part, put)


def predictor(model: Graph) -> Predict:
    """Run operation by operation in NumPy: no compiler is needed. Several inputs or outputs go by their names in a dict."""
    import numpy as np

    pytensor = library("pytensor", "theano")
    mode = pytensor.compile.mode.Mode(linker="py", optimizer="fast_compile")
    function = pytensor.function(model.inputs, list(model.outputs.values()), mode=mode, on_unused_input="ignore")
    dtypes = [one.type.dtype for one in model.inputs]

    def predict(batch: Any) -> Any:
        given = batch if isinstance(batch, dict) else {model.names[0]: batch}
        if set(given) != set(model.names):
            raise Invalid(f"This model's inputs are {', '.join(model.names)}.", "Send arrays by their names.")
        try:
            answers = function(*(np.asarray(given[name], dtype) for name, dtype in zip(model.names, dtypes, strict=True)))
        except (ValueError, TypeError, IndexError) as error:
            reason = str(error).partition("\n")[0]
            raise Invalid(f"The model does not take this input ({reason:.200}).", "Send what it was made for.") from None
        found = {name: np.asarray(answer) for name, answer in zip(model.outputs, answers, strict=True)}
        return next(iter(found.values())) if len(found) == 1 else found

    return predict


class _PyFunc:
    """What mlflow.pyfunc calls: arrays, data frames and dicts of arrays in, arrays out."""

    def __init__(self, model: Graph) -> None:
        self._predict = predictor(model)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return self._predict(data)


def _load_pyfunc(path: str) -> _PyFunc:
    return _PyFunc(load(Path(path), {}))
