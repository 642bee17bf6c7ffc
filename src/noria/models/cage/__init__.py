"""A model that is trusted to run code, and with nothing else: a process of its own, without credentials, asked over a pipe.

It has an empty home, an environment of a few names, no descriptor but the pipe, bounded memory, and, where the kernel has the means, no
files but the interpreter's, its packages' and the model's, and no sockets.
"""

from __future__ import annotations

import os
import shutil
import site
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import Any

from msgspec import Struct

from noria import process
from noria.errors import Unavailable, from_wire
from noria.models.cage import frames

_KEPT = ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "KERAS_BACKEND", "JAX_PLATFORMS", "PYTHONWARNINGS",
         "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL", "PYTHONHASHSEED")  # fmt: skip
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/opt", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/os-release",
           "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems", "/proc/sys/kernel", "/proc/sys/vm",
           "/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom", "/dev/random", "/dev/zero")  # fmt: skip
_LEAST = 4 * 2**30


class Walls(Struct, frozen=True):
    """What the kernel holds. files: nothing is read but what the model needs. sockets: none is made. seconds: the model's to load."""

    files: bool
    sockets: bool
    seconds: float


class Cage:
    """The process, from this side. Ended by `close`, and with this object."""

    def __init__(self, folder: Path, memory: int = 0) -> None:
        """memory: bytes that it may take; 0: half of the machine's, and 4 GiB at least.

        Raises what the other side raised: Forbidden, Invalid, Unsupported; Unavailable if it died.
        """
        self._lock = Lock()
        self._room = Path(mkdtemp(prefix="noria-cage-"))
        for name in ("home", "tmp"):
            (self._room / name).mkdir()
        self._log = self._room / "log"
        argv = [sys.executable, "-P", "-s", "-m", "noria.models.cage.inside"]
        self._child = process.asked(argv, log=self._log, env=_environment(self._room), cwd=str(self._room / "home"))
        assert self._child.stdin is not None and self._child.stdout is not None
        self._told, self._says = self._child.stdin, self._child.stdout
        self._end = weakref.finalize(self, _end, self._child, self._room)
        home = str(self._room)
        order = {"folder": str(folder.resolve()), "read": [*_readable(), str(folder.resolve()), f"/proc/{self._child.pid}"],
                 "write": [*(f"{home}/{name}" for name in ("home", "tmp")), "/dev/null", *_devices()],
                 "memory": memory or _memory()}  # fmt: skip
        try:
            self.walls = Walls(**self._ask(order))
        except BaseException:
            self.close()
            raise

    def predict(self, batch: Any, params: Mapping[str, Any] | None = None) -> Any:
        """What the model answers: an array, a DataFrame, a dict of arrays, or plain values."""
        return self._ask({"batch": batch, "params": params})

    def _ask(self, what: Any) -> Any:
        with self._lock:
            try:
                frames.send(self._told, what)
                said = frames.receive(self._says)
            except (EOFError, OSError):
                raise self._died() from None
        if "error" in said:
            status, code, message = said["error"]
            raise from_wire(int(status), str(code), str(message)[:1000])
        return said["done"]

    def _died(self) -> Unavailable:
        code = process.exit_code(self._child.wait())
        words = self._log.read_text(errors="replace")[-4000:].strip().splitlines()[-1:] or [""]
        why = " ".join("".join(each if each.isprintable() else " " for each in words[0]).split())
        return Unavailable(f"The process of the model ended with code {code}{f' ({why:.200})' if why else ''}.",
                           "Its memory is bounded; give it more with memory=, or look at the model.")  # fmt: skip

    def close(self) -> None:
        """End the process and remove what it had."""
        self._end()


def _end(child: Any, room: Path) -> None:
    for pipe in (child.stdin, child.stdout):
        try:
            pipe.close()
        except OSError:  # It died with something unsaid.
            pass
    process.send(child.pid, 9)
    child.wait()
    shutil.rmtree(room, ignore_errors=True)


def _environment(room: Path) -> dict[str, str]:
    """Names that say how to compute, and none that opens anything."""
    env = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
    env |= {"HOME": str(room / "home"), "TMPDIR": str(room / "tmp"), "PYTHONPATH": os.pathsep.join(_modules())}
    return {
        **env,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "USER": "noria",
        "LOGNAME": "noria",
    }


def _modules() -> list[str]:
    """Where the packages are that this process uses and the other one would not find by itself."""
    named = [Path(each).resolve() for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    own = Path(__file__).resolve().parents[3]
    users = [Path(site.getusersitepackages())] if site.ENABLE_USER_SITE else []
    return [str(each) for each in dict.fromkeys([own, *named, *users]) if _is_for_packages(each)]


def _is_for_packages(path: Path) -> bool:
    """Whether a folder may be read by a stranger: no home, and nothing that has one in it."""
    home = Path.home().resolve()
    return path.is_dir() and not home.is_relative_to(path)


def _readable() -> list[str]:
    """The interpreter, its packages and the system's libraries."""
    prefixes = [Path(each).resolve() for each in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)]
    packages = [Path(each).resolve() for each in sys.path if Path(each).name in ("site-packages", "dist-packages")]
    linked = [Path(each) for each in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if each]
    found = [str(each) for each in [*prefixes, *packages, *linked] if _is_for_packages(each)]
    return [*dict.fromkeys([*_SYSTEM, *found, *_modules(), *_editable(), str(Path(sys.executable).parent)])]


def _editable() -> list[str]:
    """Folders that .pth files in the packages name: projects that are installed where they are written."""
    packages = [Path(each) for each in sys.path if Path(each).name in ("site-packages", "dist-packages")]
    lines = [line for each in packages for file in each.glob("*.pth") for line in file.read_text(errors="replace").splitlines()]
    return [line for line in lines if line.startswith("/") and _is_for_packages(Path(line))]


def _devices() -> list[str]:
    """GPUs."""
    return [str(each) for pattern in ("nvidia*", "kfd", "dri") for each in Path("/dev").glob(pattern)]


def _memory() -> int:
    return max(_LEAST, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
