"""Text from a model that says the next token: `gpt`, or a recurrent one with task="generate"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noria.errors import Invalid
from noria.train.text import Characters


@torch.no_grad()
def generate(
    model: nn.Module, tokens: Tensor, length: int, *, temperature: float = 1.0, top: int = 0, context: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """int64 [batch, time], one token at least, to [batch, time + length]: each new token is drawn from what the model says after those before.

    temperature: above 1 dares more; 0 takes the likeliest token each time. top: draw among so many of the likeliest, 0 among all. context: the
    most tokens that the model looks back on. generator: on the tokens' device; without one, torch's global numbers are drawn.
    """
    if temperature < 0 or not tokens.shape[1]:
        raise Invalid("A text is continued from one token at least, at a temperature of 0 or more.", "Correct the call.")
    was_training = model.training
    model.eval()
    for _ in range(length):
        seen = tokens if context is None else tokens[:, -context:]
        tokens = torch.cat([tokens, _drawn(model(seen)[:, -1].float(), temperature, top, generator)], 1)
    model.train(was_training)
    return tokens


def written(
    model: nn.Module, characters: Characters, begin: str, length: int, *, context: int, temperature: float = 0.8, seed: int = 0
) -> str:
    """What a model of letters makes of the beginning of a text."""
    tokens = torch.tensor([characters.encode(begin)], device=next(model.parameters()).device)
    chance = torch.Generator(tokens.device).manual_seed(seed)
    found = generate(model, tokens, length, temperature=temperature, context=context, generator=chance)
    return characters.decode(found[0].tolist())


def _drawn(logits: Tensor, temperature: float, top: int, generator: torch.Generator | None) -> Tensor:
    """One token for each row of float32 [batch, vocabulary]: int64 [batch, 1]."""
    if not temperature:
        return logits.argmax(1, keepdim=True)
    least = logits.topk(min(top or logits.shape[1], logits.shape[1])).values[:, -1:]
    likely = (logits / temperature).masked_fill(logits < least, -torch.inf)
    return torch.multinomial(likely.softmax(1), 1, generator=generator)
