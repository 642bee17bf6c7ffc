"""What the fake workspace has besides MLflow: files and signed URLs, jobs that really run, and Unity Catalog's registry."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from databricks_fake import Fake, Refused, signed


def _page(entries: list[Any], token: Any, size: int) -> tuple[list[Any], dict[str, str]]:
    start = int(token or 0)
    more = {"next_page_token": str(start + size)} if start + size < len(entries) else {}
    return entries[start : start + size], more


class Storage:
    """The workspace's files, DBFS, volumes, and the cloud's storage behind signed URLs."""

    def __init__(self, fake: Fake) -> None:
        self.fake, self.handles = fake, dict[int, tuple[Path, bytearray]]()
        self.parts: dict[str, dict[str, bytes]] = {}

    def at(self, path: str) -> Path:
        """The real file behind a path of the workspace, of DBFS or of a volume."""
        root = self.fake.folder
        if path.startswith(("/Volumes/", "/Models/")):
            return root / path.lstrip("/")
        if path.startswith("dbfs:/"):
            rest = path.removeprefix("dbfs:")
            return self.at(rest) if rest.startswith("/Volumes/") else root / "dbfs" / rest.lstrip("/")
        if path.startswith("/dbfs/"):
            return root / path.lstrip("/")
        return root / "workspace" / path.removeprefix("/Workspace").lstrip("/")

    # Artifacts of runs, logged models and registered versions.

    def _root(self, uri: str) -> str:
        return re.sub(r"^dbfs:/databricks/mlflow-tracking/", "", uri).rstrip("/")

    def _run_root(self, run_id: str) -> str:
        found = self.fake.mlflow("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id}, b"")
        return self._root(found["run"]["info"]["artifact_uri"])

    def _model_root(self, model_id: str) -> str:
        found = self.fake.mlflow("GET", f"/api/2.0/mlflow/logged-models/{model_id}", {}, b"")
        return self._root(found["model"]["info"]["artifact_uri"])

    def _version_root(self, name: str, version: str) -> str:
        found = self.fake.mlflow(
            "GET", "/api/2.0/mlflow/model-versions/get-download-uri", {"name": name, "version": version}, b""
        )
        uri = found["artifact_uri"]
        return self._model_root(uri.removeprefix("models:/")) if uri.startswith("models:/m-") else self._root(uri)

    def _listed(self, root: str, path: str, token: Any) -> dict[str, Any]:
        folder = self.fake.folder / "cloud" / root
        place = folder / path if path else folder
        if place.is_file():
            return {"files": [{"path": path, "is_dir": False, "file_size": place.stat().st_size}]}
        entries = [{"path": each.relative_to(folder).as_posix(), "is_dir": each.is_dir()}
                   | ({} if each.is_dir() else {"file_size": each.stat().st_size}) for each in sorted(place.glob("*"))]  # fmt: skip
        some, more = _page(entries, token, self.fake.settings["page"])
        return {"files": some, **more}

    def _credential(self, root: str, path: str, way: str, **fields: str) -> dict[str, Any]:
        kind = self.fake.settings["cloud"]
        url = signed(self.fake.base, f"{root}/{path}", op=way, kind=kind, until=str(time.time() + self.fake.settings.get("url_seconds", 60)), **fields)  # fmt: skip
        return {"path": path, "signed_uri": url, "type": kind, "headers": [{"name": "x-encrypted-with", "value": "ours"}]}

    def mlflow(self, method: str, verb: str, query: dict[str, Any], body: dict[str, Any]) -> Any:
        """Answers of the artifacts' part of the API; None for what is none of it."""
        if verb == "artifacts/list":
            root = self._run_root(query["run_id"])
            return {"root_uri": f"dbfs:/databricks/mlflow-tracking/{root}"} | self._listed(
                root, query.get("path", ""), query.get("page_token")
            )
        if match := re.fullmatch(r"artifacts/credentials-for-(read|write)", verb):
            paths = body.get("path") or []
            if isinstance(paths, str) or not body.get("run_id"):
                raise Refused(400, "INVALID_PARAMETER_VALUE", "run_id and path, a list, are needed.")
            root = self._run_root(body["run_id"])
            return {"credential_infos": [{"run_id": body["run_id"]} | self._credential(root, path, match[1]) for path in paths]}
        if verb == "artifacts/create-multipart-upload":
            root, upload = self._run_root(body["run_id"]), f"up{len(self.parts)}"
            self.parts[upload] = {}
            infos = [
                self._credential(root, body["path"], "part", upload=upload, part=str(number))
                for number in range(1, body["num_parts"] + 1)
            ]
            return {
                "upload_id": upload,
                "upload_credential_infos": infos,
                "abort_credential_info": self._credential(root, body["path"], "abort"),
            }
        if verb == "artifacts/complete-multipart-upload":
            have = self.parts.pop(body["upload_id"])
            given = {str(each["part_number"]): each["etag"] for each in body["part_etags"]}
            if given != {number: f'"{number}-{len(part)}"' for number, part in have.items()}:
                raise Refused(400, "INVALID_PARAMETER_VALUE", "The parts are not those that were sent.")
            self._keep(
                f"{self._run_root(body['run_id'])}/{body['path']}", b"".join(have[str(n)] for n in range(1, len(have) + 1))
            )
            return {}
        if (match := re.fullmatch(r"logged-models/([^/]+)/artifacts/(.+)", verb)) and not self.fake.settings["old"]:
            root = self._model_root(match[1])
            if match[2] == "directories":
                return self._listed(root, query.get("artifact_directory_path", ""), query.get("page_token"))
            way = {"credentials-for-download": "read", "credentials-for-upload": "write"}[match[2]]
            return {
                "credentials": [
                    {"model_id": match[1], "credential_info": self._credential(root, each, way)} for each in body["paths"]
                ]
            }
        if verb == "model-versions/list-artifacts":
            return self._listed(
                self._version_root(query["name"], query["version"]), query.get("path", ""), query.get("page_token")
            )
        if verb == "model-versions/get-signed-download-uri":
            found = self._credential(self._version_root(query["name"], query["version"]), query.get("path", ""), "read")
            return {"signed_uri": found["signed_uri"], "headers": found["headers"]}
        return None

    def _keep(self, key: str, content: bytes, *, more: bool = False) -> None:
        target = self.fake.folder / "cloud" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab" if more else "wb") as file:
            file.write(content)

    def cloud(self, method: str, path: str, query: dict[str, Any], headers: Any, body: bytes) -> Any:
        """The cloud's storage: it knows signatures, and no tokens."""
        key = path.removeprefix("/cloud/")
        if headers.get("Authorization"):
            raise Refused(400, "InvalidArgument", "Only one auth mechanism allowed; a signed URL was sent with a token.")
        if query.get("sig") != "ok" or float(query["until"]) < time.time():
            raise Refused(403, "AccessDenied", "Request has expired")
        if headers.get("x-encrypted-with") != "ours":
            raise Refused(403, "SignatureDoesNotMatch", "A header that was signed is missing.")
        if method == "GET" and query["op"] == "read":
            target = self.fake.folder / "cloud" / key
            if not target.is_file():
                raise Refused(404, "NoSuchKey", key)
            return self._read(target.read_bytes(), headers.get("Range", ""))
        if query["op"] == "part":
            self.parts[query["upload"]][query["part"]] = body
            return b"", {"ETag": f'"{query["part"]}-{len(body)}"'}
        if query["op"] != "write":
            raise Refused(403, "AccessDenied", "Signed for something else.")
        return self._written(method, key, query, headers, body)

    def _read(self, content: bytes, asked: str) -> Any:
        if self.fake.settings.get("cut"):  # Break off in the middle, once.
            self.fake.settings["cut"] -= 1
            return content[: len(content) // 2], {"Content-Length": str(len(content)), "Connection": "close"}
        if match := re.fullmatch(r"bytes=(\d+)-", asked):
            start = int(match[1])
            return content[start:], {"Status": "206", "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return content, {}

    def _written(self, method: str, key: str, query: dict[str, Any], headers: Any, body: bytes) -> Any:
        kind = query["kind"]
        if kind == "AZURE_SAS_URI":
            if query.get("comp") == "block":
                self.parts.setdefault(key, {})[query["blockid"]] = body
            elif query.get("comp") == "blocklist":
                have = self.parts.pop(key)
                self._keep(key, b"".join(have[each] for each in re.findall(r"<(?:Latest|Uncommitted)>(.*?)</", body.decode())))
            elif headers.get("x-ms-blob-type") == "BlockBlob":
                self._keep(key, body)
            else:
                raise Refused(400, "MissingRequiredHeader", "x-ms-blob-type")
        elif kind == "AZURE_ADLS_GEN2_SAS_URI":
            if method == "PUT" and query.get("resource") == "file":
                self._keep(key, b"")
            elif method == "PATCH" and query.get("action") == "append":
                self.parts.setdefault(key, {})[query["position"]] = body
                if query.get("flush") == "true":
                    self._keep(key, b"".join(self.parts.pop(key).values()))
            elif method == "PATCH" and query.get("action") == "flush":
                parts = self.parts.pop(key, {})
                self._keep(key, b"".join(parts[each] for each in sorted(parts, key=int)))
            else:
                raise Refused(400, "InvalidQueryParameterValue", "resource, action")
        elif method != "PUT":
            raise Refused(405, "MethodNotAllowed", method)
        else:
            self._keep(key, body)
        return b"", {}

    # The workspace's files.

    def workspace(self, user: str, method: str, verb: str, query: dict[str, Any], raw: bytes) -> Any:
        body = json.loads(raw) if raw else query
        path = str(body["path"])
        target = self.at(path)
        if verb == "get-status":
            if not target.exists():
                raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.")
            return {"path": path, "object_type": "DIRECTORY" if target.is_dir() else "FILE", "size": target.stat().st_size}
        self.fake.allowed(user, path)
        if verb == "mkdirs":
            target.mkdir(parents=True, exist_ok=True)
            return {}
        if verb == "import":
            content = base64.b64decode(body["content"])
            if len(content) > 10 << 20:
                raise Refused(
                    400,
                    "MAX_NOTEBOOK_SIZE_EXCEEDED",
                    f"File size imported is ({len(content)} bytes), exceeded max size (10485760 bytes)",
                )
            if not target.parent.is_dir():
                raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"The parent folder ({path.rpartition('/')[0]}) does not exist.")
            if target.exists() and not body.get("overwrite"):
                raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Path ({path}) already exists.")
            target.write_bytes(content)
            return {}
        raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} /workspace/{verb}'")

    def dbfs(self, user: str, method: str, verb: str, query: dict[str, Any], raw: bytes) -> Any:
        body = json.loads(raw) if raw else query
        if verb == "create":
            handle = len(self.handles) + 1
            self.handles[handle] = self.at(f"dbfs:{body['path']}"), bytearray()
            return {"handle": handle}
        if verb == "add-block":
            self.handles[body["handle"]][1].extend(base64.b64decode(body["data"]))
            return {}
        if verb == "close":
            target, content = self.handles[body["handle"]]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bytes(content))
            return {}
        target = self.at(f"dbfs:{body['path']}")
        if not target.exists():
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"No file or directory exists on path {body['path']}.")
        if verb == "get-status":
            return {"path": body["path"], "is_dir": target.is_dir(), "file_size": target.stat().st_size}
        if verb == "list":
            found = sorted(target.glob("*")) if target.is_dir() else [target]
            root = self.at("dbfs:/")
            return {
                "files": [
                    {"path": f"/{each.relative_to(root)}", "is_dir": each.is_dir(), "file_size": each.stat().st_size}
                    for each in found
                ]
            }
        if verb == "read":
            start = int(body.get("offset", 0))
            part = target.read_bytes()[start : start + int(body.get("length", 1 << 20))]
            return {"bytes_read": len(part), "data": base64.b64encode(part).decode()}
        raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} /dbfs/{verb}'")

    def files(self, user: str, method: str, verb: str, query: dict[str, Any], raw: bytes) -> Any:
        kind, _, path = verb.partition("/")
        if path.startswith("WorkspaceInternal/"):  # Where this is closed, MLflow's client asks for signed URLs.
            raise Refused(403, "PERMISSION_DENIED", "The Files API is not open for workspace-internal storage.")
        if not path.startswith(("Volumes/main/", "Models/main/")):
            raise Refused(404, "NOT_FOUND", f"The directory being accessed is not found: /{path}")
        if path.startswith("Models/"):
            self.fake.catalog.may_write(path, method)
        target = self.at(f"/{path}")
        if kind == "files" and method == "PUT":
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and query.get("overwrite") == "false":
                raise Refused(409, "ALREADY_EXISTS", "The file being created already exists.")
            target.write_bytes(raw)
            return b"", {"Status": "204"}
        if kind == "directories" and method == "PUT":
            target.mkdir(parents=True, exist_ok=True)
            return b"", {"Status": "204"}
        if not target.exists() or target.is_dir() != (kind == "directories"):
            raise Refused(404, "NOT_FOUND", f"The file being accessed is not found: /{path}")
        if kind == "files":
            return target.read_bytes() if method == "GET" else b"", {"Content-Type": "application/octet-stream", "Last-Modified": "Sun, 01 Jan 2023 00:00:00 GMT"} | ({"Content-Length": str(target.stat().st_size)} if method == "HEAD" else {})  # fmt: skip
        entries = [{"path": f"/{each.relative_to(self.fake.folder)}", "name": each.name, "is_directory": each.is_dir(), "file_size": each.stat().st_size}
                   for each in sorted(target.glob("*"))]  # fmt: skip
        some, more = _page(entries, query.get("page_token"), self.fake.settings["page"])
        return {"contents": some, **more}


