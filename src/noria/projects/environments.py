"""What is active where a job is submitted. Pure but for a look at an image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from noria.errors import Invalid
from noria.types import Environment

_PLAIN = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "NORIA_SYSTEM_METRICS_INTERVAL")
_MODULES = ("MODULESHOME", "MODULEPATH")
"""Where the module command is, and where it looks; sites and people add to the latter."""


def active(env: Mapping[str, str], image: str = "") -> Environment:
    """The virtual environment, conda environment and modules of a shell. Raises Invalid for an image that is not there."""
    loaded = [name for name in env.get("LOADEDMODULES", "").split(":") if name]
    if image:
        return Environment(modules=loaded, image=_file(image))
    return Environment(env.get("VIRTUAL_ENV", ""), env.get("CONDA_PREFIX", ""), loaded)


def recorded(env: Mapping[str, str], environment: Environment) -> dict[str, str]:
    """The variables that make the same programs run. Those of the node's Python mean nothing to an image's."""
    names = [name for name in _PLAIN if not (environment.image and name == "PYTHONPATH")]
    return {name: env[name] for name in (*names, *(_MODULES if environment.modules else ())) if env.get(name)}


def _file(image: str) -> str:
    path = Path(image)
    if "://" in image:
        raise Invalid(f"--image {image}: nodes may have no network.", f"Fetch it first: apptainer pull image.sif {image}")
    if not path.exists():  # Or a folder, which Apptainer calls a sandbox.
        raise Invalid(f"--image {image}: there is no such file.", "Give the path of an Apptainer image (.sif).")
    return os.path.abspath(path)


def described(environment: Environment) -> str:
    """For a person, on one line; empty if nothing is active."""
    parts = [
        f"modules {' '.join(environment.modules)}" if environment.modules else "",
        f"conda environment {environment.conda}" if environment.conda else "",
        f"virtual environment {environment.virtualenv}{', packed' if environment.packed else ''}"
        if environment.virtualenv
        else "",
        "packed" if environment.packed else "",
        f"image {environment.image}" if environment.image else "",
    ]
    return ", ".join(part for part in parts if part)
