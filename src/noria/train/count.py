"""How large a model is: its weights, and the multiply-adds of one example.

A training step costs three forward passes: the pass itself, the same products again for the gradient of the activations, and again for that
of the weights. So a step on b examples is 3 * 2 * multiply_adds * b floating-point operations, and their rate divided by the device's peak
(dense, of the precision in use) is the model FLOPs utilisation. What is computed twice to save memory does not count.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from noria.errors import Unsupported


def parameters(model: nn.Module) -> int:
    """Weights that are learnt or frozen; those that two layers share count once, buffers not at all."""
    return sum(weight.numel() for weight in model.parameters())


def multiply_adds(model: nn.Module, *inputs: Tensor) -> int:
    """Multiplications with an addition in one forward pass of this batch in evaluation, divided by its examples.

    Those of matrix products, convolutions and attention; the rest is a small part, as in the papers' figures. Attention counts whole, though
    a causal one needs half. Nothing is computed: a copy without values passes values through. Only so does attention on a CPU count, and
    recurrent layers. Raises Unsupported if the model needs to see values.
    """
    empty = twin(model).eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            empty(*(tensor.to("meta") for tensor in inputs))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise Unsupported(f"What this model computes depends on its values, so it cannot be counted: {reason:.200}.",
                          "Leave the utilisation out.") from None  # fmt: skip
    flops: int = counter.get_total_flops()
    return flops // (2 * inputs[0].shape[0])


def twin(model: nn.Module) -> nn.Module:
    """A copy without values, on the meta device."""
    return copy.deepcopy(model, {id(tensor): _empty(tensor) for tensor in [*model.parameters(), *model.buffers()]})


def _empty(tensor: Tensor) -> Tensor:
    shape = tensor.detach().to("meta")
    return nn.Parameter(shape, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shape