class Jobs:
    """One-time runs. Each is a process, whose environment is what a cluster gives."""

    def __init__(self, fake: Fake) -> None:
        self.fake, self.runs, self.keys = fake, dict[int, dict[str, Any]](), dict[str, int]()

    def answer(self, user: str, method: str, verb: str, query: dict[str, Any], raw: bytes) -> Any:
        body = json.loads(raw) if raw else query
        with self.fake.lock:
            if verb == "submit":
                return {"run_id": self._submit(user, body)}
            run_id = int(body["run_id"])
            run = self.runs.get(run_id) or self.runs.get(run_id - 1)
            if run is None:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")
            if verb == "get":
                return self._told(run)
            if verb == "cancel":
                self._end(run, "CANCELED", "Run cancelled.")
                return {}
            if verb == "get-output":
                if run_id == run["run_id"] and len(run["tasks"]) != 0:
                    raise Refused(400, "INVALID_PARAMETER_VALUE", "Retrieving the output of runs with multiple tasks is not supported. Please retrieve the output of each individual task run instead.")  # fmt: skip
                text = run["log"].read_text() if run["log"].exists() else ""
                failed = {"error": "SystemExit: 1", "error_trace": text[-200:]} if run["result"] == "FAILED" else {}
                return {"metadata": self._told(run)["tasks"][0], "logs": text, "logs_truncated": False, **failed}
        raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} /jobs/runs/{verb}'")

    def _submit(self, user: str, body: dict[str, Any]) -> int:
        key = body.get("idempotency_token") or ""
        if len(key) > 64:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "idempotency_token can have at most 64 characters.")
        if key and key in self.keys:
            return self.keys[key]
        (task,) = body["tasks"]
        self._check(task, body)
        run_id = 1000 + 2 * len(self.runs)
        log = self.fake.folder / "jobs" / f"{run_id}.log"
        log.parent.mkdir(exist_ok=True)
        run = {"run_id": run_id, "tasks": [task["task_key"]], "body": body, "state": "PENDING", "result": "", "message": "", "log": log, "process": None, "user": user}  # fmt: skip
        self.runs[run_id] = run
        self.keys[key] = run_id
        (self.fake.folder / "jobs" / f"{run_id}.json").write_text(json.dumps(body))
        threading.Thread(target=self._work, args=(run, task), daemon=True).start()
        return run_id

    def _check(self, task: dict[str, Any], body: dict[str, Any]) -> None:
        cluster = task.get("new_cluster")
        if cluster is not None and not {"spark_version", "node_type_id"} <= cluster.keys():
            missing = sorted({"spark_version", "node_type_id"} - cluster.keys())[0]
            raise Refused(
                400,
                "INVALID_PARAMETER_VALUE",
                f"Cluster validation error: Missing required field: settings.cluster_spec.new_cluster.{missing}",
            )
        if task.get("existing_cluster_id") not in (None, "0101-000000-abcd"):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Cluster {task['existing_cluster_id']} does not exist")
        keys = {each["environment_key"] for each in body.get("environments", [])}
        if cluster is None and "existing_cluster_id" not in task and task.get("environment_key") not in keys:
            raise Refused(
                400, "INVALID_PARAMETER_VALUE", "A task environment can not be provided for notebook task, or is missing."
            )

    def _here(self, word: str) -> str:
        """The cluster's file systems are folders of ours."""
        return str(self.fake.storage.at(word)) if word.startswith(("/Workspace/", "/Volumes/", "/dbfs/", "dbfs:/")) else word

    def _work(self, run: dict[str, Any], task: dict[str, Any]) -> None:
        cluster = task.get("new_cluster") or {}
        time.sleep(self.fake.settings.get("starting", 0.05))
        wanted = [each.get("pypi", {}).get("package", "") for each in task.get("libraries", [])]
        for each in run["body"].get("environments", []):
            wanted += each["spec"].get("dependencies", [])
        if cluster.get("node_type_id") == "nosuch":
            return self._end(
                run,
                "FAILED",
                "Cluster 'x' was terminated. Reason: INVALID_ARGUMENT. Node type nosuch is not supported.",
                "INTERNAL_ERROR",
            )
        if bad := next((each for each in wanted if each.startswith("nosuch")), ""):
            return self._end(
                run, "FAILED", f"Library installation failed: No matching distribution found for {bad}", "INTERNAL_ERROR"
            )
        own = task["spark_python_task"]
        argv = [
            sys.executable,
            "-W",
            "ignore",
            self._here(own["python_file"]),
            *(self._here(each) for each in own.get("parameters", [])),
        ]
        token = next(token for token, name in self.fake.tokens.items() if name == run["user"])
        home = self.fake.folder / "jobs" / str(run["run_id"])
        home.mkdir()
        env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
               "DATABRICKS_HOST": self.fake.base, "DATABRICKS_TOKEN": token, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
               **cluster.get("spark_env_vars", {})}  # fmt: skip
        with self.fake.lock:
            if run["state"] != "PENDING":
                return None
            with run["log"].open("wb") as log:
                run["process"] = subprocess.Popen(
                    argv, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=home, start_new_session=True
                )
            run["state"] = "RUNNING"
        try:
            code = run["process"].wait(run["body"].get("timeout_seconds") or None)
        except subprocess.TimeoutExpired:
            return self._end(run, "TIMEDOUT", "The run was stopped because it exceeded its time limit.")
        return self._end(
            run,
            "FAILED" if code else "SUCCESS",
            f"Workload failed, see run output for details (exit code {code})" if code else "",
        )

    def _end(self, run: dict[str, Any], result: str, message: str, state: str = "TERMINATED") -> None:
        with self.fake.lock:
            if run["state"] in ("TERMINATED", "INTERNAL_ERROR"):
                return
            run.update(state=state, result=result, message=message)
            if run["process"] and run["process"].poll() is None:
                os.killpg(run["process"].pid, signal.SIGKILL)

    def _told(self, run: dict[str, Any]) -> dict[str, Any]:
        state = {
            "life_cycle_state": run["state"],
            "state_message": run["message"],
            **({"result_state": run["result"]} if run["result"] else {}),
        }
        page = f"{self.fake.base}/?o=0#job/{run['run_id']}/run/1"
        task = {"run_id": run["run_id"] + 1, "task_key": run["tasks"][0], "state": state}
        return {
            "run_id": run["run_id"],
            "job_id": run["run_id"] + 7,
            "state": state,
            "tasks": [task],
            "run_page_url": page,
            "run_type": "SUBMIT_RUN",
        }


