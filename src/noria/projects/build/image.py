"""An image for Apptainer: a file is taken as it is; a name of docker's is pulled (Apptainer: apptainer pull)."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from noria.errors import Invalid
from noria.projects.build import IMAGE, Need, Recipe, Work

FILES: tuple[str, ...] = ()
_NAME = re.compile(r"(?:[a-z]+://)?[\w.-]+(?::\d+)?(?:/[\w.-]+)*(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?")


def read(need: Need) -> Recipe:
    if need.file:
        try:
            seen = os.stat(need.file)
        except OSError as error:
            raise Invalid(f"The image {need.file} cannot be read ({error.strerror}).", "Mend its path in docker_env.") from None
        # Not its content: it may have many gigabytes, and is no copy of ours.
        return Recipe(content=[need.file, seen.st_size, seen.st_mtime_ns], ready=need.file, has_python=False)
    if not _NAME.fullmatch(need.image):
        raise Invalid(f"'{need.image}' is no name of an image.", "Write it as in python:3.11 or ghcr.io/team/train@sha256:….")
    return Recipe(content={"image": _uri(need.image)}, has_python=False)


def _uri(name: str) -> str:
    return name if "://" in name else f"docker://{name}"


def make(work: Work) -> None:
    program = shutil.which("apptainer") or shutil.which("singularity")
    uri = _uri(work.need.image)
    if program is None:
        raise Invalid(f"The project wants the image {work.need.image}, and there is no apptainer here to fetch it.",
                      f"Load its module; or elsewhere: apptainer pull image.sif {uri}, and name that file in docker_env.")  # fmt: skip
    work.report(f"fetching {uri} with {os.path.basename(program)}")
    work.into.mkdir()
    work.run([program, "pull", str(work.into / IMAGE), uri], {}, work.scratch)


def interpreter(folder: Path) -> str:
    return ""


def manager(folder: Path) -> str:
    return "image"
