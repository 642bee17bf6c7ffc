"""A Transformer that turns one text into another (Vaswani and others 2017, Attention Is All You Need, arXiv 1706.03762), small.

With width=512, layers=6, heads=8, hidden=2048 its layers are the paper's base model and `torch.nn.Transformer()`, 44,140,544 weights.
Unlike the paper it normalises before each part, which needs no warm-up to train, and the two texts share no words.
"""

from __future__ import annotations

from math import log, sqrt

import torch
from torch import Tensor, nn

from noria.train.dropout import Dropout

FILLING, BEGIN, END = 0, 1, 2
"""Tokens with a meaning of their own: after a text's end, before its first word, after its last."""


class Translator(nn.Module):
    """Texts int64 [batch, time], and what is written of the others int64 [batch, written], to float32 [batch, written, target_vocabulary],
    unnormalised log-probabilities of the token that comes after each.

    Without the others it writes them, int64 [batch, at most longest]: each time the likeliest token, until all are at END.
    """

    def __init__(
        self, source_vocabulary: int, target_vocabulary: int, width: int, layers: int, heads: int, hidden: int, dropout: float,
        longest: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.longest = width, longest
        self.source = nn.Embedding(source_vocabulary, width, padding_idx=FILLING)
        self.target = nn.Embedding(target_vocabulary, width, padding_idx=FILLING)
        reader = nn.TransformerEncoderLayer(width, heads, hidden, dropout, batch_first=True, norm_first=True)
        writer = nn.TransformerDecoderLayer(width, heads, hidden, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(reader, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(writer, layers, nn.LayerNorm(width))
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(width, target_vocabulary, bias=False)
        for weight in [*self.encoder.parameters(), *self.decoder.parameters()]:
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        for embedding in (self.source, self.target):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        self.head.weight = self.target.weight

    def forward(self, source: Tensor, written: Tensor | None = None) -> Tensor:
        filling = source == FILLING
        memory = self.encoder(self._placed(self.source, source), src_key_padding_mask=filling)
        return self._write(memory, filling) if written is None else self._next(memory, filling, written)

    def _next(self, memory: Tensor, filling: Tensor, written: Tensor) -> Tensor:
        length = written.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=written.device).triu(1)
        seen = self.decoder(
            self._placed(self.target, written), memory, tgt_mask=later, tgt_is_causal=True, memory_key_padding_mask=filling
        )
        out: Tensor = self.head(seen)
        return out

    @torch.no_grad()
    def _write(self, memory: Tensor, filling: Tensor) -> Tensor:
        written = torch.full_like(filling[:, :1], BEGIN, dtype=torch.int64)
        while written.shape[1] <= self.longest and not (written == END).any(1).all():
            likeliest = self._next(memory, filling, written)[:, -1:].argmax(2)
            ended = (written == END).any(1, keepdim=True)
            written = torch.cat([written, likeliest.masked_fill(ended, FILLING)], 1)
        return written[:, 1:]

    def _placed(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        words = embedding(tokens) * sqrt(self.width)
        placed: Tensor = self.dropout(words + _waves(tokens.shape[1], words))
        return placed


def _waves(length: int, like: Tensor) -> Tensor:
    """Where a token stands, as sines and cosines of lengths between 2 pi and 10,000 times that: [length, width]."""
    width = like.shape[2]
    rates = torch.exp(torch.arange(0, width, 2, device=like.device) * (-log(10000) / width))
    angles = torch.arange(length, device=like.device).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width].to(like.dtype)


def build(
    *, source_vocabulary: int = 1000, target_vocabulary: int = 1000, width: int = 128, layers: int = 3, heads: int = 4, hidden: int = 512,
    dropout: float = 0.1, longest: int = 100,
) -> nn.Module:  # fmt: skip
    """layers: of the encoder, and of the decoder. hidden: units between a layer's dense two. longest: the most tokens that it writes."""
    return Translator(source_vocabulary, target_vocabulary, width, layers, heads, hidden, dropout, longest)
