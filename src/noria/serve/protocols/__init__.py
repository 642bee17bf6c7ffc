"""A shelf: one file is one way to ask a served model over HTTP."""

from __future__ import annotations

from typing import Any
from typing import Protocol as Contract

from msgspec import Struct

from noria.plugins import Kind


class Asked(Struct, frozen=True):
    """data: lists, a dict of them, or a models.columns.Table. params: parameters of this prediction; None if it names none."""

    data: Any
    params: Any = None


class Protocol(Contract):
    """Pure: bytes to a batch, a batch to bytes. PATH is where it is spoken."""

    PATH: str

    def decode(self, body: bytes, kind: str) -> Asked:
        """The batch of a body of the content type `kind`. Raises Invalid."""

    def encode(self, answers: Any) -> tuple[bytes, str]:
        """The answers, as a Predictor gives them, as a body and its content type."""


PROTOCOLS: Kind[Protocol] = Kind("noria.serve.protocols")
