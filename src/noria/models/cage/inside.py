"""The other side of the pipe: a process that has given up all it does not need, and then loads what it was told to trust."""

from __future__ import annotations

import os
from typing import IO, Any

from noria.models.cage import frames, kernel


def main() -> None:
    """Read one frame that says which model, answer one that says how it looks, then a batch for a batch until the pipe ends."""
    told, says = _pipes()
    order = frames.receive(told)
    kernel.limit(order["memory"])
    files, sockets = kernel.give_up(order["read"], order["write"])
    try:
        predictor = _load(order)
    except BaseException as error:  # A model of a stranger raises what it likes, SystemExit too.
        frames.send(says, _said(error))
        return
    frames.send(says, {"done": {"files": files, "sockets": sockets, "seconds": predictor.load_seconds}})
    while True:
        try:
            asked = frames.receive(told)
        except EOFError:
            return
        try:
            answer = {"done": predictor.answer(asked["batch"], asked["params"])}
            frames.send(says, answer)
        except BaseException as error:  # As above; what was asked next may go well.
            frames.send(says, _said(error))


def _pipes() -> tuple[IO[bytes], IO[bytes]]:
    """What is told and what is said, out of reach of a model that reads or prints."""
    told, says = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return told, says


def _load(order: dict[str, Any]) -> Any:
    from noria.models.folder import open_trusted

    return open_trusted(order["folder"])


def _said(error: BaseException) -> dict[str, Any]:
    from noria.errors import NoriaError

    if isinstance(error, NoriaError):
        return {"error": [error.status, error.code, error.message]}
    text = " ".join(str(error).split())
    memory = " (its memory is bounded)" if isinstance(error, MemoryError) else ""
    return {"error": [400, "INVALID_PARAMETER_VALUE", f"The model failed: {type(error).__name__}{memory}: {text:.300}."]}


if __name__ == "__main__":
    main()
