"""Arrays out of a pickle that may hold nothing else, as programs of Theano's day kept their weights.

Source: Python's documentation of `pickle`, "Restricting Globals": what a pickle makes, it makes by names that are looked up here.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_PLACES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")


def _names() -> dict[tuple[str, str], Any]:
    from numpy._core.multiarray import _reconstruct, scalar

    own = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": _reconstruct, "scalar": scalar}
    names = {(place, name): value for place in _PLACES for name, value in own.items()}
    return names | {("collections", "OrderedDict"): OrderedDict, ("_codecs", "encode"): _encode}


def _encode(text: str, codec: str) -> bytes:
    """Python 3 writes bytes for Python 2 so."""
    if codec != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {codec:.20}")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        names = _names()
        if (module, name) not in names:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}, which is no array")
        return names[module, name]


def arrays(path: Path) -> Any:
    """Lists, tuples and dicts of arrays and numbers. Raises ValueError for a pickle of anything else; none of it is run."""
    try:
        with path.open("rb") as file:
            found = _Unpickler(file, encoding="latin1").load()  # Python 2 wrote bytes as text.
    except Exception as error:  # Of many kinds, for a pickle that is none.
        raise ValueError(str(error) or type(error).__name__) from None
    if any(getattr(part, "dtype", None) is not None and part.dtype.hasobject for part in _inside(found)):
        raise ValueError("it holds an array of objects")
    return found


def _inside(found: Any) -> Iterator[Any]:
    left = [found]
    while left:
        part = left.pop()
        yield part
        left += list(part.values()) if isinstance(part, dict) else list(part) if isinstance(part, (list, tuple)) else []
