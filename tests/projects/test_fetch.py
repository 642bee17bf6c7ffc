"""Where URIs of projects lead: folders, repositories, archives; and what is refused."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from noria.errors import Invalid, NoriaError, NotFound, Unavailable
from noria.projects import archives
from noria.projects.fetch import Fetched, fetch
from tests.projects.lent import committed, copied, git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two commits, a branch, a tag, and a project below its root as well."""
    folder = copied("plain", tmp_path)
    (folder / "below").mkdir()
    (folder / "below/MLproject").write_text("name: below\n")
    committed(folder)
    git(folder, "tag", "-a", "v1", "-m", "one")
    git(folder, "checkout", "-qb", "side")
    (folder / "side.txt").write_text("side")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "second")
    git(folder, "checkout", "-q", "trunk")
    return folder


def test_a_folder_is_used_where_it_is(repository: Path, tmp_path: Path) -> None:
    found = fetch(str(repository), "", tmp_path / "cache")
    assert found == Fetched(str(repository), f"file://{repository}", git(repository, "rev-parse", "HEAD"))
    below = fetch(f"{repository}#below", "", tmp_path / "cache")
    assert (below.folder, below.source) == (f"{repository}/below", f"{repository}#below")
    plain = copied("conda", tmp_path)
    assert fetch(str(plain), "", tmp_path / "cache") == Fetched(str(plain), str(plain))


