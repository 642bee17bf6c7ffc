"""One tree of errors. Each knows its MLflow code and its HTTP status, and carries a cure.

A message is one sentence or two to the person who sees it: what happened and why, then how to mend it.
The same object travels: raised in the store, encoded by the server, rebuilt by the client, printed by the CLI.
"""

from __future__ import annotations


class NoriaError(Exception):
    """Something went wrong that a person can read about.

    `code` is MLflow's error code, `status` the HTTP status that answers with it.
    """

    code = "INTERNAL_ERROR"
    status = 500

    def __init__(self, message: str, cure: str = "") -> None:
        stop = "." if cure and message[-1:].isalnum() else ""
        self.message = f"{message}{stop} {cure}".strip()
        super().__init__(self.message)


class Invalid(NoriaError):
    """The request can never succeed as it is."""

    code, status = "INVALID_PARAMETER_VALUE", 400


class AlreadyExists(NoriaError):
    """The name is taken (MLflow answers 400 here, not 409)."""

    code, status = "RESOURCE_ALREADY_EXISTS", 400


class Unauthenticated(NoriaError):
    """No token, or a wrong one."""

    code, status = "UNAUTHENTICATED", 401


class Forbidden(NoriaError):
    """Known, but not allowed."""

    code, status = "PERMISSION_DENIED", 403


class NotFound(NoriaError):
    """No such thing."""

    code, status = "RESOURCE_DOES_NOT_EXIST", 404


class Conflict(NoriaError):
    """The state is another one than the request assumed."""

    code, status = "RESOURCE_CONFLICT", 409


class TooLarge(NoriaError):
    """The body is over the limit; nothing of it was read into memory."""

    code, status = "REQUEST_LIMIT_EXCEEDED", 413


class TooSlow(NoriaError):
    """The rest of the request did not come in time."""

    code, status = "BAD_REQUEST", 408


class Unsupported(NoriaError):
    """Valid, but this installation cannot do it."""

    code, status = "NOT_IMPLEMENTED", 501


class Unavailable(NoriaError):
    """Not now: a full disk, a server that is down. Trying again later may succeed."""

    code, status = "TEMPORARILY_UNAVAILABLE", 503


class BadNode(Unavailable):
    """A node of a job is broken, and others may do. `node` is its name; `SAYS` is by what its check is known from other words for it."""

    SAYS = "is not sound"

    def __init__(self, message: str, node: str = "") -> None:
        super().__init__(message)
        self.node = node


class WrongVersion(NoriaError):
    """The other side speaks another version of Noria's protocol, or the data was written by a newer one."""

    code, status = "BAD_REQUEST", 400


def _all(kind: type[NoriaError]) -> list[type[NoriaError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _all(child))]


def from_wire(status: int, code: str, message: str) -> NoriaError:
    """The error that a server sent, as the class that it was raised as."""
    kinds = _all(NoriaError)
    exact = [kind for kind in kinds if (kind.code, kind.status) == (code, status)]
    return (exact or [kind for kind in kinds if kind.code == code] or [NoriaError])[0](message)
