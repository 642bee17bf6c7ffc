"""One workspace: who asks, what it is asked, and its errors as ours.

databricks-sdk finds out who asks (DATABRICKS_HOST and DATABRICKS_TOKEN, profiles of ~/.databrickscfg, OAuth for machines and people, Azure's
and Google's logins), and tries again what was refused for now: 429 and 503 after as long as Retry-After says, and broken connections.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

from noria.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    NoriaError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from noria.version import __version__

MLFLOW = "/api/2.0/mlflow"
_FIRST, _PATIENCE = 6, 300
"""Seconds of trying again: for the first call, which a wrong address must not hold up, and for all that follow."""
_WAYS = "Set DATABRICKS_HOST and DATABRICKS_TOKEN (or DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET), or run `databricks configure`."
_SAYS = ("DATABRICKS_", "ARM_", "GOOGLE_CREDENTIALS")
"""What variables that databricks-sdk reads begin with."""
_WAITS = (1, 2, 4, 8, 15, 30, 60)
"""Seconds before each further try of what may be done only once, if Databricks asks for no more."""
T = TypeVar("T")


class Workspace:
    """A workspace that has answered. Several threads may ask it at once."""

    def __init__(self, profile: str = "") -> None:
        """profile: of ~/.databrickscfg; "" for the environment's or the default one. Raises Unsupported without databricks-sdk,
        Unauthenticated if nobody or the wrong one asks, NotFound for a profile that is not there, Unavailable if nothing answers."""
        client, settings = _sdk()
        self.profile = profile
        try:
            with _named(profile):
                config = settings(
                    profile=profile or None, product="noria", product_version=__version__, retry_timeout_seconds=_FIRST
                )
        except ValueError as error:
            raise _unconfigured(profile, str(error)) from None
        self.host = str(config.host).rstrip("/")
        self.user = str(self.tried(lambda: client(config=config).current_user.me()).user_name)
        config.retry_timeout_seconds = _PATIENCE
        self.client: Any = client(config=config)

    @property
    def home(self) -> str:
        """The folder of whoever asks."""
        return f"/Users/{self.user}"

    @cached_property
    def uri(self) -> str:
        return f"databricks://{self.profile}"

    def tried(self, work: Callable[[], T]) -> T:
        """What a call of databricks-sdk returns, or its error as ours."""
        from databricks.sdk.errors.base import DatabricksError
        from requests.exceptions import RequestException

        try:
            return work()
        except DatabricksError as error:
            raise self._ours(error) from None
        except (TimeoutError, RequestException) as error:  # Tried until patience ended, or broken off in the middle.
            raise self._gone(error) from None
        except ValueError as error:  # What a login answered that databricks-sdk could not read.
            raise Unauthenticated(f"Nobody could be logged in to {self._where} ({_line(error)}).", _WAYS) from None

    def ask(
        self, method: str, path: str, query: dict[str, Any] | None = None, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        found = self.tried(lambda: self.client.api_client.do(method, path, query=query, body=body))
        if not isinstance(found, dict):
            raise Invalid(f"What answers at {self.host} is no Databricks workspace.", "Check DATABRICKS_HOST.")
        return found

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        return self.ask("GET", path, {key: value for key, value in query.items() if value})

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        return self.ask("POST", path, body=body)

    def once(self, path: str, there: Callable[[], dict[str, Any] | None], /, **body: Any) -> dict[str, Any]:
        """Post what makes something new each time that it is heard. there: what was made, if something was: it is asked when an answer
        was lost, before anything is sent again."""
        for wait in (*_WAITS, None):
            try:
                return self.tried(lambda: self._sent_once(path, body))
            except Unavailable as error:
                if (found := there()) is not None:
                    return found
                if wait is None:
                    raise
                time.sleep(max(wait, self._after(error)))
        raise AssertionError("the last try returns or raises")

    def _sent_once(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        content, kind = _Once(json.dumps(body, allow_nan=False).encode()), {"Content-Type": "application/json"}
        found: dict[str, Any] = self.client.api_client.do("POST", path, data=content, headers=kind)
        return found

    @staticmethod
    def _after(error: BaseException) -> float:
        """Seconds that were asked for with a 429 or 503."""
        return float(getattr(error.__context__, "retry_after_secs", None) or 0)

    def pages(self, path: str, name: str, /, *, get: bool = False, **query: Any) -> Iterator[dict[str, Any]]:
        """The entries `name` of all pages."""
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = self.get(path, **query, **more) if get else self.post(path, **query, **more)
            yield from page.get(name) or []
            token = page.get("next_page_token") or ""
            if not token:
                return

    @property
    def _where(self) -> str:
        return f"{self.host} (profile {self.profile})" if self.profile else self.host

    def _gone(self, error: BaseException) -> Unavailable:
        why = str(error.__cause__ or error)
        short = "connection refused" if "refused" in why else "no such host" if "resol" in why else _line(why)
        return Unavailable(f"{self.host} does not answer ({short}).", "Check the host, or try again later.")

    def _ours(self, error: Any) -> NoriaError:
        from databricks.sdk import errors

        said = _line(error)
        if isinstance(error, errors.Unauthenticated) or "access token" in said.lower():
            return Unauthenticated(f"{self._where} does not let this token in: {said}", "Make a new one, and check DATABRICKS_TOKEN or the profile.")  # fmt: skip
        if isinstance(
            error, (errors.TooManyRequests, errors.TemporarilyUnavailable, errors.DeadlineExceeded, errors.InternalError)
        ):
            return Unavailable(f"{self.host} cannot do it now: {said}", "Try again later; what is done is not done twice.")
        if isinstance(error, errors.PermissionDenied):
            return Forbidden(f"{self.user if hasattr(self, 'user') else 'You'} may not do that at {self.host}: {said}", "Ask for the permission there, or name another folder.")  # fmt: skip
        kinds = (
            ((errors.AlreadyExists, errors.ResourceAlreadyExists), AlreadyExists),
            ((errors.NotFound,), NotFound),
            ((errors.ResourceConflict,), Conflict),
            ((errors.NotImplemented,), Unsupported),
        )
        large = str(getattr(error, "error_code", "")) in ("MAX_NOTEBOOK_SIZE_EXCEEDED", "MAX_BLOCK_SIZE_EXCEEDED")
        kind = TooLarge if large else next((ours for theirs, ours in kinds if isinstance(error, theirs)), Invalid)
        return kind(f"Databricks refused it: {said}")


class _Once:
    """A body that can be read once: databricks-sdk tries nothing again that it cannot rewind."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[bytes]:
        yield self._content

    def read(self, size: int = -1) -> bytes:
        taken = self._content if size < 0 else self._content[:size]
        self._content = self._content[len(taken) :]
        return taken


