"""A Transformer's encoder (Vaswani and others 2017, Attention Is All You Need, arXiv 1706.03762) that classifies texts or series, or each of
their steps.

Sizes are the paper's base model; layers are PyTorch's. Unlike the paper it normalises before each part, which needs no warm-up to train,
and learns where a token stands.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from noria.errors import Invalid
from noria.train.dropout import Dropout

Task = Literal["classify", "label"]


class Encoder(nn.Module):
    """Texts int64 [batch, time] below `vocabulary`, where 0 only fills up, or series float32 [batch, time, inputs], to float32
    [batch, num_classes], unnormalised log-probabilities: from the mean over what is not filling. With task="label" each step has its own,
    [batch, time, num_classes]."""

    def __init__(
        self, task: Task, num_classes: int, vocabulary: int, inputs: int, context: int, width: int, layers: int, heads: int, hidden: int,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.task, self.context = task, context
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0) if vocabulary else nn.Linear(inputs, width)
        self.positions = nn.Embedding(context, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        if vocabulary:  # No larger than the positions, or it is hardly seen where a token stands.
            nn.init.normal_(self.embedding.weight[1:], std=0.02)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        for weight in self.encoder.parameters():  # All layers begin as copies of one.
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, series: Tensor) -> Tensor:
        length = series.shape[1]
        if length > self.context:
            raise Invalid(
                f"{length} steps are more than this model's context of {self.context}.", "Cut them, or build with context=."
            )
        filling = series == 0 if series.dim() == 2 else None
        stream = self.embedding(series) + self.positions(torch.arange(length, device=series.device))
        seen = self.encoder(self.dropout(stream), src_key_padding_mask=filling)
        if self.task == "label":
            labels: Tensor = self.head(seen)
            return labels
        if filling is None:
            mean = seen.mean(1)
        else:
            real = (~filling).unsqueeze(2)
            mean = (seen * real).sum(1) / real.sum(1).clamp(min=1)
        out: Tensor = self.head(mean)
        return out


def build(
    *, task: Task = "classify", num_classes: int = 10, vocabulary: int = 0, inputs: int = 1, context: int = 512, width: int = 512, layers: int = 6, heads: int = 8,
    hidden: int = 2048, dropout: float = 0.1,
) -> nn.Module:  # fmt: skip
    """inputs: values per step of a series. vocabulary: tokens of a text; 0 for a series. hidden: units between a layer's dense two."""
    if task not in ("classify", "label"):
        raise Invalid(f"There is no task '{task}' for an encoder.", "Tasks: classify, label.")
    return Encoder(task, num_classes, vocabulary, inputs, context, width, layers, heads, hidden, dropout)
