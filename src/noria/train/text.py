"""Text for models that say what comes next: windows of tokens, and the same shifted by one as their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from noria.errors import Invalid
from noria.train.data import Windows, content, digest


@dataclass(frozen=True)
class Characters:
    """Each character that a text has is a token, numbered in Unicode's order."""

    known: str

    def __len__(self) -> int:
        return len(self.known)

    def encode(self, text: str) -> list[int]:
        numbers = {character: number for number, character in enumerate(self.known)}
        try:
            return [numbers[character] for character in text]
        except KeyError as error:
            raise Invalid(f"The character {error} was not in the text that was learned from.", "Leave it out.") from None

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self.known[token] for token in tokens)


class Text(NamedTuple):
    """Windows of int64 [b, length] each; `characters` is None if somebody else's tokens were used."""

    train: Windows
    validation: Windows
    characters: Characters | None
    digest: str


def text(
    file: Path | str, length: int, *, tokenizer: Callable[[str], Sequence[int]] | None = None, validation: float = 0.1,
    stride: int | None = None,
) -> Text:  # fmt: skip
    """A file of UTF-8. Its end, `validation` of it, is held back.

    tokenizer: what makes tokens of text (`tiktoken.get_encoding("gpt2").encode`); without one, characters are tokens.
    stride: from the beginning of one window to that of the next, by default its length.
    """
    path = Path(file)
    read = content(path)
    try:
        words = read.decode()
    except UnicodeDecodeError as error:
        raise Invalid(
            f"{path} is not UTF-8: {error.reason} at byte {error.start:,}.", f"Convert it: iconv -t utf-8 {path}"
        ) from None
    if not words:
        raise Invalid(f"{path} is empty.", "Give it some text.")
    return windows(words, length, digest([read]), tokenizer=tokenizer, validation=validation, stride=stride)


def windows(
    words: str, length: int, digest: str, *, tokenizer: Callable[[str], Sequence[int]] | None = None,
    validation: float = 0.1, stride: int | None = None,
) -> Text:  # fmt: skip
    """The same of a text in memory, whose digest is known."""
    if tokenizer:
        characters, tokens = None, torch.tensor(tokenizer(words))
    else:
        characters, tokens = _characters(words)
    cut = round(len(tokens) * (1 - validation))

    def shifted(part: Tensor) -> Windows:
        return Windows(part, length, horizon=length, offset=1, stride=stride or length)

    return Text(shifted(tokens[:cut]), shifted(tokens[cut:]), characters, digest)


def _characters(words: str) -> tuple[Characters, Tensor]:
    """At once by a table of all characters there are: a loop in Python takes a second for 5 MB."""
    points = np.frombuffer(words.encode("utf-32-le"), np.uint32)
    known = np.flatnonzero(np.bincount(points))
    table = np.zeros(known[-1] + 1, np.int64)
    table[known] = np.arange(len(known))
    return Characters("".join(map(chr, known.tolist()))), torch.from_numpy(table[points])
