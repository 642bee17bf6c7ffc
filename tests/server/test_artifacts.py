"""Artifacts over HTTP: the same on a disk and in an object store, whole or absent, and never outside of their root."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria.client import http as client
from noria.client.http import PART, Server
from noria.errors import Invalid, Unavailable
from noria.wire import artifacts, experiments, runs
from tests.conftest import Running, require, until

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of moto's server, a real process that speaks S3, with a bucket `kept`."""
    require("moto", find_spec("moto") is not None and find_spec("s3fs") is not None, "pip install 'moto[server]' s3fs")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    argv = [sys.executable, "-c", "from moto.server import main; main()", "-p", str(port)]
    process = subprocess.Popen(argv, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(port), 30)
        urllib.request.urlopen(urllib.request.Request(f"{url}/kept", method="PUT"), timeout=20).close()
        yield url
    finally:
        process.kill()
        process.wait()
        log.close()


def answers(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module", params=["disk", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server for each of the two places that artifacts are kept in."""
    place = tmp_path_factory.mktemp("shared") / "artifacts"
    options = ["--artifacts", str(place)]
    with pytest.MonkeyPatch.context() as env:
        if request.param == "s3":
            options = ["--artifacts", "s3://kept/some/prefix"]
            for name, value in {**KEYS, "AWS_ENDPOINT_URL": request.getfixturevalue("s3")}.items():
                env.setenv(name, value)
        running = Running(tmp_path_factory.mktemp("home"), *options)
        yield running
        running.stop()


class Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["message"])


def ask(server: Running, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request as it is written: nothing is quoted or tidied up."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=30)
    try:
        given = {"Authorization": f"Bearer {server.token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def content(path: str) -> str:
    return f"{artifacts.CONTENT}/{urllib.parse.quote(path)}"


def put(server: Running, path: str, data: bytes) -> Answer:
    return ask(server, "PUT", content(path), data)


def get(server: Running, path: str, **headers: str) -> Answer:
    return ask(server, "GET", content(path), **headers)


def listed(server: Running, path: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        ask(server, "GET", f"{artifacts.CONTENT}?{urllib.parse.urlencode({'path': path})}").body
    ).get("files", [])
    return found


@pytest.mark.parametrize("size", [0, 1, 10_000, 600_000, 3 << 20])
def test_what_is_put_is_got(kept: Running, size: int) -> None:
    data = os.urandom(size)
    assert (put(kept, "got/a/b.bin", data).status, get(kept, "got/a/b.bin").body) == (200, data)
    assert put(kept, "got/a/b.bin", data[::-1]).status == 200  # Replaced as a whole.
    assert get(kept, "got/a/b.bin").body == data[::-1]


def test_an_empty_file_comes_in_chunks_from_mlflow(kept: Running) -> None:
    for blocks in ([], [b"a" * 700_000, b"b"]):
        answer = ask(kept, "PUT", content("chunked.bin"), iter(blocks))
        assert (answer.status, get(kept, "chunked.bin").body) == (200, b"".join(blocks))


def test_listings_and_removal(kept: Running) -> None:
    for name in ("l/b.txt", "l/a/x", "l/a/y/z", "l/ä ö.txt", "l/ab"):
        put(kept, name, b"123")
    file = {"is_dir": False, "file_size": 3}
    assert listed(kept, "l") == [
        {"path": "a", "is_dir": True},
        {"path": "ab", **file},
        {"path": "b.txt", **file},
        {"path": "ä ö.txt", **file},
    ]
    assert listed(kept, "l/a/") == [{"path": "x", **file}, {"path": "y", "is_dir": True}]
    assert (listed(kept, "l/ab"), listed(kept, "nosuch")) == ([], [])
    assert listed(kept, "l/a/.") == listed(kept, "./l/./a") == listed(kept, "l/a") and listed(kept, ".") == listed(kept)
    assert {"path": "l", "is_dir": True} in listed(kept)
    assert not [each for each in listed(kept) if each["path"].startswith(".")]
    for _ in range(2):  # Again is harmless.
        assert ask(kept, "DELETE", content("l/a")).status == 200
        assert ask(kept, "DELETE", content("l/b.txt")).status == 200
    assert [each["path"] for each in listed(kept, "l")] == ["ab", "ä ö.txt"]
    assert get(kept, "l/a/x").status == 404
    assert ask(kept, "DELETE", f"{content('l')}/").status == 200  # As `mlflow gc` writes it.
    assert listed(kept, "l") == []


def test_what_is_not_there(kept: Running) -> None:
    put(kept, "n/file", b"x")
    answer = get(kept, "n/other")
    assert (answer.status, json.loads(answer.body)["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert answer.message == "No such artifact: 'n/other'. List the run's artifacts to see what there is."
    assert get(kept, "n/file/below").status == 404
    answer = get(kept, "n")
    assert (answer.status, answer.message.partition(",")[0]) == (400, "'n' is a folder")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt", "text/plain"), ("MLmodel", "text/plain"), ("b.pkl", "application/octet-stream"), ("c.png", "image/png"),
     ("c.html", "text/html"), ("no ending", "application/octet-stream"), ("日本.json", "text/plain"), ('q"uo;te.csv', "text/plain")],
)  # fmt: skip
def test_a_browser_saves_and_does_not_guess(server: Running, name: str, kind: str) -> None:
    put(server, f"kinds/{name}", b"x")
    headers = get(server, f"kinds/{name}", Accept="text/html").headers
    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == (kind, "nosniff")
    shown = headers["Content-Disposition"]
    assert shown.startswith("attachment; filename=")
    if name.isascii() and name.replace(".", "").isalnum():
        assert shown == f"attachment; filename={name}"
    else:
        assert urllib.parse.unquote(shown.partition("filename*=UTF-8''")[2]) == name


DATA = bytes(range(256)) * 4000  # About 1 MB: larger than what is sent at once.


@pytest.mark.parametrize("size", [1000, len(DATA)])
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-0", 0, 1), ("0-", 0, None), ("5-9", 5, 10), ("990-", 990, None), ("-7", -7, None), ("-99999999", 0, None), ("900-99999999", 900, None)],
)  # fmt: skip
def test_a_part_of_a_file(kept: Running, size: int, asked: str, start: int, stop: int | None) -> None:
    data = DATA[:size]
    put(kept, f"ranges/{size}", data)
    answer = get(kept, f"ranges/{size}", Range=f"bytes={asked}")
    assert (answer.status, answer.body) == (206, data[start:stop])
    first = start % size if start < 0 else start
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.body) - 1}/{size}"


