"""The card of a model: README.md in its folder, which says what it is, where it comes from, what it takes, and how to load it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from noria.models.mlmodel import MLModel
from noria.models.schema import ParamSpec, Spec, shown
from noria.version import __version__

FILE = "README.md"


class Facts(Struct, frozen=True):
    """What a run knows of its model. metrics: last values. data: its data sets, one line each."""

    metrics: dict[str, float] = {}
    data: list[str] = []


def write(folder: Path, model: MLModel, kind: type, words: str, facts: Facts) -> None:
    """Keep the card; one that the flavor has put there stays below."""
    file = folder / FILE
    own = file.read_text(errors="replace") if file.exists() else ""
    file.write_text(text(model, f"{kind.__module__}.{kind.__qualname__}", words, facts) + (f"\n{own}" if own else ""))


def text(model: MLModel, kind: str, words: str, facts: Facts) -> str:
    """The card, as Markdown."""
    flavor = next((name for name in model.flavors if name != "python_function"), "python_function")
    where = f"runs:/{model.run_id}/{model.artifact_path}" if model.run_id else "FOLDER"
    lines = [f"# {model.artifact_path or kind.rpartition('.')[2]}", "", *([words.strip(), ""] if words.strip() else [])]
    lines += [*_facts(model, kind, flavor, facts), "", "## Signature", ""]
    lines += [*_sides(model), "", "## Load it", "", "```python", "import noria.models", f'model = noria.models.load("{where}")']
    lines += ["model.predict(batch)", "```", "", f'Or with MLflow: `mlflow.pyfunc.load_model("{where}").predict(batch)`.']
    return "\n".join(lines) + "\n"


def _facts(model: MLModel, kind: str, flavor: str, facts: Facts) -> Iterator[str]:
    yield from ("| | |", "| --- | --- |")
    yield _row("what", f"{kind}, kept as {flavor} by Noria {__version__}")
    yield _row("made", f"{model.utc_time_created[:19]} UTC")
    if model.run_id:
        yield _row("run", model.run_id)
    for line in facts.data:
        yield _row("data", line)
    numbers: Mapping[str, Any] = {**facts.metrics, **{k: v for k, v in model.metadata.items() if isinstance(v, int | float)}}
    for name, value in sorted(numbers.items()):
        yield _row(name, f"{value:.6g}")
    yield _row("size", f"{model.size:,} bytes")


def _row(name: str, value: str) -> str:
    """A row of a table; what would end a cell, or be markup, is taken out of values that came from elsewhere."""
    return f"| {_cell(name)} | {_cell(value)} |"


def _cell(value: str) -> str:
    return re.sub(r"[\x00-\x1f|<>`\[\]]", " ", value)[:300]


def _sides(model: MLModel) -> Iterator[str]:
    sides: tuple[tuple[str, Sequence[Spec | ParamSpec]], ...] = (
        ("in", model.signature.inputs),
        ("out", model.signature.outputs),
        ("parameter", model.signature.params),
    )
    lines = [f"- {word}: `{re.sub('[`|]', ' ', shown(spec))}`" for word, specs in sides for spec in specs]
    yield from lines or ["It was saved without an example, so it is not known."]
