"""Stands for Noria at the end of PYTHONPATH: an installed one goes first, and the copy that came with the job is the last resort."""

# Any Python 3 must be able to read this, so that it can say what it lacks.
import importlib
import os
import platform
import sys

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIB = os.path.join(_HERE, ".lib")


def _installed() -> bool:
    """Import Noria as if this folder were not there. Whether it was found."""
    path = list(sys.path)
    sys.path[:] = [each for each in path if os.path.abspath(each or ".") != _HERE]
    try:
        importlib.import_module("noria")
    except ImportError as error:
        if error.name != "noria":
            raise
        return False
    finally:
        sys.path[:] = path
    return True


def _msgspec() -> None:
    """Make sure of msgspec: the environment's own, the agent's if it was built for this Python, or the stand-in."""
    kind = "-".join([str(sys.implementation.cache_tag), platform.system(), platform.machine(), platform.libc_ver()[0]])
    for folder in ("", os.path.join(_LIB, kind), os.path.join(_LIB, "any")):
        if folder and not os.path.isdir(folder):
            continue
        if folder:
            sys.path.append(folder)
        try:
            importlib.import_module("msgspec")
            return
        except ImportError:
            if folder:
                sys.path.remove(folder)


def _carried() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 (the job's Python, not ours)
        raise ImportError(
            "Noria needs Python 3.11 or newer, and this is {}.{}: use an environment with a newer one.".format(
                *sys.version_info[:2]
            )
        )
    sys.path.append(os.path.join(_LIB, "noria"))
    _msgspec()
    path = list(sys.path)
    sys.path[:] = [each for each in path if os.path.abspath(each or ".") != _HERE]
    try:
        importlib.import_module("noria")
    finally:
        sys.path[:] = path


if __name__ == "noria":
    # Whoever imports us gets what stands in sys.modules when we are done.
    del sys.modules["noria"]
    if not _installed():
        _carried()
