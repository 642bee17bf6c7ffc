"""Copies of the project folders, with a package that lends an environment what is installed here, so that nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import zipfile
from pathlib import Path

FOLDERS = Path(__file__).parent / "mlprojects"
NAMES = ("plain", "python_env", "conda", "multistep", "git")
"""The folders, and one that is fetched by a git URL."""


def copied(name: str, into: Path) -> Path:
    """A project folder of the test's own."""
    folder = into / name
    shutil.copytree(FOLDERS / name, folder)
    wheel(folder)
    return folder


def wheel(folder: Path) -> Path:
    """lent 1.0, which is one .pth file (packaging.python.org: Binary distribution format)."""
    path = folder / "lent-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("lent.pth", f"{sysconfig.get_path('purelib')}\n")
        file.writestr("lent-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: lent\nVersion: 1.0\n")
        file.writestr("lent-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(
            "lent-1.0.dist-info/RECORD",
            "lent.pth,,\nlent-1.0.dist-info/METADATA,,\nlent-1.0.dist-info/WHEEL,,\nlent-1.0.dist-info/RECORD,,\n",
        )
    return path


def git(folder: Path, *words: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    env = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(["git", "-C", str(folder), *words], env=env, check=True, capture_output=True, text=True).stdout.strip()


def committed(folder: Path) -> str:
    """Make a folder a repository; its commit."""
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return git(folder, "rev-parse", "HEAD")
