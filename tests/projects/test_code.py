"""Code as it was at submission: what is kept, what is linked to, what is too much."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from noria.errors import Invalid, Unavailable
from noria.projects import code


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "package").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "train.py").write_text("version = 1\n")
    (root / "package/run.sh").write_text("#!/bin/sh\n")
    (root / "package/run.sh").chmod(0o755)
    (root / ".gitignore").write_text("data/\n*.bin\n")
    (root / "data/large").write_text("of data")
    (root / "package/weights.bin").write_text("of weights")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_what_was_not_committed_is_kept_and_what_comes_later_is_not(repository: Path, tmp_path: Path) -> None:
    (repository / "train.py").write_text("version = 2\n")
    (repository / "new file.py").write_text("new\n")
    (repository / "link.py").symlink_to("train.py")
    git(repository, "rm", "-q", "--cached", ".gitignore")
    frozen = code.freeze(repository / "package", tmp_path / "store")
    (repository / "train.py").write_text("version = 3\n")
    inside = code.thaw(frozen, tmp_path / "job/code")
    root = inside.parent
    assert inside == tmp_path / "job/code/package" and os.access(inside / "run.sh", os.X_OK)
    assert (root / "train.py").read_text() == "version = 2\n" and (root / "new file.py").read_text() == "new\n"
    assert os.readlink(root / "link.py") == "train.py"
    assert (root / "data/large").read_text() == "of data" and (inside / "weights.bin").read_text() == "of weights"
    assert frozen.dirty and len(frozen.commit) == 40


def test_the_same_code_is_kept_once(repository: Path, tmp_path: Path) -> None:
    one, two = (code.freeze(repository, tmp_path / "store") for _ in range(2))
    assert one.file == two.file and not one.dirty and one.inside == ""
    (repository / "data/large").write_text("other data")
    assert code.freeze(repository, tmp_path / "store").file == one.file
    (repository / "package/run.sh").chmod(0o644)
    assert code.freeze(repository, tmp_path / "store").file != one.file
    assert len(list((tmp_path / "store").iterdir())) == 2


def test_a_repository_in_a_repository_comes_along(repository: Path, tmp_path: Path) -> None:
    inner = repository / "library"
    inner.mkdir()
    (inner / "module.py").write_text("inner\n")
    git(inner, "init", "-q")
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "first")
    frozen = code.freeze(repository, tmp_path / "store")
    assert (code.thaw(frozen, tmp_path / "code") / "library/module.py").read_text() == "inner\n"


def test_the_copy_knows_its_commit_and_leaves_the_repository_alone(repository: Path, tmp_path: Path) -> None:
    git(repository, "remote", "add", "origin", "https://ada:secret@example.com/team/project.git")
    frozen = code.freeze(repository / "package", tmp_path / "store")
    (repository / "train.py").write_text("later\n")
    git(repository, "commit", "-qam", "second")
    root = code.thaw(frozen, tmp_path / "job/code").parent

    def asked(*words: str) -> str:
        return subprocess.run(["git", "-C", root, *words], check=True, capture_output=True, text=True).stdout.strip()

    assert asked("rev-parse", "HEAD") == frozen.commit and asked("show", "HEAD:train.py") == "version = 1"
    assert asked("remote", "get-url", "origin") == "https://example.com/team/project.git"
    before = sorted((repository / ".git").rglob("*"))
    git(root, "commit", "-q", "--allow-empty", "-m", "of the job")
    assert asked("rev-parse", "HEAD") != frozen.commit and sorted((repository / ".git").rglob("*")) == before


def test_a_folders_code_is_the_same_wherever_it_lies(repository: Path, tmp_path: Path) -> None:
    digest = code.digest_of(repository / "package")
    (repository / "train.py").write_text("version = 2\n")
    assert code.digest_of(repository / "package") == digest, "what lies beside it does not count"
    frozen = code.freeze(repository / "package", tmp_path / "store")
    inside = code.thaw(frozen, tmp_path / "code")
    (inside / "written.txt").write_text("by the job")
    assert code.digest_of(inside, code.thawed(frozen, tmp_path / "code")) == digest
    (inside / "run.sh").write_text("#!/bin/sh\ntrue\n")
    assert code.digest_of(inside, code.thawed(frozen, tmp_path / "code")) != digest


def test_a_folder_that_the_repository_around_it_ignores_is_its_own(repository: Path, tmp_path: Path) -> None:
    (repository / "data/train.py").write_text("own\n")
    frozen = code.freeze(repository / "data", tmp_path / "store")
    assert (frozen.inside, frozen.commit) == ("", "")
    assert (code.thaw(frozen, tmp_path / "code") / "train.py").read_text() == "own\n"


def test_a_folder_without_git_is_kept_without_what_tools_leave(tmp_path: Path) -> None:
    root = tmp_path / "plain"
    for name in ("a.py", "__pycache__/a.pyc", ".venv/bin/python", "sub/b.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    frozen = code.freeze(root, tmp_path / "store")
    into = code.thaw(frozen, tmp_path / "code")
    assert (into / "sub/b.py").read_text() == "sub/b.py" and not (into / "__pycache__").exists()
    assert (into / ".venv").is_symlink() and (frozen.commit, frozen.dirty) == ("", False)
    assert code.thaw(frozen, tmp_path / "code") == into  # As after a crash.


def test_what_is_more_than_code_is_refused_with_the_cure(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "BYTES", 10_000)
    (repository / "package/huge.txt").write_text("x" * 20_000)
    with pytest.raises(Invalid, match=r"too much to freeze.*gitignore, or submit without --freeze"):
        code.freeze(repository, tmp_path / "store")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/huge").write_text("x" * 20_000)
    with pytest.raises(Invalid, match="Make it a git repository"):
        code.freeze(tmp_path / "plain", tmp_path / "store")


def test_what_came_from_elsewhere_is_compared_with_its_name(repository: Path, tmp_path: Path) -> None:
    (repository / "link.py").symlink_to("train.py")
    (repository / "naïve.py").write_text("x = 1\n")
    os.link(repository / "train.py", repository / "again.py")
    packed = Path(code.freeze(repository, tmp_path / "store").file)
    code.compare(packed)
    assert packed.exists()
    changed = tmp_path / packed.name
    with tarfile.open(changed, "w") as tar:
        tar.add(repository / "train.py", "../train.py")
    for content in (
        changed.read_bytes(),
        packed.read_bytes()[:1600],
        packed.read_bytes().replace(b"version = 1", b"version = 9"),
    ):
        changed.write_bytes(content)
        with pytest.raises(Invalid, match=r"is not what was submitted\. Submit it again"):
            code.compare(changed)
        assert not changed.exists()


def test_code_that_changes_while_it_is_packed_is_named_by_what_was_packed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = code.gather(repository)

    def gather(folder: Path) -> code.Tree:
        return looked

    monkeypatch.setattr(code, "gather", gather)
    before, digest = code._digest(looked), code._digest

    def late(tree: code.Tree) -> str:
        found = digest(tree)
        (repository / "train.py").write_text("version = 3\n")
        return found

    monkeypatch.setattr(code, "_digest", late)
    packed = Path(code.freeze(repository, tmp_path / "store").file)
    assert packed.stem != before
    code.compare(packed)


@pytest.mark.parametrize("moment", ["_size", "_digest", "_pack", "links"])
def test_a_file_that_goes_while_code_is_looked_at_is_no_code(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    (repository / "gone").mkdir()
    (repository / "gone/left.tmp").write_text("of an editor")
    real = getattr(code, moment)

    def late(*given: Any) -> Any:
        shutil.rmtree(repository / "gone", ignore_errors=True)
        return real(*given)

    monkeypatch.setattr(code, moment, late)
    frozen = code.freeze(repository, tmp_path / "store")
    code.compare(Path(frozen.file))
    thawed = code.thaw(frozen, tmp_path / "thawed")
    assert (thawed / "train.py").exists() and ((thawed / "gone").exists() == (moment == "links"))
    assert [path.suffix for path in (tmp_path / "store").iterdir()] == [".tar"]


def test_a_store_that_cannot_be_made_is_told_in_a_sentence(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"The code cannot be kept in .*Not a directory"):
        code.freeze(repository, tmp_path / "file" / "store")
