"""The loop: data order, augmentation, data parallelism, checkpoints. torch lives here and is imported with the first use.

from noria.train import adamw, build, classification, fit
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noria.train.architectures import build as build
    from noria.train.augment import Jitter as Jitter
    from noria.train.data import Arrays as Arrays
    from noria.train.data import Batch as Batch
    from noria.train.distributed import World as World
    from noria.train.recipes import adamw as adamw
    from noria.train.recipes import classification as classification
    from noria.train.recipes import one_cycle as one_cycle
    from noria.train.trainer import Plan as Plan
    from noria.train.trainer import Result as Result
    from noria.train.trainer import evaluate as evaluate
    from noria.train.trainer import fit as fit

_HOMES = {
    "architectures": ("build",),
    "augment": ("Jitter",),
    "data": ("Arrays", "Batch"),
    "distributed": ("World",),
    "recipes": ("adamw", "classification", "one_cycle"),
    "trainer": ("Plan", "Result", "evaluate", "fit"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'noria.train' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"noria.train.{_HOME[name]}"), name)
    return value
