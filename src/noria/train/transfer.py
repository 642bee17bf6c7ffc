"""From a model that has learned something else to one for the task at hand: its weights, a new head, what stays as it is, and slower
rates for what was learned first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noria.errors import Invalid, NotFound, Unsupported
from noria.train.optimizers import Optimizer

HUB = "hf://"


def weights(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file: safetensors, or what torch.save wrote (a state dict, alone or under "state_dict" or "model"). Runs no code.
    "hf://owner/name/file" is one of Hugging Face's hub, or of where HF_ENDPOINT says; what was fetched once is kept, for nodes without a
    network.

    Raises NotFound, Invalid for a file that is none of these or holds anything but tensors, Unsupported without the package safetensors,
    or huggingface_hub.
    """
    path = _fetched(path) if isinstance(path, str) and path.startswith(HUB) else Path(path)
    if not path.is_file():
        raise NotFound(f"There is no file {path}.", "Give the file of a model's weights.")
    found = _safe(path) if path.suffix == ".safetensors" else _torch(path)
    for inside in ("state_dict", "model"):
        if isinstance(found.get(inside), Mapping):
            found = found[inside]  # type: ignore[assignment]  # just looked
    if not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise Invalid(f"{path} is no state dict: not all of it are tensors.", "Save model.state_dict().")
    return dict(found)


def _fetched(name: str) -> Path:
    owner, model, file = ([*name.removeprefix(HUB).split("/", 2), "", ""])[:3]
    if not file:
        raise Invalid(f"'{name}' names no file of a hub.", "Write hf://owner/name/model.safetensors.")
    try:
        hub = import_module("huggingface_hub")
    except ImportError:
        raise Unsupported(f"{name} needs the package huggingface_hub.", "pip install huggingface_hub") from None
    try:
        return Path(hub.hf_hub_download(f"{owner}/{model}", file))
    except Exception as error:  # Of requests, of the hub, or of the disk: all say it in their first line.
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise NotFound(f"{name} cannot be fetched: {reason}.",
                       "Fetch it where there is a network, such as a login node: it is kept for the others in HF_HOME.") from None  # fmt: skip


def _safe(path: Path) -> Mapping[str, Tensor]:
    try:
        loaded: Mapping[str, Tensor] = import_module("safetensors.torch").load_file(path)
    except ImportError:
        raise Unsupported(f"{path.name} needs the package safetensors.", "pip install safetensors") from None
    except Exception as error:  # Its own class, in Rust.
        raise Invalid(f"{path} cannot be read: {error}.", "Is it whole?") from None
    return loaded


