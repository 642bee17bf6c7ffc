"""A shelf: one file is one way to ask a served model over HTTP."""

from __future__ import annotations

from typing import Any
from typing import Protocol as Contract

from noria.plugins import Kind


class Protocol(Contract):
    """Pure: bytes to a batch, a batch to bytes. PATH is where it is spoken."""

    PATH: str

    def decode(self, body: bytes, kind: str) -> Any:
        """The batch, as nested lists or an array, of a body of the content type `kind`. Raises Invalid."""

    def encode(self, answers: Any) -> tuple[bytes, str]:
        """The answers [n, ...] as a body and its content type."""


PROTOCOLS: Kind[Protocol] = Kind("noria.serve.protocols")
