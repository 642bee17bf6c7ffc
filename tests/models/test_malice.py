"""Folders of strangers and of failing disks: each is refused in one sentence, runs nothing, and takes no memory to speak of."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("torch")
pytest.importorskip("skops")
pytest.importorskip("transformers")

import numpy as np

from noria import models
from noria.client.http import Server
from noria.errors import Forbidden, Invalid, NoriaError
from noria.models import digests, fetch
from tests.models import evil

KILO = 1024
ROOM = 400 * KILO
"""KiB that a refusal may add to the most that this process ever had."""


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", evil.CASES)
def test_it_is_refused_in_one_sentence_and_runs_nothing(name: str, tmp_path: Path) -> None:
    folder, canary = tmp_path / "m", tmp_path / "canary"
    evil.CASES[name](folder, canary)
    before = peak()
    with pytest.raises(NoriaError) as raised:
        models.load(folder)
    said = raised.value.message
    assert "\n" not in said and 10 < len(said) < 900 and "Traceback" not in said
    assert not canary.exists()
    assert peak() - before < ROOM, f"{(peak() - before) // KILO} MiB more"


def test_there_are_as_many_as_were_promised() -> None:
    assert len(evil.CASES) >= 40


TRUSTED = ["pickled_estimator", "torch_module", "python_model", "evil_loader", "keras_custom_objects"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRUSTED)
def test_what_is_trusted_by_mistake_runs_where_it_reaches_nothing(name: str, tmp_path: Path) -> None:
    from noria.models.cage import kernel

    if not kernel.version():
        pytest.skip("this kernel has no Landlock, which is what keeps files from it")
    folder, canary = tmp_path / "m", tmp_path / "canary"
    evil.CASES[name](folder, canary)
    with pytest.raises(NoriaError):
        models.load(folder, allow_pickle=True).predict(np.zeros((1, 1)))
    assert not canary.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pickled_estimator", "linked_file", "changed_weights", "laughing_anchors", "pipe_for_weights"])
def test_the_commands_refuse_it_too(name: str, tmp_path: Path, noria: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    folder, canary = tmp_path / "m", tmp_path / "canary"
    evil.CASES[name](folder, canary)
    rows = tmp_path / "x.json"
    rows.write_text('{"inputs": [[1.0]]}')
    for command in (["serve", str(folder)], ["models", "predict", str(folder), "--input", str(rows)]):
        done = noria(*command, check=False)
        assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("noria: ")
    assert not canary.exists()


def test_a_digest_that_the_caller_knows_is_held_to(tmp_path: Path) -> None:
    evil.honest(tmp_path / "m")
    known = models.digest(tmp_path / "m")
    assert digests.of_list((tmp_path / "m" / digests.FILE).read_bytes()) == known
    assert models.load(tmp_path / "m", digest=known).predict([[1.0]]).shape == (1,)
    evil.edit(tmp_path / "m", lambda content: content.update(utc_time_created="now"))
    models.load(tmp_path / "m")
    with pytest.raises(Invalid, match="is not the one that is known"):
        models.load(tmp_path / "m", digest=known)
    (tmp_path / "m" / digests.FILE).unlink()
    with pytest.raises(Invalid, match="is not the one that is known"):
        models.load(tmp_path / "m", digest=known)


def test_what_mlflow_leaves_in_a_download_is_no_change(tmp_path: Path) -> None:
    evil.honest(tmp_path / "m")
    (tmp_path / "m" / "registered_model_meta").write_text("model_name: m\nmodel_version: 1\n")
    assert models.load(tmp_path / "m").predict([[1.0]]).shape == (1,)


class Liar(BaseHTTPRequestHandler):
    """A server of artifacts that says what `listed` has, and sends what `sent` is."""

    listed: list[dict[str, Any]] = []
    sent = b""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        below = parse_qs(asked.query).get("path", [""])[0]
        body = json.dumps({"root_uri": "", "files": self.listed if "deep" in below or below == "m" else []}).encode()
        body = body if asked.path.endswith("/artifacts") else self.sent
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[Server]:
    running = HTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server = Server(f"http://127.0.0.1:{running.server_port}")
    yield server
    server.close()
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.mark.parametrize(
    "name", ["../up", "/etc/cron.d/x", "a\nb", "a\0b", "..", ".", "", "a\\b", "x" * 300, "a/../../b", "\x1b[2J"]
)
def test_names_from_a_server_that_are_none(name: str, liar: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Liar, "listed", [{"path": name, "is_dir": False, "file_size": 1}])
    with pytest.raises(Invalid, match="no name of a file|has a NUL character"):
        fetch._download(liar, "mlflow-artifacts:/m")
    assert [path for path in (tmp_path / "home" / "models").rglob("*")] == []


def test_a_download_larger_than_was_said_stops(liar: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Liar, "listed", [{"path": "MLmodel", "is_dir": False, "file_size": 10}])
    monkeypatch.setattr(Liar, "sent", bytes(1000))
    with pytest.raises(Invalid, match="larger than the 10 bytes"):
        fetch._download(liar, "mlflow-artifacts:/m")
    assert [path for path in (tmp_path / "home" / "models").rglob("*")] == []


def test_a_listing_without_an_end_stops(liar: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liar, "listed", [{"path": "deep", "is_dir": True}])
    with pytest.raises(Invalid, match="nested too deep"):
        fetch._download(liar, "mlflow-artifacts:/m")


def look(batch: Any) -> str:
    """What a function of a stranger sees: names of the environment, and what became of each try."""
    import json
    import os
    import socket
    from pathlib import Path

    def tried(what: Any) -> str:
        try:
            return str(what())
        except (OSError, MemoryError) as error:
            return type(error).__name__

    asked = json.loads(str(batch[0]))
    return json.dumps({
        "environment": sorted(os.environ),
        "home": [os.environ["HOME"], len(list(Path(os.environ["HOME"]).iterdir()))],
        "secret": tried(Path(asked["secret"]).read_text),
        "parent": tried(Path(f"/proc/{os.getppid()}/environ").read_text),
        "write": tried(lambda: Path(asked["secret"]).write_text("x")),
        "own": tried(lambda: Path("note").write_text("x")),
        "tcp": tried(lambda: socket.create_connection(("127.0.0.1", asked["port"]))),
        "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
        "memory": tried(lambda: len(bytearray(2**33))),
        "open": sorted(os.readlink(f"/proc/self/fd/{each}").split(":")[0] for each in range(10) if os.path.lexists(f"/proc/self/fd/{each}")),
    })  # fmt: skip


look.__module__ = "__main__"  # So that it is pickled whole: where it is loaded there are no tests.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The model is kept as a pickle")
def test_a_cage_has_no_credentials_files_sockets_or_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from noria.models.cage import kernel

    for name in ("NORIA_TOKEN", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "HF_TOKEN", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "secret")
    secret = tmp_path / "secret"
    secret.write_text("key")
    models.save(look, tmp_path / "m")
    with secret.open() as held:
        os.set_inheritable(held.fileno(), True)
        model = models.load(tmp_path / "m", allow_pickle=True, memory=2**31)
        seen = json.loads(model.predict(np.array([json.dumps({"secret": str(secret), "port": 9})])))
    assert not [
        name for name in seen["environment"] if name.startswith(("NORIA", "MLFLOW", "AWS", "SSH", "GITHUB")) or "TOKEN" in name
    ]
    assert seen["home"] == [str(Path(seen["home"][0])), 0] and seen["home"][0] != os.environ.get("HOME")
    assert seen["memory"] == "MemoryError" and seen["own"] == "1"
    assert set(seen["open"]) <= {"/dev/null", "pipe", f"{Path(seen['home'][0]).parent}/log"}
    assert model.cage is not None
    if model.cage.walls.sockets:
        assert seen["tcp"] == seen["unix"] == "PermissionError"
    if kernel.version():
        assert model.cage.walls.files and seen["secret"] == seen["parent"] == seen["write"] == "PermissionError"
    room = Path(seen["home"][0]).parent
    model.close()
    assert not room.exists() and secret.read_text() == "key"


def dies(batch: Any) -> Any:
    import os

    os._exit(7)


dies.__module__ = "__main__"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The model is kept as a pickle")
def test_a_model_that_dies_or_answers_nonsense_is_one_sentence(tmp_path: Path) -> None:
    models.save(dies, tmp_path / "dies")
    with pytest.raises(NoriaError, match="ended with code 7"):
        models.load(tmp_path / "dies", allow_pickle=True).predict(np.zeros(1))
    models.save(eval("lambda batch: object", {}), tmp_path / "nonsense")
    with pytest.raises(NoriaError, match="neither array nor table"):
        models.load(tmp_path / "nonsense", allow_pickle=True).predict(np.zeros(1))
    with pytest.raises(Forbidden, match="allow_pickle=True"):
        models.load(tmp_path / "nonsense")


def test_a_pipe_brings_what_was_sent() -> None:
    code = """
import io, datetime, numpy as np, pandas as pd
from noria.models.cage import frames
frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.to_datetime(["2020-01-01", "2021-01-01"])}, index=[5, 6])
for value in (np.arange(6.0).reshape(2, 3), {"x": np.array(["a", "bcd"]), "y": [1, "z", None, b"q"]}, np.array([[1, "a"]], dtype=object),
              datetime.datetime(2020, 1, 2, 3), np.float32(1.5), np.zeros((0, 4), "int8"), np.array(["2020-01-01"], "M8[D]")):
    file = io.BytesIO(); frames.send(file, value); file.seek(0)
    got = frames.receive(file)
    np.testing.assert_equal(got, value)
    assert getattr(got, "dtype", 0) == getattr(value, "dtype", 0) or isinstance(got, float), (got, value)
file = io.BytesIO(); frames.send(file, frame); file.seek(0)
pd.testing.assert_frame_equal(frames.receive(file), frame.reset_index(drop=True), check_dtype=False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
