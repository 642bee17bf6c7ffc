"""Where a project's URI leads, as a folder of this machine: a folder, a git repository, or an archive.

What is fetched is kept by what it is (the commit, the content), so that the same is not fetched twice. Nobody is ever asked for a
password: git and ssh fail instead, and the sentence says what they need.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from msgspec import Struct
from msgspec.structs import replace

from noria import process
from noria.errors import Invalid, NotFound, Unavailable
from noria.projects import archives, inputs

_GIT = re.compile(r"(?:https?|ssh|git|git\+ssh|file)://|[\w.-]+@[\w.-]+:|[\w-]+\.[\w.-]+:(?!//)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WAIT = 600.0
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true", "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
_PRIVATE = ("authentication failed", "could not read username", "could not read password", "permission denied", "terminal prompts disabled",
            "repository not found", "access denied", "403", "401", "publickey", "invalid credentials", "http basic")  # fmt: skip
_AWAY = ("could not resolve host", "connection refused", "timed out", "no route to host", "network is unreachable", "did not answer",
         "unable to connect", "could not connect", "failed to connect")  # fmt: skip


class Fetched(Struct, frozen=True):
    """A project's folder. source: its name as MLflow records it. commit, branch and repository: of git, "" without it; branch only if it
    was asked for by name. is_copy: it was fetched, and is nobody's to change."""

    folder: str
    source: str
    commit: str = ""
    branch: str = ""
    repository: str = ""
    is_copy: bool = False


def fetch(uri: str, version: str, cache: Path) -> Fetched:
    """Raises Invalid or NotFound for a URI that leads nowhere, Unavailable where trying again may help."""
    uri = uri.strip("'\"")
    if not uri:
        raise Invalid("There is no project.", "Name a folder, a git URL or an archive, such as: noria run .")
    place, _, inside = uri.partition("#")
    path = _local(place)
    if archives.is_archive(place):
        return _of_archive(place, path, inside, version, cache, uri)
    if path is not None and not version and not _is_bare(path):
        found = _of_folder(_below(path, inside, uri))
        return replace(found, source=uri) if inside else found
    if path is not None:
        return _of_git(str(_repository_of(path, version)), _inside(path, inside, version), version, cache, uri)
    if not _GIT.match(place) or place.startswith("file://"):
        raise NotFound(f"There is no project at {place}.", "Give a folder, a git URL, or an archive (.zip, .tar.gz).")
    return _of_git(place, inside, version, cache, uri)


def _local(place: str) -> Path | None:
    """The path that a URI means, if it is there."""
    parts = urlsplit(place)
    path = Path(unquote(parts.path) if parts.scheme == "file" else place)
    return path if path.exists() else None


def _below(folder: Path, inside: str, uri: str) -> Path:
    """A folder below another one. Raises Invalid if it is not there, or not below."""
    root = folder.resolve()
    found = (root / inside).resolve()
    if not found.is_relative_to(root):
        raise Invalid(f"{uri}: '{inside}' leads out of the project.", "Name a folder below it, such as #examples/first.")
    if not found.is_dir():
        what = f"no folder '{inside}' in it" if inside else "no folder there"
        raise NotFound(f"{uri}: there is {what}.", "Look at how it is written.")
    return found


# A folder that is there.


def _of_folder(folder: Path) -> Fetched:
    top, commit, repository = _facts(folder)
    if not top:
        return Fetched(str(folder), str(folder))
    inside = os.path.relpath(folder, top)
    return Fetched(str(folder), f"file://{top}" + ("" if inside == "." else f"#{inside}"), commit, "", repository)


def _facts(folder: Path) -> tuple[str, str, str]:
    """Of a folder in a repository of git: its root, its commit, and what its first remote is called; "" for what there is not."""
    top = _git("-C", str(folder), "rev-parse", "--show-toplevel").out.strip()
    if not top or _git("-C", str(folder), "check-ignore", "-q", ".").code == 0:
        return "", "", ""
    commit = _git("-C", str(folder), "rev-parse", "--verify", "-q", "HEAD").out.strip()
    remote = _git("-C", str(folder), "remote").out.split()
    url = _git("-C", str(folder), "remote", "get-url", remote[0]).out.strip() if remote else ""
    return top, commit, _without_password(url)


