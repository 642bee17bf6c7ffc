"""What requirement files say, and what of it makes another environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.errors import Invalid
from noria.projects import pythons
from noria.projects.build import KINDS, Line, Need, conda
from noria.projects.built import _digest, needed
from noria.projects.requirements import read


def digest(folder: Path, file: str) -> str:
    need = needed(folder, file)
    assert need is not None
    return _digest(KINDS.get(need.kind).read(need), "3.11")


def test_lines_of_all_files_that_are_referred_to(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "wheels").mkdir()
    (tmp_path / "requirements.txt").write_text(
        "# all\nnumpy >= 1.26 , <3  # why\n-r deep/more.txt\n-cbound.txt\n--index-url=https://mirror/simple\n-f wheels\n"
        'Pandas[excel]==2.2 ; python_version \\\n  > "3.8"\nthing @ git+https://host/thing@v1\n'
    )
    (tmp_path / "deep" / "more.txt").write_text("toolz==1.0 --hash=sha256:ab\n-r most.txt\n")
    (tmp_path / "deep" / "most.txt").write_text("six${V}\n")
    (tmp_path / "bound.txt").write_text("numpy<2.2\n")
    found = read((tmp_path / "requirements.txt").read_text().splitlines(), tmp_path, "r.txt", {"V": "==1.16"})
    assert found.lines == [
        Line("numpy<3,>=1.26"), Line("toolz==1.0 --hash=sha256:ab"), Line("six==1.16"),
        Line('pandas[excel]==2.2 ; python_version > "3.8"'), Line("thing @ git+https://host/thing@v1")]  # fmt: skip
    assert found.constraints == [Line("numpy<2.2")]
    assert found.options == [Line("--index-url https://mirror/simple"), Line("-f {}", str(tmp_path / "wheels"))]


def test_packages_that_lie_beside(tmp_path: Path) -> None:
    for name in ("pkg", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "x-1-py3-none-any.whl").touch()
    lines = ["-e ./pkg", "./pkg[extra] ; python_version > '3'", "x-1-py3-none-any.whl", f"other @ file://{tmp_path}/other"]
    found = read(lines, tmp_path, "r.txt").lines
    assert [line.path for line in found] == [str(tmp_path / name) for name in ("pkg", "pkg", "x-1-py3-none-any.whl", "other")]
    assert [line.text for line in found] == ["{}", "{}[extra] ; python_version > '3'", "{}", "other @ file://{}"]


@pytest.mark.parametrize(("line", "said"), [
    ("numpy=1.2", "r.txt: 'numpy=1.2' is no requirement (Expected semicolon (after name with no version specifier) or end). A version is pinned by ==."),
    ("numpy>>1", "r.txt: 'numpy>>1' is no requirement"),
    ("./gone", "r.txt: there is no {0}/gone. Give the path of a package from the project's folder."),
    ("-r gone.txt", "{0}/gone.txt, which r.txt refers to, cannot be read (No such file or directory)."),
    ("-r self.txt", "{0}/self.txt refers to itself, by {0}/self.txt."),
    ("--upgrade-all", "r.txt: pip knows no option --upgrade-all in such a file."),
    ("-r https://host/r.txt", "r.txt refers to https://host/r.txt, which may say something else tomorrow."),
])  # fmt: skip
def test_a_line_that_pip_would_not_take_is_named_before_anything_is_built(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "self.txt").write_text("-r self.txt\n")
    with pytest.raises(Invalid) as error:
        read([line], tmp_path, "r.txt")
    assert error.value.message.startswith(said.format(tmp_path))


def test_words_and_order_make_no_other_environment_and_content_does(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "setup.py").write_text("1")
    first = "python: 3.11\nbuild_dependencies: [pip]\ndependencies:\n- numpy>=1,<3\n- -r r.txt\n"
    same = "# why\ndependencies:\n- -r r.txt\n- numpy <3,>=1   # so\nbuild_dependencies:\n- pip\npython: '3.11'\n"
    (tmp_path / "r.txt").write_text("toolz\n./pkg\n")

    def of(text: str) -> str:
        (tmp_path / "python_env.yaml").write_text(text)
        return digest(tmp_path, "python_env.yaml")

    before = of(first)
    assert of(same) == before
    (tmp_path / "r.txt").write_text("# a comment\n./pkg\n\ntoolz\n")
    assert of(same) == before
    for left in ("build/x.py", "pkg.egg-info/PKG-INFO", "__pycache__/x.pyc"):
        (tmp_path / "pkg" / left).parent.mkdir()
        (tmp_path / "pkg" / left).touch()
    assert of(same) == before, "what building leaves is no source"
    others = {of(first.replace("3.11", "3.12")), of(first.replace("<3", "<2")), of(first.replace("[pip]", "[wheel]"))}
    (tmp_path / "pkg" / "setup.py").write_text("2")
    others.add(of(first))
    (tmp_path / "r.txt").write_text("toolz\n./pkg\n-c c.txt\n")
    (tmp_path / "c.txt").write_text("toolz<1\n")
    others.add(of(first))
    assert len(others | {before}) == 6


def test_another_index_is_another_environment_and_its_password_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.txt").write_text("toolz\n")
    plain = digest(tmp_path, "requirements.txt")
    found = set()
    for url in ("https://me:old@mirror/simple", "https://me:new@mirror/simple"):
        monkeypatch.setenv("PIP_INDEX_URL", url)
        found.add(digest(tmp_path, "requirements.txt"))
    assert len(found) == 1 and plain not in found


def test_a_folder_of_wheels_counts_by_what_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("--no-index\n-f .\nx\n")
    found = []
    for name in ("x-1-py3-none-any.whl", "notes.txt", "x-2-py3-none-any.whl"):
        (tmp_path / name).touch()
        found.append(digest(tmp_path, "requirements.txt"))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(("packages", "plain"), [
    (["python=3.10", "pip"], ("==3.10.*", ["pip"])),
    (["python=3.10.4", "pip<=23.2", "setuptools=65"], ("==3.10.4.*", ["pip<=23.2", "setuptools==65.*"])),
    (["python==3.10.4"], ("==3.10.4", [])),
    (["conda-forge::python>=3.9,<3.12"], (">=3.9,<3.12", [])),
    (["python 3.10.*"], ("==3.10.*", [])),
    (["python=3.10", "numpy"], None),
    (["python=3.10=h1234_0"], None),
])  # fmt: skip
def test_what_needs_no_conda(packages: list[str], plain: tuple[str, list[str]] | None) -> None:
    assert conda._plain(packages) == plain


@pytest.mark.parametrize(("file", "text", "said"), [
    ("python_env.yaml", "python: [3\n", " line 2 is no valid YAML ("),
    ("python_env.yaml", "- a\n", " is no mapping of names to values. Write it as NAME: VALUE, one on each line."),
    ("python_env.yaml", "dependncies: [a]\n", ": there is no key dependncies. Did you mean dependencies?"),
    ("python_env.yaml", "dependencies: numpy\n", ": dependencies is no list of lines. Write dependencies: and below it one '- LINE' for each."),
    ("python_env.yaml", "python: 2.7\n", ": '2.7' is no version of Python 3. Write it as in 3.11 or 3.11.7."),
    ("conda.yaml", "chanels: [a]\n", ": there is no key chanels. Did you mean channels?"),
    ("conda.yaml", "dependencies:\n- pip: toolz\n", ": pip is no list of lines."),
    ("conda.yaml", "dependencies: {a: b}\n", ": dependencies are no list of packages."),
    ("pyproject.toml", "[project\n", " is not valid TOML ("),
    ("pyproject.toml", "[tool.ruff]\n", " describes no project. Give it a [project] with dependencies, or name another file."),
    ("uv.lock", "version = 1\n", " has no pyproject.toml beside it. Put it there, or name another file."),
    ("requirements.txt", b"\xff\xfe\x00", " is no text in UTF-8. Save it as UTF-8."),
    ("train.py", "", " is no file that describes an environment. Use requirements.txt, python_env.yaml, conda.yaml, uv.lock or a .sif."),
])  # fmt: skip
def test_a_broken_file_is_one_sentence_with_its_cure(file: str, text: str | bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Invalid) as error:
        digest(tmp_path, file)
    assert error.value.message.startswith(f"{tmp_path}/{file}{said}")


def test_what_a_project_names_goes_before_what_lies_there(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert needed(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")
    assert needed(tmp_path) is None, "settings of tools describe no environment"
    for name in ("requirements.txt", "conda.yaml", "python_env.yaml"):
        (tmp_path / name).touch()
        assert needed(tmp_path) == Need(name.split(".")[0], f"{folder}/{name}", folder)
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "mine.yml").touch()
    for text, need in {
        "conda_env: envs/mine.yml": Need("conda", f"{folder}/envs/mine.yml", folder),
        "python_env: envs/mine.yml": Need("python_env", f"{folder}/envs/mine.yml", folder),
        "docker_env:\n  image: python:3.11": Need("image", "", folder, "python:3.11"),
        "docker_env:\n  image: a.sif": Need("image", f"{folder}/a.sif", folder, "a.sif"),
        "name: x": Need("python_env", f"{folder}/python_env.yaml", folder),
    }.items():
        (tmp_path / "MLproject").write_text(text)
        assert needed(tmp_path) == need
    for text, said in {
        "conda_env: gone.yaml": f"There is no file gone.yaml in {folder}. Give its path from there.",
        "conda_env: a\npython_env: b": "names python_env and conda_env, and a project has one environment. Take the others out.",
        "docker_env: x": "docker_env names no image. Write image: NAME below it.",
    }.items():
        (tmp_path / "MLproject").write_text(text)
        with pytest.raises(Invalid) as error:
            needed(tmp_path)
        assert said in error.value.message


def test_versions_of_python() -> None:
    assert [pythons.pinned(each, "f") for each in ("3", "3.10", "3.10.4", "cpython-3.12")] == [
        "==3.*", "==3.10.*", "==3.10.4", "==3.12.*"]  # fmt: skip
    nothing = {"HOME": "/nonexistent", "PATH": ""}
    assert pythons.minor("", nothing) == pythons.minor(f"=={pythons.RUNNING}.99", nothing) == pythons.RUNNING
    assert pythons.minor("==3.29.*", nothing) == "3.29", "which is not here; it is said when it is looked for"
    assert pythons.minor(">=3.29,<3.31", nothing) == ""
