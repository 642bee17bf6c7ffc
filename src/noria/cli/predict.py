"""`noria models predict`: rows of a file through a model, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from noria.cli.show import json_option


@click.command()
@click.argument("model_uri")
@click.option(
    "--input", "given", required=True, type=click.Path(exists=True, dir_okay=False), help="Rows: .csv, .json, .npy or .parquet."
)
@click.option(
    "--output", type=click.Path(dir_okay=False), help="Where the answers go, by the same endings; stdout as JSON without it."
)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the prediction; repeat.")
@click.option(
    "--allow-pickle", is_flag=True, help="Load a model that may run code of its maker's, in a process without credentials."
)
@json_option
def predict(model_uri: str, given: str, output: str | None, params: tuple[str, ...], allow_pickle: bool, as_json: bool) -> None:
    """Ask a model about the rows of a file.

    \b
    noria models predict models:/NAME/Production --input rows.csv
    noria models predict runs:/RUN/model --input x.npy --output y.npy

    MODEL_URI is what `noria serve` takes. JSON is what MLflow's servers take, such as {"inputs": [[1, 2]]}, or a list of records.
    The data are held to the model's signature.
    """
    from noria import models
    from noria.cli.local import connect

    named = not Path(model_uri).is_dir()
    model = models.load(model_uri, allow_pickle=allow_pickle, server=connect() if named else None)
    try:
        data, asked = _read(Path(given))
        answers = model.predict(data, {**(asked or {}), **dict(map(_param, params))} or None)
    finally:
        model.close()
    if output:
        _write(answers, Path(output))
        click.echo(f"noria: the answers are in {output}.", err=True)
    if as_json or not output:
        from noria.cli import show
        from noria.serve.protocols.mlflow import plain

        show.as_json({"predictions": plain(answers)})


def _param(text: str) -> tuple[str, Any]:
    import msgspec

    name, _, value = text.partition("=")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


def _ending(path: Path, kinds: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    from noria.errors import Invalid

    if path.suffix.lower() not in kinds:
        raise Invalid(f"'{path}' ends with no kind of file that is known here.", f"Use one of: {', '.join(kinds)}.")
    return kinds[path.suffix.lower()]


def _read(path: Path) -> tuple[Any, Any]:
    """The rows, and parameters if the file has any. Raises Invalid for what is no such file."""
    from noria.errors import Invalid, NoriaError

    read = _ending(path, {".csv": _csv, ".json": _json, ".npy": _npy, ".parquet": _parquet})
    try:
        return read(path)
    except NoriaError:
        raise
    except (ValueError, OSError, EOFError) as error:  # pandas, PyArrow and NumPy all raise kinds of these.
        raise Invalid(f"{path} cannot be read: {' '.join(str(error).split()):.160}.", "Check the file.") from None


def _csv(path: Path) -> tuple[Any, None]:
    from noria.models.columns import pandas

    return pandas().read_csv(path), None


def _parquet(path: Path) -> tuple[Any, None]:
    from noria.models.columns import pandas

    return pandas().read_parquet(path), None


def _npy(path: Path) -> tuple[Any, None]:
    import numpy as np

    return np.load(path, allow_pickle=False), None


def _json(path: Path) -> tuple[Any, Any]:
    from noria.serve.protocols import mlflow

    body = path.read_bytes()
    if body.lstrip()[:1] == b"[":
        records = body.lstrip()[1:].lstrip()[:1] == b"{"
        body = b'{"%s": %s}' % (b"dataframe_records" if records else b"inputs", body)
    asked = mlflow.decode(body, "")
    return asked.data, asked.params


def _write(answers: Any, path: Path) -> None:
    def frame() -> Any:
        from noria.models.columns import pandas

        is_table = hasattr(answers, "columns") or isinstance(answers, dict) or getattr(answers, "ndim", 1) == 2
        table = pandas().DataFrame(answers if is_table else {"prediction": list(answers)})
        table.columns = table.columns.map(str)
        return table

    def array(to: Path) -> None:
        import numpy as np

        np.save(to, np.asarray(answers), allow_pickle=False)

    def text(to: Path) -> None:
        from noria.serve.protocols.mlflow import encode

        to.write_bytes(encode(answers)[0])

    from noria.errors import Invalid

    kinds: dict[str, Callable[[Path], Any]] = {
        ".csv": lambda to: frame().to_csv(to, index=False), ".parquet": lambda to: frame().to_parquet(to, index=False),
        ".npy": array, ".json": text}  # fmt: skip
    try:
        _ending(path, kinds)(path)
    except (ValueError, OSError) as error:
        raise Invalid(
            f"The answers cannot be kept in {path}: {' '.join(str(error).split()):.160}.", "Use --output FILE.json."
        ) from None
