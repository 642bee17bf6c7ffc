"""TensorBoard's event files: each folder that has some is a run, named by its path. Read without TensorBoard.

Scalars become metrics, and the hyperparameters of its HParams plugin parameters. Its other summaries are pictures of what a
training saw, and stay behind.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID, uuid5

from noria.bridges.protobuf import Message
from noria.bridges.source import Run, Series, Source, info, key
from noria.bridges.tfrecord import records
from noria.errors import Invalid, NotFound
from noria.types import Experiment, Param, RunData, RunStatus, Tag
from noria.types import Run as Fields

_IDS = UUID("0d7c6a0e-3f53-5b1c-8a55-b5f1c1f3a7d2")
_SILENT = 600.0
"""Seconds without a new byte after which a run counts as ended: its files do not say so themselves."""
_KINDS = {4: "images", 5: "histograms", 6: "audio"}
_STATUS: dict[int, RunStatus] = {1: "FINISHED", 2: "FAILED"}


def open(source: str) -> Source:
    return Logs(Path(source))


class Logs(Source):
    """A folder, or one event file."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        if not root.exists():
            raise NotFound(f"There is nothing at '{root}'.", "Give the folder that tensorboard --logdir gets.")
        files = [root] if root.is_file() else [path for path in root.rglob("*tfevents*") if path.is_file()]
        self.root = (root.parent if root.is_file() else root).absolute()
        self._folders: dict[Path, list[Path]] = {}
        for path in sorted(files):
            self._folders.setdefault(path.absolute().parent, []).append(path.absolute())
        if not self._folders:
            raise Invalid(f"'{root}' holds no event files of TensorBoard.", "They are named events.out.tfevents.…")

    @property
    def _experiment(self) -> str:
        return self.root.name or "tensorboard"

    def total(self) -> int:
        return len(self._folders)

    def experiments(self) -> Iterable[Experiment]:
        return [Experiment("", self._experiment, "", "active", 0, 0)]

    def runs(self) -> Iterator[Run]:
        other: Counter[str] = Counter()
        for folder, files in self._folders.items():
            events = Events()
            for path in files:
                places: list[int] = []
                events.read(path, places)
                if places:
                    self.notes.append(
                        f"{path} is damaged at {len(places)} places, the first at byte {places[0]}; what can be read came along."
                    )
            other.update(events.other)
            if not events.count:
                self.notes.append(f"{folder} has no event that can be read; it was passed over.")
                continue
            yield self._run(folder, files, events)
        if other:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(other.items()))
            self.notes.append(f"Summaries that are no scalars were left out: {kinds}.")

    def _run(self, folder: Path, files: list[Path], events: Events) -> Run:
        # The same whatever the folder is called or where it lies: the writer's own words name it.
        run_id = uuid5(_IDS, f"tensorboard/{files[0].name}/{events.origin!r}").hex
        name = folder.relative_to(self.root).as_posix()
        name = self._experiment if name == "." else name
        recent = time.time() - max(path.stat().st_mtime for path in files) < _SILENT
        status: RunStatus = _STATUS.get(events.status, "RUNNING" if recent else "FINISHED")
        end = None if status == "RUNNING" else int(events.last * 1000)
        params = [Param(key(each), text) for each, text in events.params.items()]
        fields = info(run_id, name, "", status, int(events.first * 1000), end)
        return Run(
            self._experiment, Fields(fields, RunData([], params, [Tag("mlflow.runName", name)])), list(events.series.values())
        )


class Events:
    """What the files of one folder say, one after the other."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}
        self.params: dict[str, str] = {}
        self.other: Counter[str] = Counter()
        self.plugins: dict[str, str] = {}
        self.origin = self.first = self.last = 0.0
        self.status = self.count = 0

    def read(self, path: Path, damaged: list[int]) -> None:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                for payload in records(view, damaged.append):
                    try:
                        self._event(Message(payload))
                    except (ValueError, struct.error):
                        damaged.append(-1)

    def _event(self, event: Message) -> None:
        """tensorflow.Event: wall_time 1, step 2, summary 5."""
        moment, step = event.double(1), event.number(2)
        if not self.count:
            self.origin = self.first = moment
        self.first = min(self.first, moment)
        self.last = max(self.last, moment)
        self.count += 1
        for value in event.message(5).messages(1):
            self._value(value, moment, step)

    def _value(self, value: Message, moment: float, step: int) -> None:
        """tensorflow.Summary.Value: tag 1, simple_value 2, image 4, histo 5, audio 6, tensor 8, metadata 9."""
        tag, plugin = value.text(1), value.message(9).message(1)
        kind = self.plugins.setdefault(tag, plugin.text(1))  # A tag's first value alone says which plugin it is of.
        if kind == "hparams":
            self._hparams(Message(plugin.raw(2)))
            return
        number = (
            value.single(2) if value.has(2) else _scalar(value.message(8)) if value.has(8) and kind in ("", "scalars") else None
        )
        if number is None:
            self.other[kind or next((word for field, word in _KINDS.items() if value.has(field)), "tensors")] += 1
            return
        name = key(tag)
        series = self.series.setdefault(name, Series(name, [], [], []))
        series.values.append(number)
        series.timestamps.append(int(moment * 1000))
        series.steps.append(step)

    def _hparams(self, data: Message) -> None:
        """tensorboard.hparams.HParamsPluginData: session_start_info 3 (hparams 1, a map), session_end_info 4 (status 1)."""
        for pair in data.message(3).messages(1):
            self.params[pair.text(1)] = _text(pair.message(2))
        if data.has(4):
            self.status = data.message(4).number(1)


def _text(value: Message) -> str:
    """google.protobuf.Value: number 2, string 3, bool 4."""
    if value.has(2):
        number = value.double(2)
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    return str(bool(value.number(4))) if value.has(4) else value.text(3)


_TYPES: dict[int, tuple[str, int]] = {1: ("f", 5), 2: ("d", 6), 3: ("i", 0), 9: ("q", 0), 19: ("e", 0)}


def _scalar(tensor: Message) -> float | None:
    """A tensorflow.TensorProto of one number: dtype 1, tensor_content 4, or a list of its own kind; None for any other."""
    if tensor.number(1) not in _TYPES or tensor.message(2).messages(2):
        return None
    letter, field = _TYPES[tensor.number(1)]
    raw = tensor.raw(4) or tensor.raw(field)
    size = struct.calcsize(letter)
    return float(struct.unpack(f"<{letter}", raw)[0]) if len(raw) == size else None
