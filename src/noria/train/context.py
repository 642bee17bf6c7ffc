"""A long sequence over several processes, each of which has a run of it: `parallel="context=4"`.

What looks at each token alone needs no change. Attention gathers the keys and values of all, as Llama 3 was trained (Grattafiori and others
2024, The Llama 3 Herd of Models, 3.3.2); queries, and all that is kept for the way back, stay where they are. A model that says
`cuts_time = True` asks `positions` where its tokens stand and calls `attend`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from noria.errors import Invalid
from noria.train.data import Batch


class Span(NamedTuple):
    """This process has part `own` of `ways`; `group` are those that have the others."""

    own: int
    ways: int
    group: dist.ProcessGroup


class Here:
    span: Span | None = None


here = Here()


@contextmanager
def alone() -> Iterator[None]:
    """Here sequences are whole."""
    here.span, before = None, here.span
    try:
        yield
    finally:
        here.span = before


def cut(batch: Batch) -> Batch:
    """This process's run of each example: inputs [b, time, ...] and targets [b, time, ...]. Raises Invalid if time does not divide evenly."""
    if here.span is None:
        return batch
    own, ways, _ = here.span
    time = batch.inputs.shape[1] if batch.inputs.ndim > 1 else 1
    if batch.targets.ndim < 2 or batch.targets.shape[1] != time:
        raise Invalid(
            "With context parallelism each token needs a target; these targets are of whole examples.", "Use parallel='data'."
        )
    if time % ways:
        raise Invalid(f"{time} tokens cannot be cut into {ways} runs of one length.", f"Use windows of a multiple of {ways}.")
    piece = slice(own * time // ways, (own + 1) * time // ways)
    return Batch(batch.inputs[:, piece], batch.targets[:, piece], batch.weights)


def whole(length: int) -> int:
    """Tokens of the whole sequence, of which this process has so many."""
    return length * (here.span.ways if here.span is not None else 1)


def positions(length: int, device: torch.device) -> Tensor:
    """Where the tokens of this process stand in the whole sequence: int64 [length]."""
    begin = here.span.own * length if here.span is not None else 0
    return torch.arange(begin, begin + length, device=device)


def attend(query: Tensor, key: Tensor, value: Tensor, *, dropout: float = 0.0) -> Tensor:
    """Causal attention, [batch, heads, time, width] each, over the whole sequence."""
    if here.span is None:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)
    both: Tensor = _Gathered.apply(torch.stack([key, value]), here.span)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    own, keys = positions(query.shape[2], query.device), torch.arange(both.shape[3], device=query.device)
    return F.scaled_dot_product_attention(query, both[0], both[1], attn_mask=own[:, None] >= keys, dropout_p=dropout)


class _Gathered(torch.autograd.Function):
    """[..., time, width] of each process to [..., ways * time, width] on all; gradients are summed on the way back."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, span: Span) -> Tensor:
        ctx.span = span
        parts = [torch.empty_like(own) for _ in range(span.ways)]
        dist.all_gather(parts, own.contiguous(), group=span.group)
        return torch.cat(parts, dim=-2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        span: Span = ctx.span
        parts = [part.contiguous() for part in gradient.chunk(span.ways, dim=-2)]
        own = torch.empty_like(parts[0])
        dist.reduce_scatter(own, parts, group=span.group)
        return own, None
