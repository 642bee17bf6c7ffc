"""Files made of what a script has in hand: a text, a dictionary, a figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from noria.client import fluent
from noria.errors import Invalid


def log_text(text: str, artifact_file: str) -> None:
    """Keep a text as the run's file `artifact_file`, such as "notes/today.txt"."""
    _keep(artifact_file, lambda path: path.write_text(text, encoding="utf-8"))


def log_dict(dictionary: Any, artifact_file: str) -> None:
    """Keep a dictionary or a list as a JSON file. Raises Invalid for what JSON cannot say, and for another format's ending."""
    if artifact_file.endswith((".yaml", ".yml")):
        raise Invalid(f"noria.log_dict writes JSON, and '{artifact_file}' ends in another format's name.", "End it in .json.")
    try:
        text = json.dumps(dictionary, indent=2)
    except (TypeError, ValueError) as error:
        raise Invalid(f"This dictionary is not one for JSON ({error}).", "Log texts, numbers, lists and dictionaries.") from None
    log_text(text, artifact_file)


def log_figure(figure: Any, artifact_file: str) -> None:
    """Keep a figure of matplotlib or plotly; the ending of `artifact_file` says in which format."""
    if hasattr(figure, "savefig"):
        _keep(artifact_file, lambda path: figure.savefig(path))
    elif hasattr(figure, "write_html"):
        html = artifact_file.endswith(".html")
        _keep(artifact_file, lambda path: figure.write_html(path) if html else figure.write_image(path))
    else:
        raise Invalid(
            f"A {type(figure).__name__} is no figure of matplotlib or plotly.", "Save it to a file, then noria.log_artifact it."
        )


def _keep(artifact_file: str, write: Callable[[Path], object]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(artifact_file).name
        write(path)
        parent = str(Path(artifact_file).parent)
        fluent.log_artifact(path, None if parent == "." else parent)