def test_a_branch_a_tag_and_a_commit_are_checked_out_and_kept(repository: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", repository, bare], check=True)
    trunk, side = git(repository, "rev-parse", "trunk"), git(repository, "rev-parse", "side")
    for uri in (str(bare), f"file://{bare}", str(repository), f"file://{repository}"):
        for version, commit, branch in (("side", side, "side"), ("v1", trunk, ""), (side, side, ""), (side[:9], side, "")):
            found = fetch(uri, version, tmp_path / "cache")
            assert (found.commit, found.branch, found.is_copy) == (commit, branch, True), (uri, version)
            assert (Path(found.folder) / "side.txt").exists() == (commit == side)
            assert git(Path(found.folder), "rev-parse", "HEAD") == commit
    head = fetch(f"file://{bare}#below", "", tmp_path / "cache")
    assert head.commit == trunk and (Path(head.folder) / "MLproject").read_text() == "name: below\n"
    for each in (bare / "objects").iterdir():
        shutil.rmtree(each)
    assert fetch(f"file://{bare}", side, tmp_path / "cache").commit == side, "a commit that is here is not fetched again"


@pytest.mark.parametrize(
    ("uri", "version", "words"),
    [
        ("{repository}", "nope", "has no branch, tag or commit 'nope'"),
        ("{repository}", "abcdef12", "has no branch, tag or commit 'abcdef12'"),
        ("{repository}", "--upload-pack=touch", "do not begin with a dash"),
        ("{repository}#../..", "", "leads out of the project"),
        ("{repository}#nope", "", "there is no folder 'nope' in it"),
        ("{tmp}/nothing", "", "There is no project at"),
        ("{tmp}", "v1", "is no repository of git"),
        ("{tmp}/no.zip", "", "There is no archive"),
        ("", "", "There is no project."),
        ("ext::sh -c true", "", "There is no project at"),
    ],
)
def test_what_leads_nowhere_is_one_sentence(repository: Path, tmp_path: Path, uri: str, version: str, words: str) -> None:
    with pytest.raises(NoriaError) as error:
        fetch(uri.format(repository=repository, tmp=tmp_path), version, tmp_path / "cache")
    assert words in error.value.message and "\n" not in error.value.message


class _Locked(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if "zip" in self.path else 401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def locked() -> Iterator[str]:
    """A host that lets nobody in."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Locked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_private_repository_asks_nobody_and_says_what_it_needs(locked: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as error:
        fetch(f"{locked}/team/private.git", "", tmp_path / "cache")
    assert "is private, or is not there" in error.value.message and "credential helper" in error.value.message
    with pytest.raises(Invalid) as error:
        fetch(f"{locked}/project.zip", "", tmp_path / "cache")
    assert "is private, or is not there (HTTP 404). Fetch it yourself" in error.value.message


def test_a_password_in_a_url_is_told_to_nobody(locked: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as error:
        fetch(f"{locked.replace('//', '//ada:secret@')}/private.git", "", tmp_path / "cache")
    assert "secret" not in error.value.message and "127.0.0.1" in error.value.message


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for uri in (f"http://127.0.0.1:{port}/a.git", f"http://127.0.0.1:{port}/a.tar.gz"):
        with pytest.raises(Unavailable, match="cannot be reached"):
            fetch(uri, "", tmp_path / "cache")


def test_ssh_asks_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for ssh that says how it was called, and refuses as OpenSSH does."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\necho "git@host: Permission denied (publickey)." >&2\nexit 255\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    with pytest.raises(Invalid, match="ssh-agent"):
        fetch("git@host.example:team/private.git", "", tmp_path / "cache")
    assert "BatchMode=yes" in (tmp_path / "called").read_text()


def test_an_archive_is_unpacked_once(tmp_path: Path) -> None:
    folder = copied("plain", tmp_path)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    for kind, name in (("zip", "p.zip"), ("gztar", "p.tar.gz")):
        packed = Path(shutil.make_archive(str(tmp_path / "p"), kind, tmp_path, "plain"))
        assert packed.name == name
        found = fetch(str(packed), "", tmp_path / "cache")
        assert (Path(found.folder) / "MLproject").exists(), "one folder around everything is the project"
        assert os.access(Path(found.folder) / "run.sh", os.X_OK) and found.source == str(packed)
        assert fetch(f"file://{packed}", "", tmp_path / "cache").folder == found.folder
        assert fetch(f"{packed}#plain", "", tmp_path / "cache").folder == found.folder
    with pytest.raises(Invalid, match="is an archive"):
        fetch(str(packed), "v1", tmp_path / "cache")


def _tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for each in members:
            file.addfile(each, io.BytesIO(b"x" * each.size))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.size = 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (_member("../out"), "leads out of its folder"),
        (_member("/etc/out"), "leads out of its folder"),
        (_member("a", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
        (_member("a", tarfile.LNKTYPE, "b"), "a link"),
        (_member("a", tarfile.FIFOTYPE), "a device"),
        (_member("a", tarfile.CHRTYPE), "a device"),
    ],
)
def test_an_unsafe_tar_is_refused_whole(tmp_path: Path, member: tarfile.TarInfo, words: str) -> None:
    packed = _tar(tmp_path / "a.tar.gz", _member("good"), member)
    with pytest.raises(Invalid, match=words):
        fetch(str(packed), "", tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("*"))


def test_an_unsafe_zip_is_refused_whole(tmp_path: Path) -> None:
    for name, mode, words in (
        ("../out", 0o100644, "leads out"),
        ("..\\out", 0o100644, "leads out"),
        ("link", 0o120777, "a link"),
    ):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("good", "x")
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, "/etc/passwd")
        with pytest.raises(Invalid, match=words):
            fetch(str(tmp_path / "a.zip"), "", tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("*"))


def test_what_is_no_archive_and_what_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.zip", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"no archive at all" * 100)
        with pytest.raises(Invalid, match="is no archive that can be read"):
            fetch(str(tmp_path / name), "", tmp_path / "cache")
    with pytest.raises(Invalid, match="a file and a folder of one name"):
        fetch(str(_tar(tmp_path / "b.tgz", _member("a"), _member("a/b"))), "", tmp_path / "cache")
    monkeypatch.setattr(archives, "FILES", 2)
    with pytest.raises(Invalid, match="3 files when it is unpacked"):
        fetch(str(_tar(tmp_path / "c.tgz", _member("a"), _member("b"), _member("c"))), "", tmp_path / "cache")


def test_nothing_is_left_of_a_checkout_that_failed(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        fetch(str(repository), "0" * 40, tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("*"))
