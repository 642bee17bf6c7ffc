"""The code of a run, as far as it can be frozen: what is too large keeps a digest, and a repository that is too large its commit and what
differs from it."""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct, structs

from noria import process
from noria.client import content
from noria.errors import Invalid, NoriaError
from noria.projects import code
from noria.projects.capsule import Kept
from noria.projects.capsule_secrets import secret_file, url
from noria.projects.code import Tree
from noria.types import Code

FILE, TOTAL, COUNT = 4 << 20, 32 << 20, 5_000
"""Bytes of one file and of all, and files: what is more is not frozen."""
HASHED = 256 << 20
"""Bytes that are read at most to say what was not frozen."""
PATCH = 1 << 20
_CODE = {".py", ".sh", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".ipynb", ".c", ".cpp", ".cu", ".h"}
_READS = re.compile(rb"""(?:environ(?:\.get|\.setdefault|\.pop)?\s*[\[(]|getenv\s*\()\s*['"](\w+)['"]""")


def around(program: Path | None, cwd: Path) -> tuple[Tree, str]:
    """The tree that a program is in, or else its working directory, and where in the tree it was started ("" at its root)."""
    folder = program.parent if program is not None and not program.is_relative_to(cwd) else cwd
    tree = code.around(folder)
    inside = os.path.relpath(cwd, tree.root)
    return tree, "" if inside == "." or inside.startswith("..") else inside


def before(tree: Tree, began: float) -> Tree:
    """A tree without what a program has written since it began; code that was edited in that moment stays."""
    written = {
        name for name in tree.files if Path(name).suffix not in _CODE and os.lstat(Path(tree.root) / name).st_mtime > began
    }
    return structs.replace(tree, files=[name for name in tree.files if name not in written]) if written else tree


def frozen(tree: Tree, inside: str, store: Path, cache: Path) -> tuple[Kept, Path | None, list[str]]:
    """What is known of the code, the file that it was frozen to, and what is to be said of it."""
    hidden = {name: "secret" for name in tree.files if secret_file(name)}
    sizes = {name: os.lstat(Path(tree.root) / name).st_size for name in tree.files if name not in hidden}
    large = {name for name, size in sizes.items() if size > FILE}
    small = [name for name in sizes if name not in large]
    kept = structs.replace(_git(tree), root=tree.root, inside=inside, links=_links(tree))
    notes = [f"{len(hidden)} files that may hold secrets were not kept."] if hidden else []
    if sum(sizes[name] for name in small) > TOTAL or len(small) > COUNT:
        small, gone = _differing(tree, sizes) if tree.commit else ([], [])
        kept = structs.replace(kept, over=bool(tree.commit), gone=gone)
        of = f"what differs from its commit {tree.commit[:8]}" if tree.commit else "nothing"
        notes.append(
            f"{tree.root} is too large to freeze ({sum(sizes.values()) / 2**20:,.0f} MiB in {len(sizes):,} files): {of} was."
        )
        large = {*sizes} - {*small} if not tree.commit else {*()}
    left = {**hidden, **_known(tree, sorted(large), cache)}
    if large and len(large) < len(sizes):
        notes.append(f"{len(large)} files are too large to freeze and have digests alone: {', '.join(sorted(large)[:3])}.")
    packed = code.kept(structs.replace(tree, files=sorted(small)), store) if small or kept.over else None
    return structs.replace(kept, digest=packed.stem if packed else "", left=left), packed, notes


def _git(tree: Tree) -> Kept:
    if not tree.commit:
        return Kept()
    said = process.run(["git", "-C", tree.root, "config", "--get", "remote.origin.url"])
    branch = process.run(["git", "-C", tree.root, "rev-parse", "--abbrev-ref", "HEAD"])
    return Kept(commit=tree.commit, dirty=tree.dirty, branch=branch.out.strip(), remote=url(said.out.strip()))


def patch(tree: Tree) -> str:
    """What is not committed, as git writes it; "" if all is, or if it is much. For people: what is done again is what was frozen."""
    if not tree.dirty or not tree.commit:
        return ""
    # Files of secrets are named by nobody here: a patch that may hold one is not kept.
    changed = process.run(["git", "-C", tree.root, "diff", "--name-only", "HEAD"]).out.splitlines()
    if any(secret_file(name) for name in changed):
        return ""
    said = process.run(["git", "-C", tree.root, "diff", "HEAD"])
    return said.out if said.code == 0 and len(said.out) <= PATCH else ""


