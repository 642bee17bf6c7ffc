"""Models that are functions: what they need besides is said here, since a function does not say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct


class JaxFunction(Struct, frozen=True):
    """apply(params, batch), of a pytree of arrays and an array [n, ...] or a dict of arrays; it must be one that jax.jit takes.

    example: a batch, of which shapes and types are taken; n may be any.
    """

    apply: Callable[[Any, Any], Any]
    params: Any
    example: Any


class Custom(Struct, frozen=True):
    """A function of a batch, or an `mlflow.pyfunc.PythonModel`, with what it needs: kept by cloudpickle, so that whoever loads it has to trust it.

    artifacts: files and folders that are copied with it, by the names under which `context.artifacts` has them. code_paths: modules and packages
    that are copied with it and importable where it is loaded. requirements: lines of requirements.txt.
    """

    model: Any
    artifacts: Mapping[str, str | Path] = {}
    code_paths: Sequence[str | Path] = ()
    requirements: Sequence[str] = ()
