"""YAML and JSON of strangers: read within bounds, whatever they were made to do to a reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from noria.errors import Invalid

MOST = 4 * 2**20
"""Bytes of a file that says what a model is. A signature of ten thousand columns takes less than one MiB."""
_VALUES = 200_000
_AGAIN = "Do not trust this folder; get the model again."


def text(file: Path, most: int = MOST) -> str:
    """The whole of a small file. Raises Invalid if it is over `most` bytes, or no text."""
    with file.open("rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise Invalid(f"{file} is over {most >> 10} KiB, which no such file needs.", _AGAIN)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Invalid(f"{file} is no text in UTF-8.", _AGAIN) from None


class _Loader(yaml.SafeLoader):
    """A safe loader that counts before it builds: an anchor may stand for much more than is written."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _count(node, {}, ())
        return node


def _count(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values there are once each anchor is written out."""
    if id(node) in above:
        raise ValueError("it holds itself")
    if id(node) not in known:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        below = (*above, id(node))
        inside = 0 if isinstance(node, yaml.ScalarNode) else sum(_count(part, known, below) for part in parts)
        known[id(node)] = 1 + inside
    if known[id(node)] > _VALUES:
        raise ValueError("its anchors stand for more values than it has room for")
    return known[id(node)]


def parsed_yaml(content: str) -> Any:
    """Plain values. Raises yaml.YAMLError or ValueError, for what is nested too deep as well."""
    try:
        return yaml.load(content, _Loader)  # noqa: S506 (a SafeLoader that is stricter)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parsed_json(file: Path, most: int = MOST) -> Any:
    """Plain values. Raises Invalid for a file that is too large or no JSON."""
    try:
        return json.loads(text(file, most))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{file} is not valid JSON ({' '.join(str(error).split()):.120}).", _AGAIN) from None
