"""Archives of strangers: looked at whole before anything of them is written."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from noria.errors import Invalid

_ENDINGS = (".zip", ".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")
BYTES, FILES = 1 << 30, 20_000
"""What is more than this, unpacked, is no project."""


class _Member(Struct, frozen=True):
    """kind: "file" or "folder", or what else it is."""

    name: str
    kind: str
    size: int


def is_archive(name: str) -> bool:
    return name.lower().endswith(_ENDINGS) and not Path(name).is_dir()


def unpack(packed: Path, into: Path) -> None:
    """Raises Invalid, and writes nothing, for one that is none, that leads out of its folder, that has links, or that is too large."""
    try:
        if packed.name.lower().endswith(".zip"):
            _unzip(packed, into)
        else:
            _untar(packed, into)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):  # One name for a file and a folder.
        raise Invalid(f"{packed.name} has a file and a folder of one name.", "Pack it again.") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise Invalid(f"{packed.name} is no archive that can be read ({error}).", "Pack it again, as .zip or .tar.gz.") from None


def _unzip(packed: Path, into: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        found = archive.infolist()
        _check(packed.name, [_Member(each.filename, _kind(each), each.file_size) for each in found])
        for each in found:
            archive.extract(each, into)
            mode = stat.S_IMODE(each.external_attr >> 16)
            if mode & 0o100 and not each.is_dir():
                (into / each.filename).chmod(0o755)


def _kind(member: zipfile.ZipInfo) -> str:
    """zipfile writes a link's target as a file, but who made the archive meant a link."""
    return "link" if stat.S_ISLNK(member.external_attr >> 16) else "folder" if member.is_dir() else "file"


def _untar(packed: Path, into: Path) -> None:
    with tarfile.open(packed) as archive:
        found = archive.getmembers()
        kinds = [
            "link" if each.issym() or each.islnk() else "folder" if each.isdir() else "file" if each.isreg() else "device"
            for each in found
        ]
        _check(packed.name, [_Member(each.name, kind, each.size) for each, kind in zip(found, kinds, strict=True)])
        for each in found:
            target = into / each.name
            if each.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            inside = archive.extractfile(each)
            assert inside is not None  # Only files and folders are left.
            with inside, target.open("wb") as file:
                while block := inside.read(1 << 20):
                    file.write(block)
            target.chmod(0o755 if each.mode & 0o100 else 0o644)


def _check(archive: str, members: Sequence[_Member]) -> None:
    for each in members:
        path = PurePosixPath(each.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise Invalid(
                f"{archive} has {each.name!r}, which leads out of its folder.",
                "It is not unpacked; get it from somebody you trust.",
            )
        if each.kind not in ("file", "folder"):
            raise Invalid(f"{archive} has {each.name!r}, a {each.kind}.", "It is not unpacked; pack files and folders alone.")
    size = sum(each.size for each in members)
    if size > BYTES or len(members) > FILES:
        what = f"{size / 2**20:,.0f} MiB" if size > BYTES else f"{len(members):,} files"
        raise Invalid(f"{archive} has {what} when it is unpacked, which is too much for a project.", "Keep data elsewhere.")