def _torch(path: Path) -> Mapping[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Of many kinds: damage, pickles of code, other formats.
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise Invalid(
            f"{path} cannot be read as weights: {reason}.", "Give a file of torch.save(model.state_dict(), ...) or safetensors."
        ) from None
    return loaded if isinstance(loaded, Mapping) else {}


def transfer(model: nn.Module, source: Mapping[str, Tensor] | Path | str, *, head: str | None = None) -> list[str]:
    """Take over all weights that have the same name and shape, but none of the layer `head`. Returns the names that keep what they had.

    A prefix that all names have, such as "module.", is ignored. Raises Invalid if fewer than half of the model's numbers would come.
    """
    given = _bare(source if isinstance(source, Mapping) else weights(source))
    state = model.state_dict()
    taken = {name: tensor for name, tensor in given.items()
             if name in state and tensor.shape == state[name].shape and not (head and _within(name, head))}  # fmt: skip
    whole = sum(prod(each.shape) for name, each in state.items() if not (head and _within(name, head)))
    if sum(prod(each.shape) for each in taken.values()) < whole / 2:
        other = next((name for name in given if name not in taken), "none")
        raise Invalid(f"These weights are of another model: {len(taken)} of {len(state)} tensors have the same name and shape (not '{other}').",
                      "Build the architecture that they were trained with; docs/architectures.md says whose names ours have.")  # fmt: skip
    model.load_state_dict(taken, strict=False)
    return [name for name in state if name not in taken]


def _bare(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first = next(iter(given), "").partition(".")[0] + "."
    if first in ("module.", "model.", "_orig_mod.") and all(name.startswith(first) for name in given):
        return _bare({name.removeprefix(first): tensor for name, tensor in given.items()})
    return dict(given)


def _within(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


def new_head(model: nn.Module, num_classes: int) -> str:
    """Put a new linear layer in the place of the last one, for so many classes. Returns its name. Raises Invalid without one."""
    linear: list[str] = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise Invalid("This model has no linear layer that could be its head.", "Replace its last layer yourself.")
    old = model.get_submodule(linear[-1])
    assert isinstance(old, nn.Linear)
    model.set_submodule(linear[-1], nn.Linear(old.in_features, num_classes, old.bias is not None, device=old.weight.device))
    known = vars(model).pop("architecture", None)
    if known and "num_classes" in known[1]:  # As it will be built again when it is loaded.
        vars(model)["architecture"] = (known[0], {**known[1], "num_classes": num_classes})
    return linear[-1]


def freeze(model: nn.Module, *but: str) -> nn.Module:
    """Learn nothing but the layers of these names. The others do not change by a bit: what is batch-normalised keeps to the statistics that it
    has. `freeze(model, "")` thaws all of it."""
    for name, layer in model.named_modules():
        learns = any(not each or _within(name, each) for each in but)
        for weight in layer.parameters(recurse=False):
            weight.requires_grad_(learns)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            hooks = layer._forward_pre_hooks
            for kept in [number for number, hook in hooks.items() if hook is _as_learned]:
                del hooks[kept]
            if not learns:
                layer.register_forward_pre_hook(_as_learned)
    return model


def _as_learned(layer: nn.Module, _inputs: object) -> None:
    layer.eval()  # Whatever was said to the whole model before: `train()`, at the start of each epoch.


def lora(model: nn.Module, *layers: str, rank: int = 8, alpha: float = 16.0) -> nn.Module:
    """Learn nothing but two small matrices beside each of the layers whose names end so, of `rank` rows and columns; their product times
    alpha / rank is added to what the layer gives, nothing at first. `merged` makes one of both. A head may be thawed afterwards.

    Hu and others 2021, LoRA, by the package peft. Raises Invalid for names that there are not.
    """
    peft = _peft()
    vars(model)["adapted"] = vars(model).pop("architecture", None)  # With adapters it is another one.
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers)), freeze(model))
    except ValueError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise Invalid(
            f"There is nothing to adapt: {reason}.", "Name linear or convolutional layers, as in lora(model, 'c_attn')."
        ) from None
    return model


def merged(model: nn.Module) -> nn.Module:
    """With the adapters' part in the layers' own weights: as large as before, and of the same architecture."""
    kind = import_module("peft.tuners.tuners_utils").BaseTunerLayer if vars(model).pop("peft_config", None) else ()
    for name, layer in list(model.named_modules()):
        if isinstance(layer, kind):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    if known := vars(model).pop("adapted", None):
        vars(model)["architecture"] = known
    return freeze(model, "")


def _peft() -> Any:
    try:
        return import_module("peft")
    except ImportError:
        raise Unsupported("Adapters are made by the package peft, which is not installed.", "pip install 'noria[lora]'") from None


def slower_below(model: nn.Module, lr: float, *, by: float = 2.6, weight_decay: float = 0.01) -> Optimizer:
    """AdamW with the rate `lr` for the last of the model's children, divided by `by` for each one before it (Howard and Ruder 2018, ULMFiT)."""
    order = [name for name, _ in model.named_children()]

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        places: dict[nn.Parameter, int] = {}
        for name, child in model.named_children():  # Where weights lie by now, sharded perhaps.
            for weight in child.parameters():
                places.setdefault(weight, order.index(name))
        groups: dict[int, list[nn.Parameter]] = {}
        last = max(places.values(), default=0)
        for weight in parameters:
            groups.setdefault(last - places.get(weight, last), []).append(weight)
        rated = [{"params": together, "lr": lr / by**depth} for depth, together in sorted(groups.items())]
        return torch.optim.AdamW(rated, lr=lr, weight_decay=weight_decay)

    return make