def _links(tree: Tree) -> dict[str, str]:
    return {name: target for name, target in code.links(tree).items() if not secret_file(name)}


def _differing(tree: Tree, sizes: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Of a repository: the files that are not as in its commit, and those of the commit that are gone."""
    changed = process.run(["git", "-C", tree.root, "diff", "--name-only", "--no-renames", "-z", "HEAD"]).out.split("\0")
    new = process.run(["git", "-C", tree.root, "ls-files", "-z", "--others", "--exclude-standard"]).out.split("\0")
    there = [name for name in {*changed, *new} if sizes.get(name, FILE + 1) <= FILE]
    return there, sorted(name for name in changed if name and not os.path.lexists(Path(tree.root) / name))


def _known(tree: Tree, names: list[str], cache: Path) -> dict[str, str]:
    """What files are known by that were not frozen: a digest, or size and time where reading them would take long."""
    found, budget = {}, HASHED
    for name in names:
        path = Path(tree.root) / name
        try:
            seen = path.stat()
            budget -= seen.st_size
            found[name] = content.of_path(path, cache).digest if budget >= 0 else f"{seen.st_size} bytes, {seen.st_mtime_ns}"
        except (OSError, NoriaError):  # Gone, unreadable, or being written: nothing can be said of it.
            found[name] = "unreadable"
    return found


def names_read(tree: Tree, files: list[str]) -> list[str]:
    """The environment variables that the code asks for by name."""
    found: set[str] = set()
    for name in files:
        try:
            found.update(each.decode() for each in _READS.findall((Path(tree.root) / name).read_bytes()))
        except OSError:
            continue
    return sorted(found)


class File(Struct, frozen=True):
    """changed: when it last was, in milliseconds since 1970."""

    content: bytes
    changed: int = 0


def files(packed: Path) -> dict[str, File]:
    """Those of frozen code, by their paths. Raises Invalid for code that is damaged."""
    code.compare(packed)
    with tarfile.open(packed) as tar:
        return {
            each.name: File(inside.read(), int(each.mtime * 1000))
            for each in tar
            if (inside := None if each.issym() else tar.extractfile(each)) is not None
        }


def again(kept: Kept, packed: Path | None, store: Path) -> Code | None:
    """The code as a job takes it; None where the program is none of it, and runs in its folder. Raises Invalid where it cannot be made again."""
    if kept.digest and packed is not None:
        code.compare(packed)
    if kept.over:
        packed = _restored(kept, packed, store)
    if packed is None and not kept.reached:
        return None
    if packed is None:
        raise Invalid("The code of this run was too large to freeze.", "Use --here to run the code as it is now.")
    links = {name: target for name, target in kept.links.items() if os.path.lexists(target)}
    large = {name: str(Path(kept.root) / name) for name in kept.left if os.path.lexists(Path(kept.root) / name)}
    return Code(str(packed), kept.inside, {**links, **large}, kept.commit, kept.dirty)


def _restored(kept: Kept, packed: Path | None, store: Path) -> Path:
    """A commit with what differed from it, as one file."""
    with TemporaryDirectory() as folder:
        whole, base = Path(folder) / "code", Path(folder) / "base.tar"
        whole.mkdir()
        said = process.run(["git", "-C", kept.root, "archive", "--format=tar", "-o", str(base), kept.commit], timeout=600)
        if said.code:
            raise Invalid(
                f"The code of this run cannot be put together: {kept.root} has no commit {kept.commit[:12]} any more.",
                f"Fetch it there{f' from {kept.remote}' if kept.remote else ''}, or use --here to run the code as it is now.",
            )
        for each in (base, packed):
            if each is not None:
                _unpack(each, whole)
        for name in kept.gone:
            (whole / name).unlink(missing_ok=True)
        files = sorted(str(path.relative_to(whole)) for path in _below(whole))
        return code.kept(Tree(str(whole), files), store)


def _unpack(packed: Path, into: Path) -> None:
    try:
        with tarfile.open(packed) as tar:
            tar.extraction_filter = tarfile.data_filter
            tar.extractall(into)  # noqa: S202 (nothing leaves the folder, by the filter above)
    except (tarfile.TarError, OSError) as error:
        raise Invalid(f"The code of this run cannot be applied ({error}).", "Use --here to run the code as it is now.") from None


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if not stat.S_ISDIR(path.lstat().st_mode):
            yield path