def test_ranges_that_are_none(kept: Running) -> None:
    put(kept, "r", b"0123456789")
    for asked in ("bytes=10-", "bytes=-0", "bytes=99-100"):
        answer = get(kept, "r", Range=asked)
        assert (answer.status, answer.headers["Content-Range"], answer.body) == (416, "bytes */10", b"")
    for asked in (
        "bytes=5-2",
        "bytes=x",
        "bytes=",
        "lines=1-2",
        "bytes=0-9,0-9",
        "bytes=" + ",".join(["0-0"] * 50),
        "bytes=0x1-2",
    ):
        answer = get(kept, "r", Range=asked)
        assert (answer.status, answer.body) == (200, b"0123456789")


def test_several_ranges_at_once(kept: Running) -> None:
    for size in (1000, len(DATA)):
        put(kept, "several", DATA[:size])
        answer = get(kept, "several", Range="bytes=0-1, 500-503 ,-2")
        kind, _, border = answer.headers["Content-Type"].partition("; boundary=")
        assert (answer.status, kind) == (206, "multipart/byteranges")
        parts = answer.body.split(f"\r\n--{border}".encode())
        assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [DATA[:2], DATA[500:504], DATA[size - 2 : size]]
        assert f"Content-Range: bytes 500-503/{size}".encode() in parts[2] and parts[-1] == b"--\r\n"


def test_a_download_is_resumed_only_in_the_same_file(kept: Running) -> None:
    put(kept, "resumed", b"first one")
    etag = get(kept, "resumed").headers["ETag"]
    assert get(kept, "resumed", Range="bytes=6-", If_Range=etag).body == b"one"
    assert get(kept, "resumed", If_None_Match=etag).status == 304
    put(kept, "resumed", b"other one")
    answer = get(kept, "resumed", Range="bytes=6-", If_Range=etag)
    assert (answer.status, answer.body) == (200, b"other one")
    assert get(kept, "resumed", If_None_Match=etag).status == 200


def test_head_tells_what_get_would_send(kept: Running) -> None:
    for size in (0, 10, len(DATA)):
        put(kept, "head", DATA[:size])
        got, told = get(kept, "head"), ask(kept, "HEAD", content("head"))
        assert (told.status, told.body, told.headers["Content-Length"]) == (200, b"", str(size))
        assert all(told.headers[name] == got.headers[name] for name in ("ETag", "Content-Type", "Last-Modified", "Accept-Ranges"))
    assert ask(kept, "HEAD", content("nosuch")).status == 404


