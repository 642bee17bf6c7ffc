"""Examples that come in an order of their own, and fetching ahead of whoever needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import torch
from torch import Tensor

from noria.errors import Invalid
from noria.train.data import Pair

T = TypeVar("T")
_NONE = object()


def _as_it_is(item: Any) -> Any:
    return item


@dataclass(frozen=True, eq=False)
class Stream:
    """What an iterable gives, such as a torch IterableDataset: `examples` of it are an epoch.

    open: gives the items of an epoch from their beginning, the same each time it is asked for the same epoch.
    load: makes (input, target) of an item. Every rank reads all items, so that no two see the same and all have equally
    many; what is slow belongs in `load`, which each calls for its own only. A run that goes on passes over what was seen.
    """

    open: Callable[[int], Iterable[Any]]
    examples: int
    load: Callable[[Any], Any] = _as_it_is
    ordered = True

    def __len__(self) -> int:
        return self.examples

    def gather(self, chosen: Tensor, /) -> Pair:
        return next(self.walk([chosen], 0))

    def walk(self, rows: Sequence[Tensor], epoch: int, /) -> Iterator[Pair]:
        """Rows must go up; one may begin with numbers that the row before it had."""
        items, at, kept = iter(self.open(epoch)), 0, dict[int, Any]()
        for row in rows:
            wanted = row.tolist()
            kept = {number: item for number, item in kept.items() if number >= wanted[0]}
            while at <= wanted[-1]:
                item = next(items, _NONE)
                if item is _NONE:
                    raise Invalid(f"The stream ended after {at:,} of {self.examples:,} examples.",
                                  f"Say examples={at}, or let it go on.")  # fmt: skip
                if at >= wanted[0]:
                    kept[at] = item
                at += 1
            inputs, targets = zip(*[self.load(kept[number]) for number in wanted], strict=True)
            yield _stacked(inputs), _stacked(targets)


def _stacked(values: Sequence[Any]) -> Tensor:
    return torch.stack([torch.as_tensor(value) for value in values])


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


def ahead(items: Iterable[T], count: int = 2) -> Iterator[T]:
    """The same items, of which a thread fetches up to `count` before they are asked for (0: no thread).

    What goes wrong there is raised here. The thread ends with the items, or when whoever asks has stopped asking.
    """
    if count < 1:
        yield from items
        return
    box: Queue[T | _End] = Queue(count)
    over = Event()
    thread = Thread(target=_fill, args=(items, box, over), name="noria-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := box.get(), _End):
            yield item
        if item.error:
            raise item.error
    finally:
        over.set()
        _drain(box)  # The thread may wait for room.
        thread.join()


def _fill(items: Iterable[T], box: Queue[T | _End], over: Event) -> None:
    error = None
    try:
        iterator = iter(items)
        try:
            for item in iterator:
                box.put(item)
                if over.is_set():
                    return
        finally:
            getattr(iterator, "close", lambda: None)()  # A generator is closed where it ran.
    except BaseException as caught:
        error = caught
    box.put(_End(error))


def _drain(box: Queue[Any]) -> None:
    try:
        while True:
            box.get_nowait()
    except Empty:
        return
