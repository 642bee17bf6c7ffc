"""The loop: data order, augmentation, data parallelism, checkpoints. torch lives here and is imported with the first use.

from noria.train import Trainer, adamw, build
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noria.train.architectures import build as build
    from noria.train.augment import Jitter as Jitter
    from noria.train.data import Arrays as Arrays
    from noria.train.data import Batch as Batch
    from noria.train.data import Mapped as Mapped
    from noria.train.data import Source as Source
    from noria.train.distributed import World as World
    from noria.train.dropout import Dropout as Dropout
    from noria.train.finders import find_lr as find_lr
    from noria.train.finders import find_micro as find_micro
    from noria.train.optimizers import adamw as adamw
    from noria.train.reading import read as read
    from noria.train.results import Result as Result
    from noria.train.schedules import cosine as cosine
    from noria.train.schedules import one_cycle as one_cycle
    from noria.train.schedules import warmup_stable_decay as warmup_stable_decay
    from noria.train.steps import classification as classification
    from noria.train.steps import regression as regression
    from noria.train.steps import tokens as tokens
    from noria.train.stream import Stream as Stream
    from noria.train.stream import ahead as ahead
    from noria.train.trainer import Trainer as Trainer
    from noria.train.trainer import evaluate as evaluate

_HOMES = {
    "architectures": ("build",),
    "augment": ("Jitter",),
    "data": ("Arrays", "Batch", "Mapped", "Source"),
    "distributed": ("World",),
    "dropout": ("Dropout",),
    "finders": ("find_lr", "find_micro"),
    "optimizers": ("adamw",),
    "reading": ("read",),
    "results": ("Result",),
    "schedules": ("cosine", "one_cycle", "warmup_stable_decay"),
    "steps": ("classification", "regression", "tokens"),
    "stream": ("Stream", "ahead"),
    "trainer": ("Trainer", "evaluate"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'noria.train' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"noria.train.{_HOME[name]}"), name)
    return value
