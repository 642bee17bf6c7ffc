"""Why a model says what it says: which values count, where a convolutional network looks, what a Transformer attends to.

What counts for a class is asked of captum (extra `explain`), imported at the first use. The model is in eval mode meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import noria.client.made as client
from noria.errors import Invalid, Unsupported
from noria.train.figures import rows


def integrated_gradients(model: nn.Module, inputs: Tensor, classes: Tensor | None = None, *, steps: int = 50) -> Tensor:
    """How much each value adds to the logit of the class (int64 [n], by default the likeliest), beside an input of nothing but 0.

    float [n, ...] as the inputs; of tokens [n, time]. It sums up to the difference of the two logits, but for what `steps` leaves out.
    Sundararajan, Taly and Yan 2017, Axiomatic Attribution for Deep Networks.
    """
    with _asked(model):
        classes = _likeliest(model, inputs) if classes is None else classes
        if inputs.is_floating_point():
            asked = _captum().IntegratedGradients(model)
            found: Tensor = asked.attribute(inputs.detach(), target=classes, n_steps=steps, internal_batch_size=len(inputs))
            return found.detach()
        asked = _captum().LayerIntegratedGradients(model, _last(model, nn.Embedding, first=True))
        words: Tensor = asked.attribute(inputs, target=classes, n_steps=steps)
        return words.detach().sum(-1)


def grad_cam(model: nn.Module, inputs: Tensor, classes: Tensor | None = None, *, layer: str | None = None) -> Tensor:
    """Where the model sees the class: float [n, 1, height, width] from 0 on, as large as the pictures.

    layer: the name of the one whose maps are weighed, by default the last convolution. Selvaraju and others 2017, Grad-CAM.
    """
    with _asked(model):
        classes = _likeliest(model, inputs) if classes is None else classes
        seen = model.get_submodule(layer) if layer is not None else _last(model, nn.Conv2d)
        maps: Tensor = (
            _captum()
            .LayerGradCam(model, seen)
            .attribute(inputs.detach().clone().requires_grad_(), target=classes, relu_attributions=True)
        )
        return F.interpolate(maps.detach(), inputs.shape[2:], mode="bilinear", align_corners=False)


def attention(model: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """What each token looks at, float [n, heads, time, time looked at], for each time that the model attends, in its order.

    A row sums up to 1. It works for whatever calls torch's attention: nn.MultiheadAttention, or scaled_dot_product_attention.
    """
    watch = _Watch()
    with _asked(model), torch.no_grad(), watch:
        model(*inputs)
    if not watch.seen:
        raise Invalid(f"{type(model).__name__} attends to nothing.", "Ask for its grad_cam or integrated_gradients.")
    return watch.seen


def explain(
    model: nn.Module, inputs: Tensor, classes: Tensor | None = None, *, layer: str | None = None, file: str = "explained.png"
) -> dict[str, Tensor]:
    """Keep a figure in the run, on rank 0: pictures [n, channels, height, width] with what counts in them, or what a text's tokens look at.

    Returns what is drawn: "integrated gradients" and "Grad-CAM" of pictures, else "attention" of the last layer.
    """
    if inputs.ndim == 4:
        found = {"integrated gradients": integrated_gradients(model, inputs, classes).abs().mean(1, keepdim=True)}
        if layer is not None or any(isinstance(each, nn.Conv2d) for each in model.modules()):
            found["Grad-CAM"] = grad_cam(model, inputs, classes, layer=layer)
        pictures = {"inputs": _stretched(inputs)}
    else:
        found, pictures = {"attention": attention(model, inputs)[-1].mean(1, keepdim=True)}, {}
    if os.environ.get("RANK", "0") == "0":
        client.log_figure(rows({**pictures, **{name: _stretched(each) for name, each in found.items()}}), file)
    return found


class _Watch(TorchFunctionMode):
    """Has attention say its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.multi_head_attention_forward:
            out: Any = function(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
            self.seen.append(out[1].detach())
            return out
        if function is F.scaled_dot_product_attention:
            self.seen.append(_weights(*args, **kwargs))
        return function(*args, **kwargs)


def _weights(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
             scale: float | None = None, **_others: Any) -> Tensor:  # fmt: skip
    """softmax(query key / sqrt(width)), as torch documents its function."""
    near = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        near = near.masked_fill(torch.ones(near.shape[-2:], dtype=torch.bool, device=near.device).triu(1), -torch.inf)
    if attn_mask is not None:
        near = near.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else near + attn_mask
    return near.softmax(-1)


@contextmanager
def _asked(model: nn.Module) -> Iterator[None]:
    learning = {name: layer.training for name, layer in model.named_modules()}
    model.eval()
    try:
        yield
    finally:
        for name, layer in model.named_modules():
            layer.training = learning[name]


@torch.no_grad()
def _likeliest(model: nn.Module, inputs: Tensor) -> Tensor:
    out: Tensor = model(inputs)
    if out.ndim != 2:
        raise Invalid(f"This model gives {list(out.shape)} and no logits of classes.", "Explain one that gives [n, classes].")
    return out.argmax(1)


def _last(model: nn.Module, kind: type[nn.Module], *, first: bool = False) -> nn.Module:
    found = [layer for layer in model.modules() if isinstance(layer, kind)]
    if not found:
        raise Invalid(f"{type(model).__name__} has no {kind.__name__}.", "Name a layer, or ask for integrated_gradients.")
    return found[0 if first else -1]


def _stretched(pictures: Tensor) -> Tensor:
    """Each from 0 to 1."""
    low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
    return (pictures - low) / (high - low).clamp(min=1e-12)


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError:
        raise Unsupported(
            "What counts for a class is asked of captum, which is not installed.", "pip install 'noria[explain]'"
        ) from None
    return attr
