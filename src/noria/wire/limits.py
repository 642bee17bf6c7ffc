"""MLflow's limits on names and texts: what is over them is refused in its words, or cut as it cuts it."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from noria.errors import Invalid
from noria.wire.fit import missing, wrong

KEY = 250
PARAM_VALUE = 6000
TAG_VALUE = 8000
EXPERIMENT_NAME = 500
EXPERIMENT_TAG_VALUE = 20_000
LOCATION = 2048
REGISTRY_TAG_VALUE = 100_000
MODEL_NAME = 256
ALIAS = 255
JOB_KEY = 255
DATASET = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
INPUT_TAG_KEY, INPUT_TAG_VALUE = 255, 500
BATCH = {"metrics": 1000, "params": 100, "tags": 100}
BATCH_TOTAL = 1000
BODY = 32 * 2**20
"""Bytes of a request body that is not a file."""

ARTIFACT_PATH = 2000
ARTIFACT_DEPTH = 100

_UNFIT = re.compile("(?:^|/)[.]{0,2}(?:/|$)|[\\x00-\\x1f\\x7f\\\\\\ud800-\\udfff\\ufffd]")
_ELSEWHERE = re.compile(r"(?:^|/)\.\.(?:/|$)|^/|[\\\0]")
_KEY = re.compile(r"[\w.\-:/ ]*")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_CHARACTERS = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
)
_LENGTH_NAMES = {"metric": "Metric name", "param": "Param key"}


def key(name: str, what: str = "metric", path: str = "") -> str:
    """The key itself; Invalid if MLflow would not take it. `path` is where in the request it stands."""
    where = path or ("name" if what == "metric" else "key")
    if not _KEY.fullmatch(name):
        raise wrong(where, name, _CHARACTERS)
    plain(name, where)
    return fits(name, KEY, _LENGTH_NAMES.get(what, where))


def plain(name: str, where: str) -> str:
    """The name itself, if it is also a relative path that leads nowhere else."""
    tidy = posixpath.normpath(name)
    if tidy != name or name == "." or name.startswith(("/", "..")):
        raise wrong(where, name, "Names may be treated as files in certain cases, and must not resolve to other names when "
                    f"treated as such. This name would resolve to '{tidy}'")  # fmt: skip
    return name


def moment(timestamp: int, name: str, value: object, path: str = "timestamp") -> None:
    """Invalid for a point of time before 1970."""
    if timestamp < 0:
        raise wrong(path, timestamp, f"metric '{name}' (value={value}). Timestamp must be a nonnegative long (64-bit integer)")


def fits(text: str, limit: int, what: str) -> str:
    if len(text) > limit:
        raise Invalid(f"'{what}' exceeds the maximum length of {limit} characters", f"It has {len(text)}: shorten it.")
    return text


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit]


def sizes(**counts: int) -> None:
    """Invalid for a batch with too many entries."""
    for what, count in counts.items():
        _bounded(what, count, BATCH[what])
    _bounded("metrics, params, and tags", sum(counts.values()), BATCH_TOTAL)


def once(keys: Sequence[str]) -> None:
    """Invalid for a batch that has the same parameter twice."""
    if len(set(keys)) != len(keys):
        twice = [name for place, name in enumerate(keys) if name in keys[:place]]
        raise Invalid(f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param "
                      "value per param key.")  # fmt: skip


def _bounded(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise Invalid(f"A batch logging request can contain at most {limit} {what}. Got {count} {what}. Please split up {what} "
                      "across multiple requests and try again.")  # fmt: skip


def run_id(text: str) -> str:
    if not _RUN_ID.fullmatch(text):
        raise wrong("run_id", text, "A run's id is 1 to 256 letters, digits, '_' and '-'.")
    return text


def model_name(name: str, where: str = "name") -> str:
    """A registered model's name."""
    if not name.strip():
        raise missing(where)
    if "/" in name or ":" in name:
        raise Invalid(f"Invalid model name '{name[:MODEL_NAME]}'. Names cannot contain '/' or ':'.")
    return fits(plain(name, where), MODEL_NAME, where)


def alias(name: str) -> str:
    """A name for a version of a registered model."""
    if not re.fullmatch(r"[\w\-]+", name):
        raise Invalid(
            f"Invalid alias name: '{name[:ALIAS]}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    return fits(name, ALIAS, "Registered model alias name")


def artifact_path(path: str) -> str:
    """A path below an artifact root as it came, "" for the root; Invalid for anything that could lead elsewhere.

    Names that would lead elsewhere for a reader who decodes once more, or folds letters, are refused too.
    """
    if path and (_UNFIT.search(path) or any(_ELSEWHERE.search(form) for form in _readings(path))):
        raise Invalid(
            f"Invalid path: {path[:200]!a}.", "An artifact's path is relative and has no '.', '..', '\\' or empty parts."
        )
    size, parts = len(path.encode()), path.split("/")
    if size > 255 and any(len(part.encode()) > 255 for part in parts):
        raise Invalid("Invalid path: a part of it is longer than 255 bytes.", "Shorten the file's name.")
    if size > ARTIFACT_PATH or len(parts) > ARTIFACT_DEPTH:
        raise Invalid(
            f"Invalid path: it has {size} bytes in {len(parts)} parts.", f"The limits are {ARTIFACT_PATH} and {ARTIFACT_DEPTH}."
        )
    return path


def _readings(path: str) -> Iterator[str]:
    """How else a path may be read: percent-decoded again, and in Unicode's compatibility form."""
    for _ in range(4):
        if not path.isascii():
            yield unicodedata.normalize("NFKC", path)
        if "%" not in path:
            return
        path = unquote(path)
        yield path


def served_path(path: str) -> str:
    """The same on MLflow's endpoints, whose clients compare the whole message."""
    try:
        return artifact_path(path)
    except Invalid:
        raise Invalid("Invalid path") from None