class Catalog:
    """Unity Catalog's registry: models of three names, no stages, and versions that are finalized when their files are there."""

    def __init__(self, fake: Fake) -> None:
        self.fake, self.models = fake, dict[str, dict[str, Any]]()

    def may_write(self, path: str, method: str) -> None:
        parts = path.split("/")
        version = self._versions(".".join(parts[1:4])).get(parts[4] if len(parts) > 4 else "")
        if version is None:
            raise Refused(404, "NOT_FOUND", f"The path /{path} is in no version of a model.")
        if method == "PUT" and version["status"] != "PENDING_REGISTRATION":
            raise Refused(403, "PERMISSION_DENIED", "The files of a version that is ready cannot be written.")

    def _versions(self, name: str) -> dict[str, dict[str, Any]]:
        return self._model(name)["versions"]  # type: ignore[no-any-return]

    def _model(self, name: str) -> dict[str, Any]:
        if name.count(".") != 2:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"[UC] Model name must be of the form catalog.schema.model, got {name}")
        if not name.startswith("main."):
            raise Refused(403, "PERMISSION_DENIED", f"User does not have USE CATALOG on Catalog '{name.split('.')[0]}'.")
        if name not in self.models:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Registered model '{name}' does not exist.")
        return self.models[name]

    def _one(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self._versions(body["name"])
        if str(body["version"]) not in found:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Model version {body['version']} of '{body['name']}' does not exist.")
        return found[str(body["version"])]

    def mlflow(self, method: str, verb: str, query: dict[str, Any], body: dict[str, Any]) -> Any:
        """Answers of Unity Catalog's part of the API; None for what is none of it."""
        if not verb.startswith("unity-catalog/"):
            return None
        given = query if method == "GET" else body
        with self.fake.lock:
            found = self._answer(method, verb.removeprefix("unity-catalog/"), given)
        if found is None:
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {verb}'")
        return found

    def _answer(self, method: str, verb: str, given: dict[str, Any]) -> Any:
        now = int(time.time() * 1000)
        if verb == "registered-models/create":
            try:
                self._model(given["name"])
            except Refused as refused:
                if refused.status != 404:
                    raise
                self.models[given["name"]] = {"name": given["name"], "description": given.get("description", ""), "tags": given.get("tags", []),
                                              "creation_timestamp": now, "aliases": {}, "versions": {}}  # fmt: skip
                return {"registered_model": self._plain(given["name"])}
            raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Registered model '{given['name']}' already exists.")
        if verb == "registered-models/get":
            return {"registered_model": self._plain(given["name"])}
        if verb == "registered-models/search":
            some, more = _page(sorted(self.models), given.get("page_token"), self.fake.settings["page"])
            return {"registered_models": [self._plain(each) for each in some], **more}
        if verb == "registered-models/alias" and method == "POST":
            self._one(given)
            self._model(given["name"])["aliases"][given["alias"]] = str(given["version"])
            return {}
        if verb == "registered-models/alias" and method == "GET":
            aliases = self._model(given["name"])["aliases"]
            if given["alias"] not in aliases:
                raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Alias '{given['alias']}' does not exist.")
            return {"model_version": self._of(self._one({"name": given["name"], "version": aliases[given["alias"]]}))}
        if verb == "model-versions/create":
            versions = self._versions(given["name"])
            number = str(max(map(int, versions), default=0) + 1)
            versions[number] = {"name": given["name"], "version": number, "creation_timestamp": now, "last_updated_timestamp": now, "source": given["source"],
                                "run_id": given.get("run_id", ""), "description": given.get("description", ""), "tags": given.get("tags", []), "status": "PENDING_REGISTRATION"}  # fmt: skip
            return {"model_version": versions[number]}
        if verb == "model-versions/finalize":
            place = self.fake.storage.at(f"/Models/{given['name'].replace('.', '/')}/{given['version']}")
            if "signature" not in ((place / "MLmodel").read_text() if (place / "MLmodel").exists() else ""):
                raise Refused(
                    400, "INVALID_PARAMETER_VALUE", "Model passed for registration did not contain any signature metadata."
                )
            self._one(given)["status"] = "READY"
            return {"model_version": self._one(given)}
        if verb == "model-versions/get":
            return {"model_version": self._of(self._one(given))}
        if verb == "model-versions/delete" and method == "DELETE":
            del self._versions(given["name"])[str(self._one(given)["version"])]
            return {}
        if verb == "model-versions/search":
            name = re.fullmatch(r"name\s*=\s*'(.*)'", given["filter"])
            assert name is not None
            newest = sorted(self._versions(name[1]).values(), key=lambda each: -int(each["version"]))
            some, more = _page(newest, given.get("page_token"), self.fake.settings["page"])
            return {"model_versions": [self._of(each) for each in some], **more}
        return None

    def _plain(self, name: str) -> dict[str, Any]:
        model = {key: value for key, value in self._model(name).items() if key != "versions"}
        return model | {"aliases": [{"alias": alias, "version": version} for alias, version in model["aliases"].items()]}

    def _of(self, version: dict[str, Any]) -> dict[str, Any]:
        return version | {"aliases": list(self._named(version))}

    def _named(self, version: dict[str, Any]) -> Iterator[dict[str, str]]:
        for alias, number in self._model(version["name"])["aliases"].items():
            if number == version["version"]:
                yield {"alias": alias, "version": number}
