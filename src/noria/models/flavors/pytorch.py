"""Any other model of PyTorch, in the layout of MLflow's own flavor `pytorch`.

data/model.pt2                 a torch.export.ExportedProgram: a graph and weights; loading runs no code
data/model.pth                 a torch.jit.ScriptModule: a program in TorchScript, loaded if it computes only; or torch.save of any other
                               torch.nn.Module: a pickle, so loading it runs what it says
data/pickle_module_info.txt    the module that MLflow unpickles with
"""

from __future__ import annotations

import inspect
import io
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.errors import Forbidden, Invalid, Unsupported
from noria.models.flavors import TRUST, Saved, damaged, is_keras, is_transformers, kept, numbers, recipe
from noria.models.sound import pt2, torchscript

if TYPE_CHECKING:
    from torch import nn

    from noria.models.predictor import Predict

LOADER = "mlflow.pytorch"
_MODULE, _EXPORTED = "model.pth", "model.pt2"


def claims(model: object) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if _is_exported(model):
        return True
    return isinstance(model, torch.nn.Module) and recipe(model) is None and not is_keras(model) and not is_transformers(model)


def _is_exported(model: object) -> bool:
    export = sys.modules.get("torch.export")
    return export is not None and isinstance(model, export.ExportedProgram)


def save(model: Any, data: Path) -> Saved:
    import torch

    pickle = ""
    if _is_exported(model):
        torch.export.save(model, data / _EXPORTED)
        _check_exported(data / _EXPORTED)
    else:
        (data / "pickle_module_info.txt").write_text("pickle")
        pickle = _save_module(model, data / _MODULE)
    version = torch.__version__.partition("+")[0]
    return Saved({"pytorch_version": str(torch.__version__), "code": None}, [f"torch=={version}"], pickle=pickle)


def _save_module(model: nn.Module, file: Path) -> str:
    """Why it is a pickle, if it is one."""
    import torch

    if isinstance(model, torch.jit.ScriptModule):
        model.save(str(file))
        return ""
    try:
        torch.save(model, file)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise Invalid(f"This model cannot be pickled ({error}).", "Define its class at the top of a module.") from None
    return f"its class, {type(model).__qualname__}"


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    if (data / _EXPORTED).is_file() and not (data / _MODULE).exists():
        return _load_exported(kept(data, f"{data.name}/{_EXPORTED}"), allow_pickle)
    if _is_script(data / _MODULE):
        return _load_script(kept(data, f"{data.name}/{_MODULE}"), allow_pickle)
    return _load_pickle(data, allow_pickle)


def _records(file: Path) -> Any:
    """PyTorch's own reader, so that what is looked at is what it loads."""
    import torch

    try:
        return torch._C.PyTorchFileReader(str(file))
    except RuntimeError as error:
        raise damaged(file, str(error).partition("\n")[0]) from None


def _is_script(file: Path) -> bool:
    return zipfile.is_zipfile(file) and "constants.pkl" in _records(file).get_all_records()


def _load_script(file: Path, trusted: bool) -> Any:
    import torch

    records = _records(file)
    names = records.get_all_records()
    try:
        if not trusted:
            if strange := [name for name in names if name == "model.json"]:
                raise ValueError(f"it holds {strange[0]}, as archives of old did")
            torchscript.check({name: records.get_record(name) for name in names if name.startswith("code/") and name.endswith(".py")},
                              {name: records.get_record(name) for name in names if name.endswith(".pkl") and name.count("/") == 0})  # fmt: skip
        load: Any = torch.jit.load
        return load(str(file), map_location="cpu").eval()
    except ValueError as error:
        raise Forbidden(f"The TorchScript in {file.parent} does more than to compute: {error}.", TRUST) from None
    except (RuntimeError, OSError, AttributeError) as error:
        raise damaged(file, str(error).partition("\n")[0]) from None


def _check_exported(file: Path) -> dict[str, bytes]:
    records = _records(file)
    try:
        return pt2.cleaned({name: records.get_record(name) for name in records.get_all_records()})
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError, RuntimeError) as error:
        raise damaged(file, str(error).partition("\n")[0]) from None
    except ValueError as error:
        raise Forbidden(f"The program in {file.parent} is more than a graph: {error}.", TRUST) from None


def _load_exported(file: Path, trusted: bool) -> Any:
    import torch
    from torch.export.pt2_archive._package import load_pt2  # Without the traceback that torch.export.load prints.

    try:
        source: Any = str(file)
        if not trusted:
            records = _check_exported(file)
            torch.load(io.BytesIO(records["data/sample_inputs/model.pt"]), weights_only=True)  # Else it would be tried without.
            source = _archive(records)
        return _called(load_pt2(source).exported_programs["model"], trusted)
    except (Forbidden, Invalid):
        raise
    except Exception as error:  # Of many kinds, for a graph that is none.
        raise damaged(file, str(error).partition("\n")[0] or type(error).__name__) from None


def _called(program: Any, trusted: bool) -> Any:
    """Guards are Python, made of what the archive says; sizes are looked at without them too."""
    can_ask = "check_guards" in inspect.signature(program.module).parameters
    return program.module(check_guards=False) if can_ask and not trusted else program.module()


def _archive(records: Mapping[str, bytes]) -> io.BytesIO:
    import torch

    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name, content in records.items():
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    buffer.seek(0)
    return buffer


def _load_pickle(data: Path, trusted: bool) -> nn.Module:
    import torch

    file = data / _MODULE
    if not trusted:
        raise Forbidden(f"The model in {data} is a pickle: loading it would run whatever code it holds.", TRUST)
    if not file.is_file():
        raise Unsupported(f"The model in {data} is not a pickled module.", "Save it with serialization_format='pickle'.")
    try:
        model = torch.load(file, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise Unsupported(
            f"The model in {data} needs code that is not here ({error}).", "Install what defines its class."
        ) from None
    if not isinstance(model, torch.nn.Module):
        raise Invalid(f"{file} holds a {type(model).__name__}, not a model.", "Save the module itself, not its state dict.")
    return model.eval()


def predictor(model: Any) -> Predict:
    """Several inputs come as a dict of arrays, by the names of forward's arguments; several outputs go as one."""
    import torch

    module = model.module() if _is_exported(model) else model
    names = _arguments(module)

    @torch.inference_mode()
    def predict(batch: Any) -> Any:
        if isinstance(batch, dict):
            if strange := [name for name in batch if name not in names]:
                raise Invalid(f"The model has no input {strange[0]}.", f"It has: {', '.join(names)}.")
            given = [_tensor(batch[name]) for name in names if name in batch]
        else:
            given = [_tensor(numbers(batch))]
        return _answer(module(*given))

    return predict


def _arguments(module: Any) -> list[str]:
    schema = getattr(module.forward, "schema", None)  # TorchScript's
    if schema is not None:
        return [argument.name for argument in schema.arguments[1:]]
    return list(inspect.signature(module.forward).parameters)


def _tensor(array: Any) -> Any:
    import numpy as np
    import torch

    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _answer(out: Any) -> Any:
    import torch

    if isinstance(out, torch.Tensor):
        return out.numpy()
    found = (
        dict(out)
        if isinstance(out, Mapping)
        else {f"output_{at}": each for at, each in enumerate(out)}
        if isinstance(out, (tuple, list))
        else {}
    )
    if not found or not all(isinstance(each, torch.Tensor) for each in found.values()):
        raise Invalid(
            f"The model answers with a {type(out).__name__}, not with tensors.",
            "Wrap it so that it returns one tensor, or several.",
        )
    return {str(name): each.numpy() for name, each in found.items()}