def test_a_run_a_version_and_a_logged_model(server: Running) -> None:
    run = server.client.call(runs.CREATE, runs.Create()).run.info
    root = artifacts.inside(run.artifact_uri)
    put(server, f"{root}/model/MLmodel", b"flavors: {}")
    answer = json.loads(ask(server, "GET", f"/api/2.0/mlflow/artifacts/list?run_id={run.run_id}&path=model").body)
    assert answer == {"root_uri": run.artifact_uri, "files": [{"path": "model/MLmodel", "is_dir": False, "file_size": 11}]}
    assert ask(server, "GET", f"/get-artifact?run_uuid={run.run_id}&path=model%2FMLmodel").body == b"flavors: {}"
    assert ask(server, "GET", f"/get-artifact?run_id={run.run_id}").message == "Request must specify path."
    name = f"m{time.time_ns()}"
    send(server, "registered-models/create", {"name": name})
    send(server, "model-versions/create", {"name": name, "source": f"{run.artifact_uri}/model", "run_id": run.run_id})
    assert ask(server, "GET", f"/model-versions/get-artifact?name={name}&version=1&path=MLmodel").body == b"flavors: {}"
    model = send(server, "logged-models", {"experiment_id": "0", "name": "x"})["model"]["info"]
    put(server, f"{artifacts.inside(model['artifact_uri'])}/a/b.txt", b"hi")
    below = f"mlflow/logged-models/{model['model_id']}/artifacts"
    answer = json.loads(ask(server, "GET", f"/api/2.0/{below}/directories?artifact_directory_path=a").body)
    assert answer == {"root_uri": model["artifact_uri"], "files": [{"path": "a/b.txt", "is_dir": False, "file_size": 2}]}
    assert ask(server, "GET", f"/ajax-api/2.0/{below}/files?artifact_file_path=a/b.txt").body == b"hi"


def send(server: Running, path: str, body: dict[str, Any]) -> Any:
    answer = ask(server, "POST", f"/api/2.0/mlflow/{path}", json.dumps(body), Content_Type="application/json")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_the_page_of_mlflow_uploads_small_files(server: Running) -> None:
    run = server.client.call(runs.CREATE, runs.Create()).run.info
    where = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.run_id}&path=notes/a.md"
    assert ask(server, "POST", where, b"# hello").status == 200
    assert get(server, f"{artifacts.inside(run.artifact_uri)}/notes/a.md").body == b"# hello"
    assert ask(server, "POST", where, bytes(11 << 20)).status == 413
    assert ask(server, "POST", where, b"").message == "Request must specify data. An empty file is put through mlflow-artifacts."
    assert ask(server, "POST", where.replace("run_uuid", "x"), b"").message == "Request must specify run_uuid."


