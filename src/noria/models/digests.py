"""SHA-256 of each file of a model, kept beside them as `noria.digests.json`, and compared at each load."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from pathlib import Path

from noria.errors import Invalid, NotFound
from noria.models import careful, guard

FILE = "noria.digests.json"
_LATER = {"registered_model_meta"}
"""What mlflow's client puts into a folder that it has downloaded."""
MOST = 32 * 2**20
"""Bytes of a list of digests."""
_CURE = "Get the model again; if you changed it yourself, save it as a new one."


def write(folder: Path) -> None:
    """Keep the digests of all files that are there now."""
    (folder / FILE).write_text(json.dumps({"algorithm": "sha256", "files": of_files(folder)}, indent=1))


def of_files(folder: Path) -> dict[str, str]:
    """SHA-256, in hex, of each file below a folder, by its path there."""
    return {name: of_file(path) for name, path in sorted(guard.files(folder).items())}


def of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(folder: Path, found: Mapping[str, Path], known: str = "") -> None:
    """Raises Invalid if a file was changed, added or taken away since it was saved; a folder without the list is as it is.

    known: the digest that the whole model must have, as `digest` says it; whoever changes a file can change the list as well.
    """
    have = {name: path for name, path in found.items() if name not in _LATER}
    if not known and FILE not in have:
        return
    now = {name: of_file(path) for name, path in have.items()}
    if FILE in have:
        _compare(_listed(have[FILE]), {name: value for name, value in now.items() if name != FILE}, folder)
    if known and not hmac.compare_digest(_whole(now), known.lower()):
        raise Invalid(
            f"The model in {folder} is not the one that is known: its digest is {_whole(now)[:12]}…, not {known[:12]}….", _CURE
        )


def _listed(file: Path) -> dict[str, str]:
    content = careful.parsed_json(file, MOST)
    listed = content.get("files") if isinstance(content, dict) and content.get("algorithm") == "sha256" else None
    if not isinstance(listed, dict) or not all(isinstance(value, str) for value in listed.values()):
        raise Invalid(f"{file} is no list of digests.", _CURE)
    return listed


def _compare(listed: Mapping[str, str], now: Mapping[str, str], folder: Path) -> None:
    for what, names in (
        ("was changed", [name for name in listed if name in now and now[name] != listed[name]]),
        ("is missing", [name for name in listed if name not in now]),
        ("was added", [name for name in now if name not in listed]),
    ):
        if names:
            more = f", and {len(names) - 1} more" if len(names) > 1 else ""
            raise Invalid(f"The model in {folder} is not as it was saved: {names[0]!r:.80} {what}{more}.", _CURE)


def digest(folder: str | Path) -> str:
    """SHA-256, in hex, over the relative paths (sorted) and contents of all files: two folders are one model if it is equal."""
    root = Path(folder)
    found = guard.files(root) if root.is_dir() else {}
    if not found:
        raise NotFound(f"There is no model in {root}.", "Check the path.")
    return _whole({name: of_file(path) for name, path in found.items() if name not in _LATER})


def of_list(content: bytes) -> str:
    """The digest of the whole model, of its list of digests alone. Raises Invalid for what is no such list."""
    try:
        listed = json.loads(content)["files"]
        whole = {str(name): str(value) for name, value in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Invalid("This is no list of digests.", _CURE) from None
    if not all(re.fullmatch("[0-9a-f]{64}", value) for value in whole.values()):
        raise Invalid("This list of digests has one that is none.", _CURE)
    return _whole({**whole, FILE: hashlib.sha256(content).hexdigest()})


def _whole(each: Mapping[str, str]) -> str:
    whole = hashlib.sha256()
    for name in sorted(each):
        whole.update(f"{len(name.encode())}:{name}".encode() + bytes.fromhex(each[name]))
    return whole.hexdigest()
