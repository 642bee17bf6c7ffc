"""Names and paths."""

from __future__ import annotations

import pytest

from noria.errors import Invalid
from noria.wire import limits


@pytest.mark.parametrize("path", ["", "a", "a/b.txt", "mañana/日本.csv", "a b"])
def test_paths_that_stay_inside(path: str) -> None:
    assert limits.artifact_path(path) == path


@pytest.mark.parametrize(
    "path", ["..", "a/../b", "/etc/passwd", "a//b", "./a", "a/.", "a\\b", "a\0b", "..\\x", "a/..", "x" * 256]
)
def test_paths_that_could_lead_elsewhere(path: str) -> None:
    with pytest.raises(Invalid, match="Invalid path"):
        limits.artifact_path(path)


@pytest.mark.parametrize("key", ["loss", "val/loss", "a b:c-d.e_f", "é", "日本"])
def test_keys_that_mlflow_takes(key: str) -> None:
    assert limits.key(key) == key


@pytest.mark.parametrize("key", ["", "a\nb", "../a", "/a", "a//b", ".", "a;b", "x" * 251])
def test_keys_that_mlflow_refuses(key: str) -> None:
    with pytest.raises(Invalid):
        limits.key(key)