def _without_password(url: str) -> str:
    """A URL as everybody may see it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.scheme and "@" in parts.netloc else url


# A repository of git.


def _is_bare(path: Path) -> bool:
    return path.is_dir() and (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def _repository_of(path: Path, version: str) -> Path:
    if _is_bare(path):
        return path
    top = _git("-C", str(path), "rev-parse", "--show-toplevel") if path.is_dir() else process.Answer(1, "", "")
    if top.code:
        raise Invalid(f"--version {version}: {path} is no repository of git.", "Leave it out, or give the URL of a repository.")
    return Path(top.out.strip())


def _inside(path: Path, inside: str, version: str) -> str:
    """The folder below the root of a repository, whose own path may be below it already."""
    if _is_bare(path):
        return inside
    return os.path.normpath(os.path.join(os.path.relpath(path.resolve(), _repository_of(path, version).resolve()), inside))


def _of_git(url: str, inside: str, version: str, cache: Path, uri: str) -> Fetched:
    """The commit that is asked for, checked out in a folder of its own."""
    if url.startswith("-") or version.startswith("-"):
        raise Invalid(f"{version or url!r} is no name that git has.", "Names do not begin with a dash.")
    name = hashlib.blake2b(url.encode(), digest_size=10).hexdigest()
    commit, ref = _resolved(url, version, cache / f"{name}.git")
    folder = cache / f"{name}-{commit[:12]}"
    if not folder.exists():
        with _beside(folder) as beside:
            _checked_out(url, commit, ref, beside)
    branch = version if ref.startswith("refs/heads/") and version else ""
    shown = _without_password(uri)
    return Fetched(str(_below(folder, inside, shown)), shown, commit, branch, _without_password(url), is_copy=True)


def _resolved(url: str, version: str, whole: Path) -> tuple[str, str]:
    """The commit that a branch, a tag or the beginning of a commit means, and its name at the repository; "" for a commit's."""
    if _COMMIT.fullmatch(version):
        return version, ""
    listed = _git("ls-remote", "--", url)
    if listed.code:
        raise _refused(url, listed.err)
    refs = {name: commit for commit, _, name in (line.partition("\t") for line in listed.out.splitlines())}
    wanted = ("HEAD",) if not version else (f"refs/heads/{version}", f"refs/tags/{version}", version)
    for name in wanted:
        if name in refs:
            return refs.get(f"{name}^{{}}", refs[name]), name  # Of an annotated tag, the commit that it is about.
    if not version:
        raise NotFound(f"{_without_password(url)} is empty: it has no commit.", "Push one to it.")
    return _begun(url, version, whole), ""


def _begun(url: str, version: str, whole: Path) -> str:
    """The commit that begins so, which only the whole history knows."""
    if re.fullmatch(r"[0-9a-f]{4,39}", version):
        if not whole.exists():
            with _beside(whole) as beside:
                _must(url, _git("clone", "-q", "--bare", "--", url, str(beside)))
        else:
            _must(url, _git("-C", str(whole), "fetch", "-q", "--", url, "+refs/*:refs/*"))
        found = _git("-C", str(whole), "rev-parse", "--verify", "-q", f"{version}^{{commit}}").out.strip()
        if found:
            return found
    raise NotFound(
        f"{_without_password(url)} has no branch, tag or commit '{version}'.", "`git ls-remote` with that URL lists its names."
    )


