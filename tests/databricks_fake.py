"""A Databricks workspace for tests: a real HTTP server in a process of its own.

What MLflow's API answers comes from MLflow's own server, behind what Databricks does otherwise: who asks, workspace paths as names of
experiments, artifacts by signed URLs, small pages, Unity Catalog. Jobs really run, in processes (`databricks_parts.py`). Troubles are ordered
at `/fake/…`, which only tests know.

    python databricks_fake.py FOLDER      # prints its address, serves until it is ended
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
TOKENS = {"dapi-ada": "ada@example.org", "dapi-eve": "eve@example.org"}
CLIENT, SECRET = "5e1f-machine", "sesame"
"""A service principal, for OAuth."""


# What tests use.


class Databricks:
    """The running fake, seen from a test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder, "dapi-ada"
        folder.mkdir(parents=True, exist_ok=True)
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "NORIA_", "DATABRICKS_"))}
        log = (folder / "fake.log").open("wb")
        argv = [sys.executable, "-W", "ignore", str(HERE / "databricks_fake.py"), str(folder)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True, env=env, start_new_session=True)
        log.close()
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, (folder / "fake.log").read_text()

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def env(self, token: str = "dapi-ada") -> dict[str, str]:
        return {"DATABRICKS_HOST": self.url, "DATABRICKS_TOKEN": token}

    def order(self, what: str, **fields: Any) -> Any:
        request = Request(f"{self.url}/fake/{what}", json.dumps(fields).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def fault(self, path: str, kind: str, times: int = 1, after: int = 0, wait: int = 1) -> None:
        """Of the calls whose method and path match, after so many, so many end so: a status, "reset" (nothing was done) or "lost" (it was
        done, and the answer is lost). wait: seconds in Retry-After."""
        self.order("fault", path=path, kind=kind, times=times, after=after, wait=wait)

    def calls(self, pattern: str = "") -> list[dict[str, Any]]:
        return [each for each in self.order("log") if re.search(pattern, f"{each['method']} {each['path']}")]


# The server.


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        self.status, self.headers = status, {key.replace("_", "-"): value for key, value in headers.items()}
        self.body = {"error_code": code, "message": message}
        if status == 401 and code == "invalid_client":  # OAuth has names of its own.
            self.body = {"error": code, "error_description": message}


class Fake:
    """All that the workspace knows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, threading.RLock()
        self.base = ""
        self.faults: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {"page": 3, "cloud": "AWS_PRESIGNED_URL", "old": False, "expires": 3600}
        self.tokens: dict[str, str] = dict(TOKENS)
        for name in ("workspace/Users/ada@example.org", "workspace/Users/eve@example.org", "workspace/Shared", "dbfs", "cloud",
                     f"workspace/Users/{CLIENT}", "Volumes/main/ml/files", "Models"):  # fmt: skip
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._mlflow = _mlflow(folder)
        from databricks_parts import Catalog, Jobs, Storage

        self.storage, self.jobs, self.catalog = Storage(self), Jobs(self), Catalog(self)

    # Who asks.

    def user(self, headers: Any) -> str:
        kind, _, token = headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            raise Refused(401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type for this API.")
        if token in self.settings.get("expired", []):
            raise Refused(401, "UNAUTHENTICATED", "The access token is expired.")
        if token not in self.tokens:
            raise Refused(401, "UNAUTHENTICATED", "Invalid access token.")
        return self.tokens[token]

    def login(self, headers: Any) -> dict[str, Any]:
        """OAuth for machines."""
        given = base64.b64decode(headers.get("Authorization", "").partition(" ")[2]).decode()
        if given != f"{CLIENT}:{SECRET}":
            raise Refused(401, "invalid_client", "Client authentication failed")
        token = f"oauth-{len(self.tokens)}"
        self.tokens[token] = CLIENT
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.settings["expires"]}

    def allowed(self, user: str, path: str) -> None:
        """Raise what Databricks says of a workspace folder of somebody else, or of one that is not there."""
        home = re.match(r"/(?:Workspace/)?Users/([^/]+)", path)
        if home and home[1] != user:
            raise Refused(
                403, "PERMISSION_DENIED", f"{user} does not have Manage permissions on {path}. Please contact the owner."
            )
        if not path.removeprefix("/Workspace").startswith(("/Users/", "/Shared/")):
            raise Refused(403, "PERMISSION_DENIED", f"{user} cannot write to the folder {path}.")

    # MLflow's own server, and what is otherwise here.

    def mlflow(self, method: str, path: str, query: dict[str, Any], body: bytes) -> Any:
        answer = self._mlflow.open(path, method=method, query_string=query, data=body or None, content_type="application/json" if body else None)  # fmt: skip
        text = answer.get_data(as_text=True)
        try:
            found = json.loads(re.sub(r"(mlflow-tracking/\d+)/models/(m-)", r"\1/logged_models/\2", text))
        except ValueError:
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'") from None
        if answer.status_code >= 400:
            raise Refused(answer.status_code, found.get("error_code", "INTERNAL_ERROR"), found.get("message", ""))
        return found

    def tracking(self, user: str, method: str, path: str, query: dict[str, Any], raw: bytes) -> Any:
        body: dict[str, Any] = json.loads(raw) if raw else {}
        verb = path.removeprefix("/api/2.0/mlflow/")
        for own in (self.storage.mlflow, self.catalog.mlflow):
            if (found := own(method, verb, query, body)) is not None:
                return found
        if (verb.startswith("logged-models") and self.settings["old"]) or verb.startswith("registered-models/alias"):
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        if verb == "experiments/create":
            self._named(user, body.get("name", ""))
        if verb == "runs/log-batch" and len(raw) > 1 << 20:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "Request body exceeds the limit of 1 MB.")
        given = query if method == "GET" else body
        if verb.endswith(("/search", "get-history", "list")):
            page = 300 if verb.endswith("history") else self.settings["page"]
            given["max_results"] = min(int(given.get("max_results") or 1000), page)
        found = self.mlflow(method, path, query, json.dumps(body).encode() if raw else b"")
        if verb == "experiments/search":
            found["experiments"] = [each for each in found.get("experiments", []) if each["name"].startswith("/")]
        return found

    def _named(self, user: str, name: str) -> None:
        if not name.startswith("/"):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Got an invalid experiment name '{name}'. An experiment name must be an absolute path within the Databricks workspace, e.g. '/Users/<some-username>/my-experiment'.")  # fmt: skip
        self.allowed(user, name)
        parent = self.folder / "workspace" / name.rpartition("/")[0].lstrip("/").removeprefix("Workspace/")
        if not parent.is_dir():
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Parent directory {name.rpartition('/')[0]} does not exist.")

    # Troubles.

    def trouble(self, method: str, path: str) -> str:
        """What an order of the test says is to happen to this call; "" for nothing."""
        with self.lock:
            for each in self.faults:
                if each["times"] > 0 and re.search(each["path"], f"{method} {path}"):
                    if each["after"] > 0:
                        each["after"] -= 1
                        return ""
                    each["times"] -= 1
                    if each["kind"] in ("429", "503"):
                        code = "RESOURCE_EXHAUSTED" if each["kind"] == "429" else "TEMPORARILY_UNAVAILABLE"
                        raise Refused(
                            int(each["kind"]), code, "Too many requests, or nobody is in.", Retry_After=str(each["wait"])
                        )
                    if each["kind"] == "401":
                        raise Refused(401, "UNAUTHENTICATED", "The access token is expired.")
                    return str(each["kind"])
        return ""

    def fake(self, what: str, body: dict[str, Any]) -> Any:
        with self.lock:
            if what == "log":
                return list(self.log)
            if what == "fault":
                self.faults.append(body)
            elif what == "calm":
                self.faults.clear()
                self.log.clear()
            else:
                self.settings.update(body)
            return {}

    def answer(self, method: str, path: str, query: dict[str, Any], headers: Any, body: bytes) -> Any:
        """What a call gets: a JSON value, or (content, headers)."""
        if path.startswith("/cloud/"):
            return self.storage.cloud(method, path, query, headers, body)
        if path == "/.well-known/databricks-config":
            return {"oidc_endpoint": f"{self.base}/oidc", "workspace_id": "7"}
        if path == "/oidc/.well-known/oauth-authorization-server":
            return {"authorization_endpoint": f"{self.base}/oidc/v1/authorize", "token_endpoint": f"{self.base}/oidc/v1/token"}
        if path == "/oidc/v1/token":
            return self.login(headers)
        if not path.startswith("/api/"):
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        user = self.user(headers)
        if path == "/api/2.0/preview/scim/v2/Me":
            return {"id": "1", "userName": user, "active": True}
        if path.startswith("/api/2.0/mlflow/"):
            return self.tracking(user, method, path, query, body)
        rooms: list[tuple[str, Callable[..., Any]]] = [
            (r"/api/2\.[012]/jobs/runs/(.+)", self.jobs.answer), (r"/api/2\.0/workspace/(.+)", self.storage.workspace),
            (r"/api/2\.0/dbfs/(.+)", self.storage.dbfs), (r"/api/2\.0/fs/(.+)", self.storage.files),
        ]  # fmt: skip
        for pattern, room in rooms:
            if match := re.fullmatch(pattern, path):
                return room(user, method, match[1], query, body)
        raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")


def _mlflow(folder: Path) -> Any:
    """MLflow's own server, as a function."""
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db", "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{folder}/mlflow.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "dbfs:/databricks/mlflow-tracking", "_MLFLOW_SERVER_SERVE_ARTIFACTS": "false",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip
    from mlflow.server import app
    from mlflow.server.handlers import initialize_backend_stores
    from werkzeug.test import Client

    store = os.environ["_MLFLOW_SERVER_FILE_STORE"]
    initialize_backend_stores(store, store, "dbfs:/databricks/mlflow-tracking")
    return Client(app)


class Handler(BaseHTTPRequestHandler):
    protocol_version, fake = "HTTP/1.1", None

    def _serve(self) -> None:
        fake: Fake = self.fake  # type: ignore[assignment]
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        query = {
            key: value[0] if len(value) == 1 else value for key, value in parse_qs(parts.query, keep_blank_values=True).items()
        }
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        if path.startswith("/fake/"):
            return self._send(200, fake.fake(path.removeprefix("/fake/"), json.loads(body or b"{}")), {})
        status, headers, found = 200, {}, None
        try:
            trouble = fake.trouble(self.command, path)
            if trouble == "reset":
                return self._reset(fake, path, "reset")
            found = fake.answer(self.command, path, query, self.headers, body)
            if trouble == "lost":
                return self._reset(fake, path, "lost")
        except Refused as refused:
            status, headers, found = refused.status, refused.headers, refused.body
        except Exception:  # The fake's own: the test is to see it, and not an ended connection.
            traceback.print_exc()
            status, found = 400, {"error_code": "FAKE_IS_BROKEN", "message": traceback.format_exc()[-400:]}
        self._note(fake, path, status)
        if isinstance(found, tuple):
            found, headers = found
            status = int(headers.pop("Status", status))
        self._send(status, found, headers)
        return None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve

    def _note(self, fake: Fake, path: str, status: int | str) -> None:
        with fake.lock:
            fake.log.append({"method": self.command, "path": path, "status": status, "time": time.time()})

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        found = self.rfile.read(size)
        self.rfile.readline()
        return found

    def _reset(self, fake: Fake, path: str, kind: str) -> None:
        self._note(fake, path, kind)
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def _send(self, status: int, found: Any, headers: dict[str, str]) -> None:
        content = found if isinstance(found, bytes) else json.dumps(found if found is not None else {}).encode()
        kind = "application/octet-stream" if isinstance(found, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # The other side has gone, or was told to.
            pass

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            pass


def signed(base: str, key: str, **fields: str) -> str:
    return f"{base}/cloud/{quote(key)}?{urlencode({'sig': 'ok', **fields})}"


def main() -> None:
    sys.path.insert(0, str(HERE))
    sys.modules["databricks_fake"] = sys.modules["__main__"]
    fake = Fake(Path(sys.argv[1]).absolute())
    Handler.fake = fake  # type: ignore[assignment]
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.request_queue_size = 64
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.base = f"http://127.0.0.1:{server.server_address[1]}"
    print(fake.base, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
