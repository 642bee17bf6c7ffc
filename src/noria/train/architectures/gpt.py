"""GPT-2 (Radford and others 2019, Language Models are Unsupervised Multitask Learners): a Transformer's decoder that says the next token.

Layers, names of weights and initial weights are those of transformers' GPT2LMHeadModel, except that its dense layers ("Conv1D") keep their
matrices transposed. bias=False leaves all biases out, as nanoGPT does: 124,337,664 weights instead of 124,439,808.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from noria.errors import Invalid
from noria.train.context import attend, positions, whole
from noria.train.dropout import Dropout

NAMES: dict[str, dict[str, Any]] = {
    "gpt": {},
    "gpt-medium": {"layers": 24, "heads": 16, "width": 1024},
    "gpt-large": {"layers": 36, "heads": 20, "width": 1280},
    "gpt-xl": {"layers": 48, "heads": 25, "width": 1600},
}


class Attention(nn.Module):
    """Each token looks at those before it and itself, with several heads."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width, bias)
        self.c_proj = nn.Linear(width, width, bias)
        self.heads, self.dropout = heads, dropout
        self.resid_dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(tokens).chunk(3, dim=2))
        seen = attend(query, key, value, dropout=self.dropout if self.training else 0.0)
        out: Tensor = self.resid_dropout(self.c_proj(seen.transpose(1, 2).flatten(2)))
        return out


class MLP(nn.Module):
    def __init__(self, width: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width, bias)
        self.c_proj = nn.Linear(4 * width, width, bias)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.c_proj(F.gelu(self.c_fc(tokens), approximate="tanh")))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=bias)
        self.attn = Attention(width, heads, dropout, bias)
        self.ln_2 = nn.LayerNorm(width, bias=bias)
        self.mlp = MLP(width, dropout, bias)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.ln_1(tokens))
        out: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return out


class Positions(nn.Embedding):
    """Adds to each token what its place has learned."""

    def forward(self, stream: Tensor) -> Tensor:
        length = whole(stream.shape[1])
        if length > self.num_embeddings:
            raise Invalid(
                f"{length} tokens are more than this model's context of {self.num_embeddings}.",
                "Cut them, or build with context=.",
            )
        return stream + super().forward(positions(stream.shape[1], stream.device))


class Trunk(nn.Module):
    """All but the head: int64 [batch, time] to float32 [batch, time, width]."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = Positions(context, width)
        self.drop = Dropout(dropout)
        self.h = nn.ModuleList(Block(width, heads, dropout, bias) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        stream = self.drop(self.wpe(self.wte(tokens)))
        for block in self.h:
            stream = block(stream)
        out: Tensor = self.ln_f(stream)
        return out


class GPT(nn.Module):
    """int64 [batch, time] to float32 [batch, time, vocabulary], unnormalised log-probabilities of the token that comes after each."""

    cuts_time = True

    def __init__(self, trunk: Trunk, tied: bool) -> None:
        super().__init__()
        self.transformer = trunk
        # Queries, keys and values are one matrix here, which cannot be cut along its outputs.
        self.styles = {"transformer.h.*.mlp.c_fc": "columns", "transformer.h.*.mlp.c_proj": "rows"}
        self.lm_head = nn.Linear(trunk.wte.embedding_dim, trunk.wte.num_embeddings, bias=False)
        if tied:
            self.lm_head.weight = trunk.wte.weight
        else:
            nn.init.normal_(self.lm_head.weight, std=0.02)
        blocks = [f"transformer.h.{number}" for number in range(len(trunk.h))]
        self.parts = ["transformer.wte", "transformer.wpe", "transformer.drop", *blocks, "transformer.ln_f", "lm_head"]
        least = 0.02 / (2 * len(trunk.h)) ** 0.5  # The more layers add to the stream, the less each adds at first.
        for name, weight in trunk.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif weight.dim() == 2:
                nn.init.normal_(weight, std=least if name.endswith("c_proj.weight") else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.lm_head(self.transformer(tokens))
        return out


def build(
    *, vocabulary: int = 50257, context: int = 1024, width: int = 768, layers: int = 12, heads: int = 12, dropout: float = 0.1,
    bias: bool = True, tied: bool = True,
) -> nn.Module:  # fmt: skip
    """context: the most tokens that it can look back on. width: a multiple of heads. tied: the head uses the embedding's weights, as GPT-2's
    does; a pipeline needs them untied."""
    if width % heads:
        raise Invalid(f"{heads} heads cannot share a width of {width}.", "Choose a width that is a multiple of heads.")
    return GPT(Trunk(vocabulary, context, width, layers, heads, dropout, bias), tied)
