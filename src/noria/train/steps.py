"""What is summed for a batch: the loss, what to divide it by, and what else is measured. A training is handed one of these, or one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.train.data import Batch

Sums = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, dict[str, Tensor]]
Step = Callable[[nn.Module, Batch], Sums]
"""(model, batch) to the summed loss, the weight it is to be divided by (examples or tokens), and summed metrics if there are any.

The trainer divides once, by the weight of all ranks: so the gradient is that of the whole batch, however it was cut.
Metrics are divided by the same weight. A step must give an example of weight 0 no part in any sum.
"""


def classification(model: nn.Module, batch: Batch) -> Sums:
    """Cross-entropy in nats, and accuracy. The model gives [b, classes]; targets are int64 [b], or [b, classes] parts of a mixture."""
    out = model(batch.inputs)
    losses = F.cross_entropy(out, batch.targets, reduction="none")
    named = batch.targets.argmax(1) if batch.targets.is_floating_point() else batch.targets
    right = (out.detach().argmax(1) == named) * batch.weights
    return (losses * batch.weights).sum(), batch.weights.sum(), {"accuracy": right.sum()}


UNASKED = -100
"""The target of a token that is not asked for: it counts in no sum. torch's own `ignore_index`."""


def tokens(model: nn.Module, batch: Batch) -> Sums:
    """Cross-entropy in nats per token, and accuracy. The model gives [b, time, vocabulary]; targets are int64 [b, time].

    What the targets are is the data's affair: the token that comes next (`text.text`), or one that is hidden (`augment.Hide`).
    """
    return of_tokens(model(batch.inputs), batch.targets, batch.weights)


def of_tokens(out: Tensor, targets: Tensor, weights: Tensor) -> Sums:
    """The same of what a model said already: [b, time, vocabulary]."""
    counted = weights[:, None] * (targets != UNASKED)
    losses = F.cross_entropy(out.transpose(1, 2), targets, reduction="none", ignore_index=UNASKED)
    right = (out.detach().argmax(2) == targets) * counted
    return (losses * counted).sum(), counted.sum(), {"accuracy": right.sum()}


def regression(model: nn.Module, batch: Batch) -> Sums:
    """The mean square of the error, and its mean size. What the model gives and the targets have the same shape [b, ...]."""
    errors = (model(batch.inputs) - batch.targets).flatten(1)
    sizes = errors.detach().abs().mean(1) * batch.weights
    return (errors.square().mean(1) * batch.weights).sum(), batch.weights.sum(), {"error": sizes.sum()}


class Drawn(Protocol):
    """What a variational autoencoder gives; see `architectures.autoencoder.Copy`."""

    @property
    def copies(self) -> Tensor: ...
    @property
    def mean(self) -> Tensor: ...
    @property
    def log_variance(self) -> Tensor: ...


def bound(drawn: Drawn, targets: Tensor) -> Tensor:
    """float [2, b], in nats: what the copies leave to be said of targets in 0 to 1, and what their codes say. The sum is above the negative
    logarithm of the likelihood (Kingma and Welling 2013, arXiv 1312.6114, appendix B)."""
    left = F.binary_cross_entropy(drawn.copies, targets, reduction="none").flatten(1).sum(1)
    mean, log_variance = drawn.mean, drawn.log_variance
    return torch.stack([left, (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2])


def variational(model: nn.Module, batch: Batch) -> Sums:
    """That bound, and its part that the codes say. The model gives an `architectures.autoencoder.Copy`; targets are float [b, ...] in 0 to 1."""
    left, said = bound(model(batch.inputs), batch.targets) * batch.weights
    return (left + said).sum(), batch.weights.sum(), {"code": said.detach().sum()}


def segmentation(model: nn.Module, batch: Batch) -> Sums:
    """Cross-entropy in nats, and accuracy, of a mean pixel. The model gives [b, classes, height, width]; targets are int64 [b, height, width]."""
    out = model(batch.inputs)
    losses = F.cross_entropy(out, batch.targets, reduction="none").flatten(1).mean(1)
    right = (out.detach().argmax(1) == batch.targets).float().flatten(1).mean(1)
    return (losses * batch.weights).sum(), batch.weights.sum(), {"accuracy": (right * batch.weights).sum()}