WAYS_OUT = [
    "../up", "a/../../up", "..", ".", "a/..", "a/./b", "%2e%2e/up", "%2E%2E%2Fup", "..%2fup", "..%2f..%2fup", "a%2f..%2f..%2fup",
    "%252e%252e/up", "%252e%252e%252fup", "..%252fup", "%25252e%25252e%25252fup", "a%00b", "a%00/../up", "%00", "..\\up", "a\\b",
    "..\\..\\", "..%5cup", "%5c%5chost%5cshare", "..%255cup", "/etc/cron.d/x", "%2fetc/passwd", "%252fetc/passwd", "a//b", "a/", "//a",
    "%c0%ae%c0%ae/up", "%c0%ae%c0%ae%c0%afup", "%ff/up", "%e0%80%ae%e0%80%ae/up", "%ef%bc%8e%ef%bc%8e/up", "%ef%bc%8e%ef%bc%8e%ef%bc%8fup",
    "%e2%80%a5/up", "%ef%bc%bcup", "%25ef%25bc%258e%25ef%25bc%258e/up", "a%0ab", "a%0d%0aSet-Cookie:x", "a%7fb", "a/" * 10_000 + "b",
    "a/" * 200 + "b", "x" * 256, "%e6%97%a5" * 100, ".noria/x", ".noria", "link/up", "link", "inner/link/up", "file_link", "dangling",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_no_path_leads_outside(own_server: Running, method: str) -> None:
    """The whole tree around the root is the same afterwards, and no answer has a byte of it."""
    tree, outside = own_server.folder / "artifacts", own_server.folder.parent / "outside"
    outside.mkdir()
    (outside / "up").write_text("secret")
    (own_server.folder.parent / "up").write_text("secret")
    (tree / "inner").mkdir()
    (tree / "link").symlink_to(outside)
    (tree / "inner/link").symlink_to("../../../outside")
    (tree / "file_link").symlink_to(outside / "up")
    (tree / "dangling").symlink_to(outside / "made")
    before = digest(own_server.folder.parent)
    for way in WAYS_OUT:
        answer = ask(own_server, method, f"{artifacts.CONTENT}/{way}", b"evil" if method == "PUT" else None)
        harmless = method in ("PUT", "DELETE") and way in (
            "link",
            "file_link",
            "dangling",
        )  # The link itself is replaced or removed.
        harmless = harmless or (method == "DELETE" and way == "a/")  # A folder, as `mlflow gc` writes it.
        assert answer.status == 400 or (harmless and answer.status == 200), (way[:60], answer.status, answer.body[:200])
        assert b"secret" not in answer.body
        if method != "HEAD" and answer.status == 400:
            assert answer.message.startswith("Invalid path") or "link" in answer.message or "folder" in answer.message, (
                answer.message
            )
    after = digest(own_server.folder.parent)
    inside = {
        path
        for path in before.keys() | after.keys()
        if path.is_relative_to(tree) and path.name in ("link", "file_link", "dangling")
    }
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= inside
    if method == "GET":
        assert before == after


def digest(folder: Path) -> dict[Path, str]:
    """What lies in a folder and in all below it, but for the database and its neighbours."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[path] = os.readlink(path)
        elif path.is_file() and not path.name.startswith(("noria.db", "server")):
            found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("parameter", ["path", "list", "files", "create"])
def test_no_parameter_leads_outside(server: Running, parameter: str) -> None:
    run = server.client.call(runs.CREATE, runs.Create()).run.info
    for way in WAYS_OUT[:42]:
        target = {
            "path": f"/get-artifact?run_id={run.run_id}&path={way}",
            "list": f"/api/2.0/mlflow/artifacts/list?run_id={run.run_id}&path={way}",
            "files": f"{artifacts.CONTENT}?path={way}",
            "create": f"{artifacts.MULTIPART}/create/{way}",
        }[parameter]
        body, method = (b'{"path": "b.bin"}', "POST") if parameter == "create" else (None, "GET")
        answer = ask(server, method, target, body, Content_Type="application/json")
        if way.endswith("/") and way.count("/") == 1:
            continue  # A folder.
        here = parameter != "create" and way in (".", "a/./b")  # As somebody writes "" and "a/b".
        assert answer.status == 400 or (here and answer.status in (200, 404)), (way, answer.status, answer.body)


def test_a_path_within_a_run_may_be_written_from_here(server: Running) -> None:
    run = server.client.call(runs.CREATE, runs.Create()).run.info
    root = artifacts.inside(run.artifact_uri)
    put(server, f"{root}/d/f", b"x")
    for folder, names in ((".", ["d"]), ("./d", ["d/f"]), ("d/.", ["d/f"]), ("./d/./", ["d/f"])):
        listed = json.loads(ask(server, "GET", f"/api/2.0/mlflow/artifacts/list?run_id={run.run_id}&path={folder}").body)
        assert [each["path"] for each in listed["files"]] == names
        listed = json.loads(ask(server, "GET", f"{artifacts.CONTENT}?path={root}/{folder}").body)
        assert [each["path"] for each in listed["files"]] == [name.removeprefix("d/") for name in names]
    assert ask(server, "GET", f"/get-artifact?run_id={run.run_id}&path=./d/f").body == b"x"
    for path in (".", "./.noria", "./../d/f"):
        assert ask(server, "GET", f"/get-artifact?run_id={run.run_id}&path={path}").status in (400, 404)


def test_a_link_that_appears_meanwhile_is_not_followed(own_server: Running, tmp_path: Path) -> None:
    """Somebody with a shell swaps a folder for a link all the time; not one request goes through it."""
    outside, tree, stop = tmp_path / "outside", own_server.folder / "artifacts", threading.Event()
    outside.mkdir()
    (outside / "file").write_text("secret")
    (tree / "real").mkdir()
    (tree / "real/file").write_text("public")
    (tree / "link").symlink_to(outside)

    def swap() -> None:
        while not stop.is_set():
            for name in ("real", "link"):
                try:
                    os.rename(tree / name, tree / "d")
                    os.rename(tree / "d", tree / name)
                except OSError:  # An upload made the folder anew just now.
                    shutil.rmtree(tree / "d", ignore_errors=True)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        seen = {get(own_server, "d/file").body for _ in range(150)}
        for number in range(150):
            put(own_server, f"d/new{number}", b"evil")
    finally:
        stop.set()
        swapping.join()
    assert b"secret" not in seen
    assert [path.name for path in outside.iterdir()] == ["file"]


@pytest.mark.parametrize("location", ["/etc", "file:///etc", "file:/etc", "../../etc", "etc", "mlflow-artifacts:/../../etc"])
def test_an_experiment_cannot_name_a_folder_of_the_server(own_server: Running, location: str) -> None:
    """Refused at once, or when its artifacts are asked for: the server never looks there."""
    try:
        made = own_server.client.call(experiments.CREATE, experiments.Create(f"e {location}", location)).experiment_id
    except Invalid:
        return
    run = own_server.client.call(runs.CREATE, runs.Create(made)).run.info
    for path in (f"/api/2.0/mlflow/artifacts/list?run_id={run.run_id}&path=", f"/get-artifact?run_id={run.run_id}&path=passwd"):
        assert ask(own_server, "GET", path).status in (400, 501)


def test_an_upload_that_breaks_off_leaves_nothing(own_server: Running) -> None:
    put(own_server, "d/kept", b"old")
    before = digest(own_server.folder / "artifacts")
    for path in ("d/kept", "new/folder/file"):
        for size in (1000, 5 << 20):
            with socket.create_connection(("127.0.0.1", int(own_server.url.rpartition(":")[2]))) as connection:
                head = f"PUT {content(path)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {own_server.token}\r\nContent-Length: {size}\r\n\r\n"
                connection.sendall(head.encode() + bytes(size - 1))
                if size > 1000:
                    until(lambda: list((own_server.folder / "artifacts/.noria").glob("*.part")))
    until(lambda: not list((own_server.folder / "artifacts/.noria").iterdir()))
    assert digest(own_server.folder / "artifacts") == before
    assert not (own_server.folder / "artifacts/new").exists()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files stands for a full disk: the kernel refuses to write on, and it needs no root.
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    running = Running(tmp_path / "full", python=limit)
    try:
        for size in (2 << 20, 9 << 20):
            answer = put(running, "d/big", bytes(size))
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.message.startswith(
                "The server's disk did not take or give 'd/big' (File too large); nothing of it was stored."
            )
        assert not list((running.folder / "artifacts/.noria").iterdir()) and listed(running) == []
        assert put(running, "d/small", b"x").status == 200
        source = tmp_path / "large"
        source.write_bytes(bytes(PART + 1))
        with pytest.raises(Unavailable, match="did not take the upload"):
            running.client.upload("mlflow-artifacts:/", "d/parts", source)
    finally:
        running.stop()


def test_of_uploads_at_once_to_one_path_one_is_there_whole(kept: Running) -> None:
    contents = [bytes([number]) * (900_000 if number % 2 else 5_000) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert {answer.status for answer in pool.map(lambda data: put(kept, "race/file", data), contents)} == {200}
    assert get(kept, "race/file").body in contents


def test_a_file_and_a_folder_of_one_name(server: Running) -> None:
    put(server, "both/file", b"x")
    for path in ("both/file/below", "both"):
        for size in (10, 600_000):
            answer = put(server, path, bytes(size))
            assert answer.status == 400, answer.body
            assert ("is a file" in answer.message) == path.endswith("below")
    assert get(server, "both/file").body == b"x"


@pytest.mark.slow
def test_what_was_answered_survives_kill_9_and_nothing_is_half(own_server: Running) -> None:
    answered: dict[str, bytes] = {}
    done = threading.Event()

    def upload(worker: int) -> None:
        number = 0
        while not done.is_set():
            number += 1
            name, size = f"k/{worker}/{number % 7}/{number}", (2 << 20) + worker if number % 5 == 0 else 100 + number
            data = name.encode() * (size // len(name))
            try:
                if put(own_server, name, data).status == 200:
                    answered[name] = data
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)

    with ThreadPoolExecutor(6) as pool:
        working = [pool.submit(upload, worker) for worker in range(6)]
        for round in range(1, 6):
            until(lambda: len(answered) > 20 * round, 30)  # noqa: B023
            own_server.kill()
            own_server.start()
        done.set()
        for each in working:
            each.result()
    tree = own_server.folder / "artifacts"
    for name, data in answered.items():
        assert (tree / name).read_bytes() == data
    for path in (tree / "k").rglob("*"):
        if path.is_file():
            name = path.relative_to(tree).as_posix().encode()
            assert path.read_bytes().startswith(name) and len(path.read_bytes()) % len(name) == 0


def test_what_a_dead_server_left_is_removed_once_it_is_old(own_server: Running) -> None:
    staging = own_server.folder / "artifacts/.noria"
    own_server.kill()
    for name, age in (("a-1.part", 86_400), ("b-2.gone", 86_400), ("c-3.part", 60)):
        (staging / name).mkdir() if name.endswith("gone") else (staging / name).write_bytes(b"half")
        os.utime(staging / name, (time.time() - age, time.time() - age))
    own_server.start()
    assert [path.name for path in staging.iterdir()] == ["c-3.part"]  # Another server may be at it.


@pytest.mark.slow
def test_places_that_cannot_be(noria: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, sentence in (
        ("nosuch://x/y", "Artifacts cannot be kept at nosuch://x/y"),
        ("relative/folder", "'relative/folder' is no place for artifacts. Give a folder from / on"),
        (str(tmp_path / "file"), "cannot hold artifacts (File exists). Give another with --artifacts."),
    ):
        done = noria("server", "--artifacts", place, check=False)
        assert done.returncode and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.slow
def test_a_store_that_fails_is_told_in_a_sentence(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    down = Running(tmp_path / "down", "--artifacts", "s3://kept/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    missing = Running(tmp_path / "missing", "--artifacts", "s3://nosuch/x")
    try:
        for running in (down, missing):
            for size in (10, 600_000):
                answer = put(running, "a/b", bytes(size))
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1"), answer.body
                assert answer.message.startswith("The artifact store s3://") and "nothing of 'a/b' was stored" in answer.message
        assert get(down, "a/b").status == 503
        assert get(missing, "a/b").status == 404
    finally:
        down.stop()
        missing.stop()


def test_other_stores_by_url(tmp_path: Path) -> None:
    """Where files grow in sight, they are moved into it when they are whole."""
    require("fsspec", find_spec("fsspec") is not None, "pip install fsspec")
    running = Running(tmp_path / "memory", "--artifacts", "memory://tree")
    try:
        for data in (b"", b"small", os.urandom(3 << 20)):
            assert (put(running, "a/b.bin", data).status, get(running, "a/b.bin").body) == (200, data)
        source = tmp_path / "large"
        source.write_bytes(os.urandom(PART + 5))
        running.client.upload("mlflow-artifacts:/", "a/parts.bin", source)
        assert get(running, "a/parts.bin").body == source.read_bytes()
        assert [each["path"] for each in listed(running, "a")] == ["b.bin", "parts.bin"] and [
            each["path"] for each in listed(running)
        ] == ["a"]
    finally:
        running.stop()


# Uploads in parts.


class Counting(Server):
    """A client that counts the parts it sends, and may be broken off after some."""

    def __init__(self, server: Running, most: int = 10**6) -> None:
        super().__init__(server.url, server.token)
        self.sent, self.most = 0, most

    def _request(self, method: str, path: str, body: Any, kind: str, extra: Mapping[str, str] = {}) -> http.client.HTTPResponse:
        if path.startswith(artifacts.PARTS):
            if self.sent == self.most:
                raise Unavailable("The network is gone.")
            self.sent += 1
        return super()._request(method, path, body, kind, extra)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of four parts and a bit, which are smaller here."""
    monkeypatch.setattr(client, "PART", 1 << 20)
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom((4 << 20) + 1234))
    return path


