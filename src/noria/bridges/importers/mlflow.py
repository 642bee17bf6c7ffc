"""An MLflow server, over its REST API. MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD, say who asks."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from noria.bridges import places
from noria.bridges.source import File, LoggedModel, Run, Source
from noria.bridges.tracking import API, Tracking
from noria.client.http import Server
from noria.errors import Invalid, Unavailable


def open(source: str) -> Source:
    return Mlflow(source)


class Rest(Server):
    """MLflow's API as plain JSON. One connection, one thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        user, password = parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME", ""), parts.password
        super().__init__(
            parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), os.environ.get("MLFLOW_TRACKING_TOKEN", ""), 120
        )
        words = f"{user}:{password or os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        self._basic = f"Basic {base64.b64encode(words.encode()).decode()}" if user else ""

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> HTTPResponse:
        if self._basic:
            headers["Authorization"] = self._basic
        try:
            return super()._send(method, path, body, headers)
        except Unavailable as error:
            why = error.message.partition("(")[2].partition(")")[0]
            raise Unavailable(f"No MLflow server answers at {self.url} ({why})", "Check the address.") from None

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        given = {key: value for key, value in query.items() if value}
        return self._json(self._request("GET", f"{path}?{urlencode(given, doseq=True)}", None, ""))

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        return self._json(self._request("POST", path, json.dumps(body), "application/json"))

    def _json(self, answer: HTTPResponse) -> dict[str, Any]:
        with answer:
            try:
                found = json.loads(answer.read())
            except ValueError:
                found = None
        if not isinstance(found, dict):
            raise Invalid(f"What answers at {self.url} is not an MLflow server.", "Check the address.")
        return found

    def pages(self, path: str, name: str, /, *, get: bool = False, **query: Any) -> Iterator[dict[str, Any]]:
        """The entries `name` of all pages."""
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = self.get(path, **query, **more) if get else self.post(path, **query, **more)
            yield from page.get(name, [])
            token = page.get("next_page_token") or ""
            if not token:
                return

    def save(self, path: str, target: Path) -> Path:
        """One file of a run or a model."""
        with self._request("GET", path, None, "") as answer, target.open("wb") as out:
            while block := answer.read(1 << 20):
                out.write(block)
        return target


class Mlflow(Tracking):
    """One server."""

    def __init__(self, url: str) -> None:
        self._url, self._own = url, threading.local()
        self._opened: list[Rest] = []
        super().__init__()

    @property
    def rest(self) -> Rest:
        """This thread's own connection."""
        found: Rest | None = getattr(self._own, "rest", None)
        if found is None:
            found = self._own.rest = Rest(self._url)
            self._opened.append(found)
        return found

    def close(self) -> None:
        for each in self._opened:
            each.close()

    def files(self, run: Run) -> Iterator[File]:
        own = run.fields.info
        if urlsplit(own.artifact_uri).scheme not in ("mlflow-artifacts", "http", "https", "", "file"):
            yield from places.files(own.artifact_uri, None)  # An object store: nearer without the server.
            return
        for path, size in self.tree(partial(self.rest.get, f"{API}/artifacts/list", run_id=own.run_id), ""):
            yield File(path, size, partial(self._saved, f"/get-artifact?{urlencode({'run_id': own.run_id, 'path': path})}"))

    def _saved(self, path: str, folder: Path) -> Path:
        return self.rest.save(path, folder / "file")

    def model_files(self, model: LoggedModel) -> Iterator[File]:
        own = model.model.info
        if urlsplit(own.artifact_uri).scheme != "mlflow-artifacts":
            yield from places.files(own.artifact_uri, None)
            return
        root = own.artifact_uri.partition(":")[2].lstrip("/")
        listing, content = f"{API}/logged-models/{own.model_id}/artifacts/directories", "/api/2.0/mlflow-artifacts/artifacts"
        for path, size in self.tree(
            lambda path, page_token: self.rest.get(listing, artifact_directory_path=path, page_token=page_token), ""
        ):
            yield File(path, size, partial(self._saved, f"{content}/{quote(root)}/{quote(path)}"))
