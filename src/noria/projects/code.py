"""The code of a job as it was when it was submitted, with what was not committed.

It is kept as one file, named by its content, so that a thousand jobs of the same code keep it once; each job unpacks it into its own
folder. What is not code (ignored files, data) stays where it is, and is linked to.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from noria import process
from noria.errors import Invalid, Unavailable
from noria.types import Code

BYTES, FILES = 64 << 20, 10_000
"""What is more than this is not code. It is read at each submission."""
_JUNK = {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".tox",
         "mlruns", "wandb", "lightning_logs", ".ipynb_checkpoints", ".noria"}  # fmt: skip


ROOT = "mlflow-artifacts:/noria/code"
"""Where code is kept for agents on other machines."""


class Tree(Struct, frozen=True):
    """Files below `root`, by sorted relative paths. commit: of git, "" outside of a repository. dirty: whether files differ from it."""

    root: str
    files: list[str]
    commit: str = ""
    dirty: bool = False


def freeze(folder: Path, store: Path) -> Code:
    """Keep the code around a folder: its git repository, or the folder itself. Raises Invalid if that is more than code."""
    tree = gather(folder)
    packed = kept(tree, store)
    inside = os.path.relpath(folder.resolve(), tree.root)
    objects, remote = _origin(Path(tree.root)) if tree.commit else ("", "")
    return Code(str(packed), "" if inside == "." else inside, links(tree), tree.commit, tree.dirty, objects, remote)


def _origin(root: Path) -> tuple[str, str]:
    """Where a repository has its objects, and its first remote, without a password."""
    common = process.run(["git", "-C", str(root), "rev-parse", "--git-common-dir"]).out.strip()
    names = process.run(["git", "-C", str(root), "remote"]).out.split()
    url = process.run(["git", "-C", str(root), "remote", "get-url", names[0]]).out.strip() if names else ""
    parts = urlsplit(url)
    public = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.scheme else url
    return str((root / common / "objects").resolve()), public


def kept(tree: Tree, store: Path) -> Path:
    """The file in which the code is, named by what is in it."""
    packed = store / f"{_digest(tree)}.tar"
    return packed if packed.exists() else _pack(tree, store)


def gather(folder: Path) -> Tree:
    """What is code around a folder. Raises Invalid if it is too much."""
    tree = around(folder)
    size, count = sum(_size(Path(tree.root) / each) for each in tree.files), len(tree.files)
    if size > BYTES or count > FILES:
        what = f"{size / 2**20:,.0f} MiB" if size > BYTES else f"{count:,} files"
        cure = "Name what is no code in .gitignore" if tree.commit else "Make it a git repository with a .gitignore"
        raise Invalid(
            f"{tree.root} has {what}, which is too much to freeze for each job.", f"{cure}, or submit without --freeze."
        )
    return tree


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:  # Removed since it was listed, as here and there below: people work on while code is kept.
        return 0


def around(folder: Path) -> Tree:
    """The git repository that a folder is in, or the folder itself, however much that is."""
    return _repository(folder) or Tree(str(folder.resolve()), sorted(_walk(folder.resolve())))


def _repository(folder: Path) -> Tree | None:
    """The files that git has or would add, as they are now; None outside of a repository, or without git."""

    def git(*words: str) -> process.Answer:
        return process.run(["git", "-C", str(folder), *words])

    root = git("rev-parse", "--show-toplevel")
    if root.code or git("check-ignore", "-q", ".").code == 0:  # What lies in a repository that ignores it is none of its files.
        return None
    top = root.out.rstrip("\n")
    # By one call: what is tracked, and what is neither tracked nor ignored nor left behind by tools, marked as such.
    listed = process.run(
        [
            "git",
            "-C",
            top,
            "ls-files",
            "-z",
            "-t",
            "--cached",
            "--others",
            "--exclude-standard",
            *(f"-x{name}/" for name in _JUNK),
        ]
    )
    marked = [each.split(" ", 1) for each in listed.out.split("\0") if each]
    files = {name for _, name in marked}
    for name in [name for name in files if (Path(top) / name).is_dir() and not (Path(top) / name).is_symlink()]:
        files.discard(name)
        files.update(f"{name.rstrip('/')}/{each}" for each in _inner(Path(top) / name))
    there = sorted(name for name in files if os.path.lexists(Path(top) / name))
    commit = git("rev-parse", "HEAD")
    dirty = any(mark == "?" for mark, _ in marked) or bool(git("status", "--porcelain", "--untracked-files=no").out)
    return Tree(top, there, "" if commit.code else commit.out.strip(), dirty)


def _inner(folder: Path) -> list[str]:
    """Of a submodule, or of a repository in a repository."""
    inner = _repository(folder)
    return inner.files if inner is not None and inner.root == str(folder.resolve()) else sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[str]:
    """All files but for what tools leave behind; no more than are too many."""
    count = 0
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _JUNK and not (Path(at) / name).is_symlink())
        for name in names:
            path = Path(at) / name
            if path.is_symlink() or path.is_file():
                yield str(path.relative_to(folder))
                count += 1
                if count > FILES:
                    return


def links(tree: Tree) -> dict[str, str]:
    """What lies beside the code in its folders, by where it is to appear and where it is."""
    root, known = Path(tree.root), set(tree.files)
    folders = {str(parent) for each in tree.files for parent in Path(each).parents} | {"."}
    found = {}
    for folder in sorted(folders):
        for entry in _entries(root / folder):
            name = os.path.normpath(f"{folder}/{entry.name}")
            if name not in known and name not in folders and entry.name not in _JUNK - {".venv", "venv"}:
                found[name] = str(root / name)
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        return list(found)
    return []


def digest_of(folder: Path, came: Tree | None = None) -> str:
    """Of the code in a folder alone, as it is now: the same wherever the folder lies. came: what is code there, if that is known."""
    tree, root = came or gather(folder), folder.resolve()
    inside = [Path(tree.root) / each for each in tree.files if (Path(tree.root) / each).is_relative_to(root)]
    return _digest(Tree(str(root), [str(each.relative_to(root)) for each in inside if os.path.lexists(each)]))


def thawed(frozen: Code, into: Path) -> Tree:
    """What was unpacked there: what a job has written since is none of its code."""
    with tarfile.open(frozen.file) as tar:
        return Tree(str(into.resolve()), sorted(tar.getnames()), frozen.commit)


def _digest(tree: Tree) -> str:
    """Of names, contents and whether files are programs."""
    total = hashlib.blake2b(digest_size=16)
    for name in tree.files:
        path = Path(tree.root) / name
        try:
            mode = os.lstat(path).st_mode
            content = _bytes(os.readlink(path)) if stat.S_ISLNK(mode) else path.read_bytes()
        except FileNotFoundError:
            continue
        total.update(msgspec.msgpack.encode((_bytes(name), stat.S_ISLNK(mode), bool(mode & 0o100), content)))
    return total.hexdigest()


def _packed_digest(packed: Path) -> str:
    """The same, of a file that was packed."""
    total = hashlib.blake2b(digest_size=16)
    with tarfile.open(packed) as tar:
        for each in tar:
            inside = None if each.issym() else tar.extractfile(each)
            content = inside.read() if inside is not None else _bytes(each.linkname)
            total.update(msgspec.msgpack.encode((_bytes(each.name), each.issym(), bool(each.mode & 0o100), content)))
    return total.hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def compare(packed: Path) -> None:
    """Raise Invalid, and remove the file, unless it holds what its name says: it may have come from anywhere."""
    try:
        found = _packed_digest(packed)
    except (tarfile.TarError, OSError, KeyError):
        found = ""
    if found != packed.stem:
        packed.unlink(missing_ok=True)
        raise Invalid("The code that the server keeps for this job is not what was submitted.", "Submit it again.")


def _pack(tree: Tree, store: Path) -> Path:
    """The file, named by what was packed: the tree may have changed since it was looked at."""
    beside = store / f".{os.urandom(8).hex()}"
    try:
        store.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for name in tree.files:
                    with suppress(FileNotFoundError):
                        tar.add(Path(tree.root) / name, name, recursive=False)
            file.flush()
            os.fsync(file.fileno())
        packed = store / f"{_packed_digest(beside)}.tar"
        os.replace(beside, packed)
        return packed
    except OSError as error:
        with suppress(OSError):  # What went wrong before is what is told.
            beside.unlink()
        raise Unavailable(f"The code cannot be kept in {store} ({error.strerror}).",
                          "Make room there, or submit without --freeze.") from None  # fmt: skip


def thaw(frozen: Code, into: Path) -> Path:
    """Unpack the code into a folder that does not exist yet, with its links; the folder to run in. Again is harmless."""
    inside = into / frozen.inside
    if into.exists():
        return inside
    beside = into.with_name(f".{into.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    with tarfile.open(frozen.file) as tar:
        tar.extraction_filter = lambda member, path: member  # We packed it. As an argument, Python 3.11.2 does not know it.
        tar.extractall(beside)  # noqa: S202 (written by _pack, or compared with its name)
    for name, target in frozen.links.items():
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        (beside / name).symlink_to(target)
    if frozen.objects:
        _repeat(frozen, beside / ".git")
    os.replace(beside, into)
    return inside


def _repeat(frozen: Code, git: Path) -> None:
    """A repository with the commit that the code is of and nothing else, which reads objects where they are. What a job commits stays there."""
    (git / "objects" / "info").mkdir(parents=True)
    (git / "refs").mkdir()
    (git / "HEAD").write_text(f"{frozen.commit}\n")
    (git / "objects" / "info" / "alternates").write_text(f"{frozen.objects}\n")
    remote = (
        f'[remote "origin"]\n\turl = {frozen.remote}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n' if frozen.remote else ""
    )
    (git / "config").write_text(f"[core]\n\trepositoryformatversion = 0\n\tbare = false\n{remote}")
    process.run(["git", "-C", str(git.parent), "read-tree", "HEAD"])  # Without git there, nobody asks what has changed.