ROOT = "mlflow-artifacts:/7"


def test_a_large_upload_goes_on_where_it_stopped(kept: Running, large: Path) -> None:
    with closing(Counting(kept, most=2)) as first, pytest.raises(Unavailable, match="network is gone"):
        first.upload(ROOT, "d/large.bin", large)
    assert listed(kept, "7/d") == []  # Nothing is seen before it is complete.
    kept.kill()
    kept.start()
    with closing(Counting(kept)) as second, closing(Counting(kept)) as again:
        second.upload(ROOT, "d/large.bin", large)
        assert (first.sent, second.sent) == (2, 3)
        assert get(kept, "7/d/large.bin").body == large.read_bytes()
        again.upload(ROOT, "d/large.bin", large)  # Its answer was lost, say.
        assert again.sent == 0
        ask(kept, "DELETE", content("7/d/large.bin"))
        again.upload(ROOT, "d/large.bin", large)  # But here it is wanted anew.
        assert again.sent == 5 and get(kept, "7/d/large.bin").body == large.read_bytes()


def test_a_part_that_came_otherwise_is_sent_again(server: Running, large: Path) -> None:
    with closing(Counting(server, most=4)) as broken, pytest.raises(Unavailable):
        broken.upload(ROOT, "swapped.bin", large)
    times = large.stat()
    data = bytearray(large.read_bytes())
    data[(1 << 20) + 5] ^= 1  # The file is another one, and looks like the first.
    large.write_bytes(data)
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    with closing(Counting(server)) as again:
        again.upload(ROOT, "swapped.bin", large)
        assert again.sent == 2  # The last, and then the one that differs.
    assert get(server, "7/swapped.bin").body == data