def _checked_out(url: str, commit: str, ref: str, folder: Path) -> None:
    """The one commit, or what leads to it where a server gives no single ones, with its submodules."""
    _must(url, _git("init", "-q", str(folder)))
    here = ("-C", str(folder))
    _must(url, _git(*here, "remote", "add", "origin", _without_password(url)))
    if _git(*here, "fetch", "-q", "--depth", "1", "--", url, commit).code:
        fetched = _git(*here, "fetch", "-q", "--", url, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        _must(url, fetched)
    done = _git(*here, "-c", "advice.detachedHead=false", "checkout", "-q", "--detach", commit)
    if done.code:
        raise NotFound(
            f"{_without_password(url)} has no commit {ref or commit}.", "`git ls-remote` with that URL lists its names."
        )
    if (folder / ".gitmodules").exists():
        _must(url, _git(*here, "submodule", "--quiet", "update", "--init", "--recursive"))


def _git(*words: str) -> process.Answer:
    ssh = os.environ.get("GIT_SSH_COMMAND", "ssh")
    return process.run(["git", *words], timeout=_WAIT, env={**os.environ, **_QUIET, "GIT_SSH_COMMAND": f"{ssh} -o BatchMode=yes"})


def _must(url: str, answer: process.Answer) -> None:
    if answer.code:
        raise _refused(url, answer.err)


def _refused(url: str, said: str) -> Invalid | NotFound | Unavailable:
    """What git says, as a sentence with what helps."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = next(
        (line for line in lines if line.startswith(("fatal:", "ERROR:", "remote:"))), lines[-1] if lines else "git said nothing"
    )
    shown, words, low = _without_password(url), last.partition(": ")[2] or last, said.lower()
    if any(each in low for each in _AWAY):
        return Unavailable(
            f"{shown} cannot be reached ({words.rstrip('.')}).", "Look at the network from here, and at the name of its host."
        )
    if "git: no such file" in low:
        return Invalid("There is no git on this machine.", "Install it, or give a folder or an archive.")
    if "host key verification" in low:
        return Invalid(f"{shown}: ssh does not know this host.", "Connect to it once by hand, with ssh, and look at its key.")
    if any(each in low for each in _PRIVATE):
        how = "an ssh key without a question (ssh-agent)" if _is_ssh(url) else "a credential helper, or a token in ~/.netrc"
        return Invalid(
            f"{shown} is private, or is not there ({words.rstrip('.')}).",
            f"Give git {how}: `git ls-remote {shown}` must answer by itself.",
        )
    return NotFound(f"{shown} is no repository that git can read ({words.rstrip('.')}).", "Look at how it is written.")


def _is_ssh(url: str) -> bool:
    return url.startswith(("ssh://", "git+ssh://")) or "://" not in url


# An archive.


def _of_archive(place: str, path: Path | None, inside: str, version: str, cache: Path, uri: str) -> Fetched:
    if version:
        raise Invalid(f"--version {version}: {place} is an archive.", "Leave it out; an archive has one version.")
    if path is None and urlsplit(place).scheme not in ("http", "https"):
        raise NotFound(f"There is no archive {place}.", "Give its path from here, or its URL.")
    if path is not None:
        return _unpacked(path, inside, cache, uri)
    with tempfile.TemporaryDirectory(prefix="noria-") as folder:
        return _unpacked(inputs.over_http(place, Path(folder)), inside, cache, uri)


def _unpacked(packed: Path, inside: str, cache: Path, uri: str) -> Fetched:
    with packed.open("rb") as file:
        folder = cache / hashlib.file_digest(file, "sha256").hexdigest()[:20]
    if not folder.exists():
        with _beside(folder) as beside:
            archives.unpack(packed, beside)
    whole = list(folder.iterdir())
    # What GitHub and its like pack has one folder around everything.
    root = whole[0] if not inside and len(whole) == 1 and whole[0].is_dir() else folder
    return Fetched(str(_below(root, inside, uri)), uri if "://" in uri else os.path.abspath(uri), is_copy=True)


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A place to make a folder in, which gets its name once it is whole. Who is second throws his own away."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        yield beside
        os.rename(beside, folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
