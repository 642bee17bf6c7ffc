"""Capsules as the server keeps them, with what lies beside them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec import structs

from noria.client.http import Server
from noria.client.rows import Rows
from noria.errors import Invalid, NoriaError, NotFound, Unavailable
from noria.projects import capsule as kept
from noria.projects import capsule_code, check, code
from noria.projects.capsule import Capsule
from noria.projects.capsule_code import File
from noria.projects.capsule_diff import Set, Side
from noria.projects.capsule_effect import Curve, digests_told, judged
from noria.types import Run
from noria.wire import runs

PATIENCE = 20.0
"""Seconds that a capsule is waited for that is being made, and how young a run is for which it may be."""
_LATER = 5.0
"""Seconds that are waited for a task that says which Python it is, where its launcher did not know."""
_LARGEST = 1 << 30
"""Bytes of a file that is compared: it is fetched for that."""


def tags(run: Run) -> dict[str, str]:
    return {tag.key: tag.value for tag in run.data.tags}


def capsule(server: Server, run: Run, patience: float = PATIENCE) -> Capsule:
    """A run's, with what its tasks said of themselves. Raises NotFound if it has none, Invalid if it is damaged."""
    run = _waited(server, run, patience)
    said = tags(run).get(kept.TAG, "")
    which = f"Run {run.info.run_id[:8]} '{run.info.run_name}'"
    if other := tags(run).get(kept.OF):
        return capsule(server, server.call(runs.GET, runs.Get(other)).run, patience)
    if not said or said.startswith(kept.NONE):
        why = f": {said.removeprefix(kept.NONE)}" if said else ""
        raise NotFound(
            f"{which} has no capsule{why}.",
            "Runs have one that jobs and scripts of this Noria began; not those that were imported, or logged by mlflow outside of a job.",
        )
    try:
        found = kept.decoded(_bytes(server, run, kept.FILE), said)
    except NotFound:
        raise Invalid(
            f"{which}: its capsule is gone from its files.", "A run cannot be done again without; start it anew."
        ) from None
    except Invalid as error:
        raise Invalid(f"{which}: {error.message}") from None
    return _told(server, run, found) if found.kind == "job" else found


def _waited(server: Server, run: Run, patience: float) -> Run:
    """The run, once its capsule is there, if one may be on its way."""
    until = time.monotonic() + patience
    begun = run.info.start_time or 0
    while not {kept.TAG, kept.OF} & {*tags(run)} and time.time() - begun / 1000 < PATIENCE and time.monotonic() < until:
        time.sleep(0.2)
        run = server.call(runs.GET, runs.Get(run.info.run_id)).run
    return run


def _told(server: Server, run: Run, found: Capsule) -> Capsule:
    """What a task said of its Python is better than what its launcher could guess, and may come a little later."""
    guessed = check.program(found.command) is None
    until = time.monotonic() + _LATER
    while True:
        try:
            process = msgspec.json.decode(_bytes(server, run, kept.PROCESS), type=kept.Process)
            break
        except (NoriaError, msgspec.MsgspecError):  # Its tasks said nothing, or not yet, or not in words of this release.
            young = time.time() - (run.info.end_time or found.made) / 1000 < PATIENCE
            if not guessed or not young or time.monotonic() > until:
                return found
            time.sleep(0.2)
    return structs.replace(found, software=process.software, seeds={**process.seeds, **found.seeds})


def _bytes(server: Server, run: Run, path: str) -> bytes:
    with TemporaryDirectory() as folder:
        target = Path(folder) / "file"
        server.download(run.info.artifact_uri, path, target)
        return target.read_bytes()


def frozen(server: Server, found: Capsule, store: Path) -> Path | None:
    """The file in which a capsule's code is, fetched if it is not at hand; None if there is none. Raises Invalid if it is gone or damaged."""
    if not found.code.digest:
        return None
    name = f"{found.code.digest}.tar"
    here, which = store / name, f"The code of run {found.run_id[:8]}"
    if not here.exists():
        try:
            server.download(code.ROOT, name, here)
        except NotFound:
            raise Invalid(f"{which} is gone from the server.", "Use --here to run the code as it is now.") from None
    try:
        code.compare(here)
    except Invalid:
        raise Invalid(f"{which} is damaged: it is not what was frozen.", "Use --here to run the code as it is now.") from None
    return here


def side(server: Server, run: Run, found: Capsule | None, store: Path) -> Side:
    """A run as it is compared."""
    packed = frozen(server, found, store) if found is not None else None
    files: dict[str, File] = capsule_code.files(packed) if packed else {}
    params = {each.key: each.value for each in run.data.params}
    ended = run.info.end_time if isinstance(run.info.end_time, int) else 0
    logged = [path.rpartition("/")[2] for path in _tree(server, run)]
    return Side(run.info.run_id, found, files, params, sets(server, run), run.info.start_time or 0, ended, logged)


def sets(server: Server, run: Run) -> list[Set]:
    """The data sets that a run logged, with what is known of their rows."""
    found = []
    for each in run.inputs.dataset_inputs:
        context = next((tag.value for tag in each.tags if tag.key == "mlflow.data.context"), "")
        data = each.dataset
        found.append(Set(data.name, context, data.digest, data.source, _rows(server, run, data.digest)))
    return found


def _rows(server: Server, run: Run, digest: str) -> dict[str, Rows]:
    try:
        return msgspec.json.decode(_bytes(server, run, f"{kept.ROWS}/{digest}.json"), type=dict[str, Rows])
    except (NotFound, Invalid, msgspec.MsgspecError):  # Nothing was kept of its rows: the digest speaks for all of them.
        return {}


def curves(server: Server, run: Run) -> dict[str, Curve]:
    """All metrics, with every point."""
    keys = [
        each.key
        for each in server.call(runs.SUMMARY, runs.Summarise(run.info.run_id)).metrics
        if not each.key.startswith("system/")
    ]
    found = {key: server.call(runs.CURVE, runs.Curve(run.info.run_id, key)) for key in keys}
    return {key: Curve(each.steps, [float(value) for value in each.values]) for key, each in found.items()}


def artifacts(server: Server, one: Run, two: Run) -> dict[str, str]:
    """How the files of two runs compare, by path."""
    return digests_told(_digests(server, one), _digests(server, two))


def _digests(server: Server, run: Run) -> dict[str, str]:
    return {path: _digest(server, run, path) for path in _tree(server, run)}


def _tree(server: Server, run: Run) -> list[str]:
    """The files that a run kept itself."""
    try:
        return [path for path in server.tree(run.info.artifact_uri) if judged(path)]
    except Unavailable:
        raise
    except NoriaError:  # They lie where the server does not reach: there is nothing to compare.
        return []


def _digest(server: Server, run: Run, path: str) -> str:
    with TemporaryDirectory() as folder:
        target = Path(folder) / "file"
        server.download(run.info.artifact_uri, path, target, most=_LARGEST)
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def seconds(run: Run) -> float | None:
    info = run.info
    return (info.end_time - info.start_time) / 1000 if isinstance(info.end_time, int) and info.start_time else None