def _sdk() -> tuple[Any, Any]:
    try:
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.core import Config
    except ImportError:
        raise Unsupported(
            "Databricks needs the package databricks-sdk, which is not installed.", "pip install 'noria[databricks]'"
        ) from None
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)  # What it warns of comes as an error of ours, or does not matter.
    return WorkspaceClient, Config


@contextmanager
def _named(profile: str) -> Iterator[None]:
    """Without the environment's say if a profile was named: databricks-sdk would take a host or a token from there before the profile's, and another
    workspace would be written to. Raises NotFound if there is no file of profiles, which it would pass over."""
    if not profile:
        yield
        return
    file = os.environ.get("DATABRICKS_CONFIG_FILE", "~/.databrickscfg")
    if not os.path.exists(os.path.expanduser(file)):
        raise NotFound(
            f"There is no file {file}, and so no profile '{profile}'.", f"`databricks configure --profile {profile}` makes it."
        )
    put_by = {
        name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_SAYS) and name != "DATABRICKS_CONFIG_FILE"
    }
    try:
        yield
    finally:
        os.environ.update(put_by)


def _unconfigured(profile: str, said: str) -> NoriaError:
    """Why databricks-sdk found nobody to be."""
    file = os.environ.get("DATABRICKS_CONFIG_FILE", "~/.databrickscfg")
    asked = profile or os.environ.get("DATABRICKS_CONFIG_PROFILE", "")
    if "has no" in said and "profile" in said:
        return NotFound(f"{file} has no profile '{asked}'.", f"`databricks configure --profile {asked or 'NAME'}` makes one.")
    if "more than one authorization method" in said:
        return Invalid(f"Several ways to log in to Databricks are set at once ({_line(said)}).", "Unset all but one, or set DATABRICKS_AUTH_TYPE.")  # fmt: skip
    if "cannot configure default credentials" in said or not said.startswith("default auth"):
        return Unauthenticated("Nothing says which Databricks workspace is meant, or who asks.", _WAYS)
    return Unauthenticated(f"Nobody could be logged in to Databricks ({_line(said.removeprefix('default auth: '))}).", _WAYS)


def _line(error: object) -> str:
    """The first line of what somebody said, and not too much of it."""
    words = str(error).partition(". Config: ")[0].strip().splitlines()  # What databricks-sdk adds about its settings.
    return words[0][:400].rstrip(".") if words else type(error).__name__
