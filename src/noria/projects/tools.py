"""The programs that build an environment: started with no more than they need, ended with whoever started them, and what they say kept."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from noria import process
from noria.errors import Invalid, Unavailable
from noria.projects import caches, failures
from noria.projects.build import Need

_OTHERS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PIP_TARGET", "PIP_PREFIX",
           "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PROJECT",
           "__PYVENV_LAUNCHER__")  # fmt: skip
"""Variables that are about another environment than this."""
_SECRETS = ("NORIA_TOKEN", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
"""What is built runs code of its own."""


class Tools:
    """Of one build. watch: is told the last line that was said, some times a second."""

    def __init__(self, place: Path, name: str, need: Need, watch: Callable[[str], None]) -> None:
        self.place, self.need, self.watch = place, need, watch
        self.log = place / "logs" / f"{name}.log"
        try:
            self.log.parent.mkdir(exist_ok=True)
            if (mode := place.stat().st_mode) & 0o020 and self.log.parent.stat().st_uid == os.getuid():
                self.log.parent.chmod(mode & 0o2775)
            self.log.write_bytes(b"")
            self.log.chmod(0o666 & ~caches.umask(place))
        except OSError as error:
            raise Unavailable(f"{self.log} cannot be written ({error.strerror}).", "Make room there.") from None

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        folder = tempfile.mkdtemp(prefix="noria-build-")
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Raises Invalid or Unavailable, with its last words, if it fails."""
        start = self.log.stat().st_size
        with self.log.open("a") as file:
            file.write(f"$ {' '.join(argv)}\n")
        whole = (
            {name: value for name, value in os.environ.items() if name not in (*_OTHERS, *_SECRETS)}
            | self._homes(cwd)
            | dict(env)
        )
        try:
            running = process.start(argv, log=self.log, env=whole, cwd=str(cwd), umask=caches.umask(self.place))
        except OSError as error:
            raise Invalid(f"{argv[0]} cannot be started ({error.strerror}).", "Mend it, or take it from the PATH.") from None
        try:
            code = self._ended(running)
        except BaseException:
            process.send_group(running.pid, signal.SIGKILL)
            running.wait()
            raise
        if code:
            said = self.log.read_text(errors="replace")[start:]
            tool = "pip" if [*argv[1:3]] == ["-m", "pip"] else os.path.basename(argv[0])
            raise failures.of(self.need.file or self.need.image, tool, code, said.partition("\n")[2], str(self.log))

    def _ended(self, running: process.Popen[bytes]) -> int:
        seen = 0
        while running.poll() is None:
            size = self.log.stat().st_size
            if size != seen:
                seen = size
                self.watch(_last(self.log, size))
            time.sleep(0.02 if not seen else 0.1)
        return running.returncode

    def _homes(self, scratch: Path) -> dict[str, str]:
        """Where tools keep what they download, for users without a home, such as services."""
        home = os.environ.get("HOME") or os.path.expanduser("~")
        if os.access(home, os.W_OK):
            return {}
        return {name: value for name, value in (("UV_CACHE_DIR", f"{scratch}/uv"), ("PIP_CACHE_DIR", f"{scratch}/pip"), ("HOME", str(scratch)))
                if name == "HOME" or not os.environ.get(name)}  # fmt: skip

    def version(self, python: str) -> str:
        """Of an interpreter that was made; empty if there is none."""
        if not python:
            return ""
        said = process.run([python, "-I", "-c", "import sys; print('.'.join(map(str, sys.version_info[:3])))"])
        if said.code:
            raise Invalid(
                f"The environment of {self.need.file} was built, but its Python does not start ({failures.last_words(said.err)})."
            )
        return said.out.strip()

    def done(self) -> None:
        """It was built: nobody needs to read what was said."""
        self.log.unlink(missing_ok=True)


def _last(log: Path, size: int) -> str:
    with log.open("rb") as file:
        file.seek(max(0, size - 500))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