def test_the_same_file_uploaded_three_times_at_once(server: Running, large: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(patient, server, large) for _ in range(3)]:
            each.result()
    assert get(server, "7/twice.bin").body == large.read_bytes()


def patient(server: Running, large: Path) -> None:
    with closing(Counting(server)) as ours:
        for _ in range(20):
            try:
                return ours.upload(ROOT, "twice.bin", large)
            except Unavailable:
                time.sleep(0.05)
    pytest.fail("the upload never came through")


def multipart(server: Running, verb: str, folder: str, /, **body: Any) -> Answer:
    return ask(server, "POST", f"{artifacts.MULTIPART}/{verb}/{folder}", json.dumps(body), Content_Type="application/json")


def part(server: Running, upload: str, number: int, data: bytes) -> Answer:
    return ask(server, "PUT", f"{artifacts.PARTS}/{upload}/{number}", data)


def test_parts_in_any_order_and_again(kept: Running) -> None:
    made = json.loads(multipart(kept, "create", "x/y", path="C:\\data\\f.bin", num_parts=3).body)
    assert [each["part_number"] for each in made["credentials"]] == [1, 2, 3]
    assert made["credentials"][2]["url"] == f"{kept.url}{artifacts.PARTS}/{made['upload_id']}/3"
    upload = made["upload_id"]
    for number, data in ((3, b"oops"), (3, b"end"), (2, b"B" * 10), (1, b"x" * 10), (1, b"A" * 10)):
        assert part(kept, upload, number, data).status == 200
    finish = {"path": "f.bin", "upload_id": upload}
    etag = part(kept, upload, 2, b"b" * 10).headers["ETag"]
    parts = [{"part_number": 2, "etag": etag}]
    for _ in range(2):  # Again is harmless.
        assert multipart(kept, "complete", "x/y", **finish, parts=parts).status == 200
    assert get(kept, "x/y/f.bin").body == b"A" * 10 + b"b" * 10 + b"end"
    assert part(kept, upload, 1, b"A" * 10).status == 409  # It is what was put together; another upload may change it.


