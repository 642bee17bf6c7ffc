"""What MLproject files say, and how their commands are filled in: as MLflow does it, checked before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.errors import Invalid
from noria.projects import mlproject, parameters
from noria.projects.mlproject import Project

TEXT = """
name: demo
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      name: string
      data: {type: path, default: rows.csv}
      where: {type: uri, default: "file:///data"}
      count: {type: int, default: 3}
    command: "python train.py {alpha} {name} {data} {where} {count} ${{HOME}}"
  plain:
    parameters: {k: float}
    command: "echo {k}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "mlproject").write_text(TEXT)
    (tmp_path / "rows.csv").write_text("1\n")
    (tmp_path / "train.py").write_text("")
    return mlproject.read(tmp_path)


def filled(project: Project, entry: str = "main", here: str = "", **values: object) -> parameters.Filled:
    folder = Path(project.folder)
    return parameters.filled(project.entry(entry), values, Path(here or folder), folder, lambda uri, place: f"/down/{place}")


def test_a_command_is_filled_in_and_quoted_as_mlflow_does_it(project: Project) -> None:
    from mlflow.projects import _project_spec

    values = {"name": "it's me", "alpha": "1e-3", "a b": "x;y"}
    theirs = _project_spec.load_project(project.folder).get_entry_point("main")
    params, extra = theirs.compute_parameters(values, None)
    ours = filled(project, **values)
    assert ours.logged == {**params, **extra}
    assert ours.command == theirs.compute_command({**values, "data": f"{project.folder}/rows.csv"}, "/nowhere")
    assert ours.reads == [f"{project.folder}/rows.csv"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alpha": "fast", "name": "a"}, "Parameter alpha is 'fast', which is no number."),
        ({"count": "2.5", "name": "a"}, "Parameter count is '2.5', which is no whole number."),
        ({"count": "inf", "name": "a"}, "Parameter count is 'inf', which is no whole number."),
        ({}, "needs the parameter name. Write -P name=…."),
        ({"nme": "a"}, "needs the parameter name. Did you mean it by -P nme=…?"),
        ({"name": "a", "data": "no.csv"}, "Parameter data is 'no.csv', and there is no such file or folder."),
        ({"name": "a", "where": "data"}, "Parameter where is 'data', which is no URI."),
    ],
)
def test_what_is_wrong_with_a_parameter_is_one_sentence(project: Project, values: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid) as error:
        filled(project, **values)
    assert words in error.value.message and "\n" not in error.value.message


def test_a_path_from_elsewhere_is_downloaded_and_one_that_was_given_is_relative_to_here(project: Project, tmp_path: Path) -> None:
    assert filled(project, name="a", data="s3://b/rows.csv").reads == ["/down/2"]
    there = tmp_path / "there"
    there.mkdir()
    (there / "own.csv").write_text("")
    assert filled(project, here=str(there), name="a", data="own.csv").reads == [str(there / "own.csv")]
    assert filled(project, here=str(there), name="a").reads == [f"{tmp_path}/rows.csv"], "a default may be the project's"


def test_where_only_a_copy_of_the_project_goes_paths_are_those_in_it(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, data = Path(project.folder), tmp_path_factory.mktemp("data")

    def moved(**values: object) -> str:
        return parameters.filled(project.entry("main"), values, folder, folder, lambda uri, place: str(data), moved=True).command

    assert moved(name="a").split()[4] == "rows.csv"
    for path in (str(data), "s3://bucket/rows.csv"):
        with pytest.raises(Invalid, match="is not in the project"):
            moved(name="a", data=path)


def test_a_name_that_is_no_parameter_is_told_and_passed_on(project: Project) -> None:
    entry = project.entry("main")
    assert parameters.passed_on(entry, {"alhpa": 1}) == [
        "alhpa is no parameter of main, so the program is given --alhpa; did you mean alpha?"
    ]
    assert not parameters.passed_on(entry, dict.fromkeys(entry.parameters)) and not parameters.passed_on(
        project.entry("train.py"), {"x": 1}
    )


def test_an_entry_point_may_be_a_file_and_a_missing_one_has_a_nearest_name(project: Project) -> None:
    assert project.entry("train.py").command == "python train.py"
    for name, cure in (("man", "Did you mean 'main'?"), ("tain.py", "Did you mean 'train.py'?"), ("zzz", "It has main, plain.")):
        with pytest.raises(Invalid, match="has no entry point") as error:
            project.entry(name)
        assert cure in error.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 1 is no YAML"),
        ("- a", "Write it as names with values"),
        ("entry_points: {main: {parameters: {}}}", "the entry point main has no command"),
        ("python_env: a.yaml\nconda_env: b.yaml", "has python_env and conda_env"),
        ("docker_env: {volumes: []}", "docker_env names no image"),
        ("entry_points: [main]", "entry_points is"),
        ("entry_points: {main: {command: 'echo {b}'}}", "has {b}, which is no parameter"),
        ("entry_points: {main: {command: 'awk {'}}", "cannot be filled in"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "MLproject").write_text(text)
    with pytest.raises(Invalid) as error:
        filled(mlproject.read(tmp_path))
    assert words in error.value.message and "\n" not in error.value.message


def test_words_of_a_command_are_known_only_where_a_shell_has_nothing_to_do() -> None:
    assert parameters.plain_words("python 'a b.py' --x 1") == ["python", "a b.py", "--x", "1"]
    for command in ("cd x && python a.py", "A=1 python a.py", "python a.py > log", "python 'a"):
        assert parameters.plain_words(command) == []


def test_what_is_written_behind_a_dash_p() -> None:
    assert parameters.given(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for texts in (["a"], ["a=1", "a=2"], ["=1"]):
        with pytest.raises(Invalid):
            parameters.given(texts)
