"""What a parameter of type path means that is not on this machine: it is downloaded, once for each submission."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from noria.client.http import Server
from noria.errors import Invalid, NotFound, Unavailable
from noria.wire import artifacts, runs


def download(server: Server, uri: str, into: Path) -> str:
    """The path of the file or folder that a URI leads to, below `into`, which is made. Raises Invalid, NotFound or Unavailable."""
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        return str(over_http(uri, into))
    if scheme == "models":
        from noria.models import fetch as models  # A tenth of a second, which few parameters are worth.

        return str(models.fetch(server, uri).folder)
    if scheme == "runs":
        run, _, path = uri.removeprefix("runs:/").partition("/")
        return _artifact(server, server.call(runs.RESOLVE, runs.Resolve(run)).run.info.artifact_uri, path, into)
    if uri.startswith(artifacts.SCHEME):
        return _artifact(server, *_divided(uri), into)
    return _by_fsspec(uri, into)


def _divided(uri: str) -> tuple[str, str]:
    """A run's artifacts, and the path below them."""
    root, found, path = uri.partition("/artifacts/")
    return (f"{root}/artifacts", path) if found else (uri, "")


def _artifact(server: Server, root: str, path: str, into: Path) -> str:
    """A file of the server's artifacts, or a folder with all that is below it."""
    if not root.startswith(artifacts.SCHEME):
        return _by_fsspec(f"{root}/{path}", into)
    files = list(server.tree(root, path))
    for name in files or [path]:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise Invalid(f"{root} has a file {name!r}.", "Do not trust that server.")
        server.download(root, name, into / name)
    return str(into / path)


def over_http(url: str, folder: Path) -> Path:
    """The file, under its own name, in a folder."""
    import urllib.error  # Slow to import, as is what it imports.
    import urllib.request

    target = folder / (Path(unquote(urlsplit(url).path)).name or "index.html")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as file:  # noqa: S310 (http or https)
            shutil.copyfileobj(answer, file)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403, 404):
            raise Invalid(
                f"{url} is private, or is not there (HTTP {error.code}).", "Fetch it yourself, and give the file."
            ) from None
        raise Unavailable(f"{url} cannot be fetched (HTTP {error.code}).", "Try again later.") from None
    except (urllib.error.URLError, OSError) as error:
        why = getattr(error, "reason", error)
        raise Unavailable(
            f"{url} cannot be reached ({why}).", "Look at the network from here, and at the name of its host."
        ) from None
    return target


def _by_fsspec(uri: str, into: Path) -> str:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise Invalid(
            f"{uri} cannot be read here.", "Install fsspec and its driver for that store, or fetch it yourself."
        ) from None
    try:
        store, path = url_to_fs(uri)
        target = into / (Path(path).name or "data")
        store.get(path, str(target), recursive=True)
    except (ImportError, ValueError) as error:
        raise Invalid(
            f"{uri} cannot be read here ({error}).", "Install fsspec's driver for that store, or fetch it yourself."
        ) from None
    except FileNotFoundError:
        raise NotFound(f"There is nothing at {uri}.", "Look at how it is written.") from None
    except Exception as error:  # Each driver has errors of its own, for a network or a password.
        raise Unavailable(
            f"{uri} cannot be read ({' '.join(str(error).split())[:200] or type(error).__name__}).", "Look at its credentials."
        ) from None
    return str(target)