def test_uploads_in_parts_that_are_refused(server: Running) -> None:
    made = json.loads(multipart(server, "create", "x", path="g.bin", num_parts=3).body)
    upload = made["upload_id"]
    finish = {"path": "g.bin", "upload_id": upload}
    part(server, upload, 1, b"A" * 10)
    for answer, status, words in (
        (part(server, upload, 2, b"B" * 9), 400, "This part has 9 bytes, and others 10."),
        (part(server, upload, 4, b"B"), 400, "Part 4 of 1 bytes cannot be one of the 3 parts"),
        (part(server, upload, 0, b"B"), 400, "Part 0"),
        (part(server, upload, 2, b""), 400, "Part 2 of 0 bytes"),
        (part(server, "f" * 32, 1, b"B"), 404, "There is no upload"),
        (part(server, "..%2f..", 1, b"B"), 404, ""),
        (part(server, "..", 1, b"B"), 400, "'..' is no upload's id."),
        (multipart(server, "complete", "x", **finish), 409, "Part 2 of 'x/g.bin' is missing or not what was sent (2 of 3 are)."),
        (multipart(server, "create", "x", path="g", num_parts=0), 400, "An upload has 1 to 10000 parts, not 0."),
        (multipart(server, "create", "x", path="g", num_parts=10_001), 400, "An upload has 1 to 10000 parts"),
        (multipart(server, "create", "x", path="../..", num_parts=1), 400, "Invalid path"),
        (multipart(server, "create", "x", path="a/", num_parts=1), 400, "Invalid path"),
        (multipart(server, "abort", "x", path="g.bin", upload_id="../.."), 400, "'../..' is no upload's id."),
    ):
        assert answer.status == status and (not words or words in answer.message), answer.body
    assert multipart(server, "abort", "x", **finish).status == multipart(server, "abort", "x", **finish).status == 200
    assert multipart(server, "complete", "x", **finish).status == 404
    assert listed(server, "x") == []


