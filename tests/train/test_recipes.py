"""Recipes come to what they state, and say in a sentence what cannot be set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from noria.train.recipes import RECIPES, parsed, settings
from tests.conftest import require

pytest.importorskip("torch")
Noria = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", RECIPES.own())
def test_a_recipe_comes_to_what_it_states(name: str, noria: Noria) -> None:
    require("skimage", find_spec("skimage") is not None, "pip install 'noria[recipes]'")
    # One thread, as in the table: several wait for each other where others want the cores too.
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "noria", "train", name, "--json"], capture_output=True, text=True, env=one)
    assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(done.stdout[done.stdout.index("{\n") :])["values"]
    stated = RECIPES.get(name).STATED
    assert stated and all(goal.met(values[measure]) for measure, goal in stated.items()), (values, stated)


RECIPE = '''"""Nothing, but it says what came out."""
from noria.train.reading import read
from noria.train.recipes import Goal, Trained
STATED = {"loss": Goal(most=1)}
def train(*, end: float = 0.5, seed: int = 0) -> Trained:
    return Trained({"loss": end}, 100, findings=read([2 - (2 - end) * step / 100 for step in range(101)]))
'''


def test_what_the_curves_say_is_printed(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "falling.py").write_text(RECIPE)
    known = tmp_path / "falling-1.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: falling\nVersion: 1\n")
    (known / "entry_points.txt").write_text("[noria.train.recipes]\nfalling = falling\n")
    done = noria("train", "falling", PYTHONPATH=str(tmp_path)).stdout
    assert "loss 0.5000  (stated: at most 1)\nimproving: The loss still fell in the last quarter" in done
    done = noria("train", "falling", "--set", "end=2", "--json", PYTHONPATH=str(tmp_path)).stdout
    assert [each["name"] for each in json.loads(done)["findings"]] == ["flat"]


def test_every_recipe_says_what_it_learns_and_can_be_seeded(noria: Noria) -> None:
    listed = json.loads(noria("train", "--json").stdout)["recipes"]
    assert [each["name"] for each in listed] == RECIPES.own()
    for each in listed:
        assert each["learns"].endswith(".") and each["comes_to"] and settings(RECIPES.get(each["name"]))["seed"].kind is int


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("lrr=3", "no setting 'lrr'. Did you mean lr?"),
        ("epochs=1.5", "epochs is a whole number, not '1.5'. Its default is 13."),
        ("lr", "'lr' is no setting. Write --set name=value"),
        ("lr=fast", "lr is a number, not 'fast'. Its default is 0.004."),
    ],
)
def test_what_cannot_be_set_is_said_in_a_sentence(given: str, words: str, noria: Noria) -> None:
    done = noria("train", "digits", "--set", given, check=False)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


def test_a_run_has_its_settings_curves_data_model_and_what_was_predicted(noria: Noria, tmp_path: Path) -> None:
    require("mlxtend", find_spec("mlxtend") is not None, "pip install 'noria[demo]'")
    pairs = ("architecture=mlp", "epochs=2", "max_examples=640", "validate=true")
    said = noria("train", "digits", *(part for pair in pairs for part in ("--set", pair)), OMP_NUM_THREADS="1").stdout
    assert "epoch 2/2  step 20/20" in said and "test_accuracy" in said
    run = json.loads(noria("runs", "list", "--json").stdout)["runs"][0]
    id_, params = run["info"]["run_id"], {each["key"]: each["value"] for each in run["data"]["params"]}
    assert (params["recipe"], params["lr"], params["epochs"]) == ("digits", "0.004", "2")
    losses = json.loads(noria("runs", "show", id_, "--history", "loss", "--json").stdout)["history"]["loss"]
    assert [point["step"] for point in losses] == list(range(20))
    metrics = {each["key"]: each["value"] for each in run["data"]["metrics"]}
    (file,) = (tmp_path / "home").rglob("held_out.json")
    correct = json.loads(file.read_text())["correct"]
    assert len(correct) == 1000 and sum(correct) / 1000 == pytest.approx(metrics["test_accuracy"])
    assert list((tmp_path / "home").rglob("model/MLmodel"))


def test_settings_are_read_by_their_kind() -> None:
    read = parsed(RECIPES.get("digits"), ["lr=1e-3", "max-examples=2e3", "patience=none", "architecture=lenet"])
    assert (read["lr"], read["max_examples"], read["patience"], read["architecture"]) == (1e-3, 2000, None, "lenet")


def test_the_table_in_the_documents_is_true() -> None:
    text = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("| `")]
    said = {name.strip("`"): comes_to for name, comes_to, _ in rows}
    stated = {
        name: ", ".join(f"{measure} {goal}" for measure, goal in RECIPES.get(name).STATED.items()) for name in RECIPES.own()
    }
    assert [name for name in stated if name not in said] == [], "recipes without a row in docs/recipes.md"
    assert said == stated and all(0 < int(seconds) <= 60 for *_, seconds in rows)


def test_divisions_are_compared_as_scikit_learn_does() -> None:
    require("sklearn", find_spec("sklearn") is not None, "pip install scikit-learn")
    import torch
    from sklearn.metrics import adjusted_rand_score

    from noria.train.recipes.clusters import adjusted_rand, means, nearest, purity

    draw = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 5, (400,), generator=draw)
    points = torch.nn.functional.one_hot(classes).float() + torch.randn(400, 5, generator=draw) / 4
    mixed = torch.where(torch.rand(400, generator=draw) < 0.3, torch.randint(0, 7, (400,), generator=draw), classes)
    found = nearest(points, means(points, 5, seed=0))
    for groups in (mixed, found, classes):
        assert adjusted_rand(groups, classes) == pytest.approx(adjusted_rand_score(classes, groups))
    assert purity(classes, classes) == adjusted_rand(classes, classes) == 1
    assert purity(found, classes) > 0.9 > purity(mixed, classes) > 0.7
