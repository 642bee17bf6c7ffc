"""TorchScript: programs in a small language. Their operations compute; a few read and write files or ask other machines, and these are refused.

Source: PyTorch's operators of 2.13, as torch._C._jit_get_all_schemas lists them: aten::save and aten::from_file are those that name a file,
prim::rpc_* those that ask another process; further namespaces than aten, prim and quantized belong to training and debugging.
What is not looked for is an operation that goes out of a tensor's memory; PyTorch's own checks stand there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LARGEST = 64 << 20
"""Bytes of code; a large language model's has some hundred thousand."""
_REFUSED = re.compile(rb"\b(save|from_file|rpc_\w+|PythonOp|IgnoredPythonOp|_test_\w+|load_tensor)\b")
_SPACES = re.compile(rb"\bops\s*\.\s*(?!(?:aten|prim|quantized)\b)(\w+)")
_CLASSES = re.compile(rb"torch\s*\.\s*classes(?!\s*\.\s*(?:quantized|rnn)\b)\s*\.?\s*(\w*)")
_GETATTR = re.compile(rb"""getattr\(\s*[\w.]+\s*,\s*"\w*"\s*\)""")


def check(code: Mapping[str, bytes], data: Mapping[str, bytes]) -> None:
    """code: the archive's texts by their names, data: its pickles, which hold the names of classes.

    Raises ValueError, with what it found. The text itself is looked at, whatever it is, so that nothing hides in what another reader skips.
    """
    if sum(map(len, code.values())) > _LARGEST:
        raise ValueError("it holds more code than a model has")
    for text in code.values():
        for pattern in (_REFUSED, _SPACES):
            if found := pattern.search(text):
                raise ValueError(f"it uses {found[1].decode()}")
        _plain_names(text)
    for content in (*code.values(), *data.values()):
        if found := _CLASSES.search(content):
            raise ValueError(f"it uses the class {found[1].decode() or '?'}")


def _plain_names(text: bytes) -> None:
    """Parts that are asked for by a text are named in one plain piece: no name is put together of others."""
    before = b""
    while before != text:
        before, text = text, _GETATTR.sub(b"_", text)
    if b"getattr" in text:
        raise ValueError("it asks for a part by a name that is put together")