def test_uploads_that_nobody_goes_on_with_are_removed(own_server: Running) -> None:
    staging = own_server.folder / "artifacts/.noria"
    old, new = (json.loads(multipart(own_server, "create", "x", path=name, num_parts=2).body)["upload_id"] for name in "ab")
    part(own_server, old, 1, b"half")
    own_server.kill()
    os.utime(staging / old, (time.time() - 8 * 86_400,) * 2)
    own_server.start()
    multipart(own_server, "create", "x", path="c", num_parts=1)
    assert not (staging / old).exists() and (staging / new).exists()


_MLFLOW = """
import os, sys, warnings
from mlflow import MlflowClient
client = MlflowClient()
run = client.create_run("0").info.run_id
os.makedirs("in/below")
for name, size in (("in/large.bin", 5_000_001), ("in/small.txt", 5), ("in/empty", 0), ("in/below/two.bin", 2_000_000)):
    with open(name, "wb") as file:
        file.write(os.urandom(size))
client.log_artifacts(run, "in", "kept")
assert sorted(each.path for each in client.list_artifacts(run, "kept")) == ["kept/below", "kept/empty", "kept/large.bin", "kept/small.txt"]
whole = client.download_artifacts(run, ".")
assert os.path.getsize(f"{whole}/kept/below/two.bin") == 2_000_000
found = client.download_artifacts(run, "kept", os.getcwd())
for folder, _, names in os.walk("in"):
    for name in names:
        path = os.path.join(folder, name)
        assert open(path, "rb").read() == open(path.replace("in", found, 1), "rb").read(), path
client.delete_run(run)
"""


@pytest.mark.mlflow
def test_the_real_client_sends_large_files_in_parts_because_the_server_says_so(kept: Running, tmp_path: Path) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    said = json.loads(ask(kept, "GET", "/api/3.0/mlflow/server-info").body)["multipart_uploads_enabled"]
    assert said == (kept.options[1] != "s3://kept/some/prefix")
    env = {**os.environ, "MLFLOW_TRACKING_URI": kept.url, "MLFLOW_TRACKING_TOKEN": kept.token, "PYTHONWARNINGS": "ignore",
           "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1000000", "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": "600000"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", _MLFLOW], env=env, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.returncode == 0, done.stderr
    staging = Path(kept.options[1]) / ".noria"
    assert not said or len([path for path in staging.iterdir() if (path / "sealed").exists()]) >= 2


# Downloads by our own client, through a network that breaks.


class Breaking:
    """A way to a server that breaks off after so many bytes of each answer."""

    def __init__(self, server: Running, most: int, meanwhile: Callable[[int], object] = id) -> None:
        """meanwhile: called with the number of the connection before it breaks off."""
        self.port, self.most, self.meanwhile = int(server.url.rpartition(":")[2]), most, meanwhile
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.client = Server(f"http://127.0.0.1:{self._listening.getsockname()[1]}", server.token)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._pass_on, args=(client, self.connections), daemon=True).start()

    def _pass_on(self, client: socket.socket, number: int) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as there:
            there.sendall(client.recv(1 << 16))
            left = self.most
            while left > 0 and (block := there.recv(min(left, 1 << 16))):
                client.sendall(block)
                left -= len(block)
            self.meanwhile(number)

    def close(self) -> None:
        self.client.close()
        self._listening.close()


def test_a_download_that_breaks_off_goes_on(server: Running, large: Path, tmp_path: Path) -> None:
    server.client.upload(ROOT, "broken.bin", large)
    way = Breaking(server, (1 << 20) + (1 << 19))
    way.client.download(ROOT, "broken.bin", tmp_path / "out")
    way.close()
    assert (tmp_path / "out").read_bytes() == large.read_bytes() and way.connections == 3


def test_a_download_is_not_put_together_of_two_files(server: Running, tmp_path: Path) -> None:
    put(server, "7/changing", bytes(3 << 20))
    way = Breaking(server, 2 << 20, lambda number: put(server, "7/changing", bytes([number]) * (3 << 20)))
    with pytest.raises(Unavailable, match=r"The download of 'changing' from .* broke off after"):
        way.client.download(ROOT, "changing", tmp_path / "changing")
    way.close()
    assert not (tmp_path / "changing").exists()


@pytest.mark.slow
def test_a_large_file_takes_no_memory_on_the_server(own_server: Running) -> None:
    assert own_server.process is not None
    status = Path(f"/proc/{own_server.process.pid}/status")

    def peak() -> int:
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) // 1024

    put(own_server, "warm", bytes(4 << 20))
    before = peak()
    block = os.urandom(1 << 20)
    assert ask(own_server, "PUT", content("big"), (block for _ in range(256))).status == 200
    assert get(own_server, "big").body == block * 256
    assert peak() - before < 64
