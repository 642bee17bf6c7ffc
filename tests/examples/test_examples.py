"""Each example as a job of this machine, on the data that it brings; what counts is what it logged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests.clusters.cluster import REPOSITORY, Cluster, local
from tests.conftest import require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

EXAMPLES = REPOSITORY / "examples"
NEEDS = {
    "keras_cnn": ("tensorflow", ("keras", "tensorflow", "mlxtend"), ()),
    "keras_rnn": ("jax", ("keras", "jax"), ()),
    "keras_lstm": ("jax", ("keras", "jax", "mlflow"), ()),
    "keras_gan": ("torch", ("keras", "torch", "mlxtend"), ()),
    "keras_transfer": ("torch", ("keras", "torch", "sklearn"), ()),
    "keras_distributed": ("tensorflow", ("keras", "tensorflow", "mlxtend"), ("--tasks-per-node", "2")),
    "torch_gan": ("", ("torch", "mlxtend"), ()),
    "mlflow_tracking": ("", ("mlflow", "sklearn", "matplotlib"), ()),
}
"""Keras's backend, what is imported, and what the job asks for."""


def missing(name: str) -> list[str]:
    return [module for module in NEEDS[name][1] if not find_spec(module)]


class Ran:
    """What became of a job."""

    def __init__(self, cluster: Cluster, job: Any) -> None:
        self.cluster, self.job = cluster, job

    def history(self, key: str) -> list[float]:
        return self.cluster.history(self.job["run_id"], key)


@pytest.fixture(scope="module")
def all_ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """All that can run here, submitted at once."""
    home = tmp_path_factory.mktemp("home")
    with local(home) as cluster:
        ids = {}
        for name, (backend, _, options) in NEEDS.items():
            if not missing(name):
                variables = ("--env", f"KERAS_BACKEND={backend}", "--env", "TF_CPP_MIN_LOG_LEVEL=3") if backend else ()
                ids[name] = cluster.submit(
                    "--name", name, *variables, *options, "--", sys.executable, str(EXAMPLES / f"{name}.py")
                )
        ended = cluster.ended(*ids.values(), seconds=380)
        yield {name: Ran(cluster, job) for name, job in zip(ids, ended, strict=True)}


@pytest.fixture
def ran(all_ran: dict[str, Ran], request: pytest.FixtureRequest) -> Ran:
    """The job of the example that the test is named after."""
    name = request.node.name.removeprefix("test_")
    for module in missing(name):
        require(module, False, f"pip install {module}")
    found = all_ran[name]
    assert found.job["state"] == "COMPLETED", found.cluster.printed(found.job["id"])
    return found


def test_every_example_is_run_and_listed() -> None:
    found = {path.stem for path in EXAMPLES.glob("*.py")}
    assert found == set(NEEDS)
    assert all(f"`{name}.py`" in (EXAMPLES / "README.md").read_text() for name in found)


def test_keras_cnn(ran: Ran) -> None:
    assert ran.history("test_accuracy")[-1] > 0.8
    assert len(ran.history("batch/loss")) == 2 * 43 and ran.history("epoch") == [1, 2]
    assert ran.history("val_loss")[1] < ran.history("val_loss")[0]
    assert ran.history("learning_rate") == pytest.approx([1e-3, 1e-3])


def test_keras_rnn(ran: Ran) -> None:
    assert ran.history("test_accuracy")[-1] > 0.7
    assert len(ran.history("batch/loss")) == 4 * 79 // 10


def test_keras_lstm(ran: Ran) -> None:
    losses = ran.history("val_loss")
    assert len(losses) == 3 and losses[2] < losses[0]


def test_keras_gan(ran: Ran) -> None:
    assert ran.history("distance")[-1] < 0.7 * ran.history("distance")[0]
    assert len(ran.history("generator_loss")) == 300


def test_keras_transfer(ran: Ran) -> None:
    assert ran.history("moved") == [0]
    assert ran.history("loss")[1] < ran.history("loss")[0]  # No more can be asked above a network that was never trained.


def test_keras_distributed(ran: Ran) -> None:
    assert ran.history("workers") == [2] and ran.history("test_accuracy")[-1] > 0.6
    ends = [line.partition(": ")[2] for line in ran.cluster.logs(ran.job["id"]).splitlines() if "] worker" in line]
    assert len(ends) == 2 and ends[0] == ends[1]  # The weights are the same everywhere.


def test_torch_gan(ran: Ran) -> None:
    assert ran.history("distance")[-1] < 0.7 * ran.history("distance")[0]
    assert len(ran.history("generator_loss")) == 400


def test_mlflow_tracking(ran: Ran) -> None:
    assert ran.history("r2")[-1] > 0.3
    shown = json.loads(ran.cluster.noria("models", "show", "diabetes-line", "--json").stdout)
    assert "Production" in json.dumps(shown)


OLD = """
import noria, numpy as np
from tensorflow.keras.layers import Dense
from tensorflow.keras.models import Model, Sequential
from tensorflow.keras.optimizers import Adam
generator, discriminator = Sequential(), Sequential()
generator.add(Dense(4, input_dim=3, activation="tanh"))
discriminator.add(Dense(1, input_dim=4, activation="sigmoid"))
gan = Model(generator.input, discriminator(generator.output))
gan.compile(loss="binary_crossentropy", optimizer=Adam(lr=0.0002, beta_1=0.5))
gan.fit(np.ones((8, 3)), np.ones((8, 1)), batch_size=4, epochs=3, verbose=0, callbacks=[noria.keras_callback()])
"""


def test_old_programs_run_in_a_legacy_environment_and_else_say_what_to_write(tmp_path_factory: pytest.TempPathFactory) -> None:
    for module in ("tf_keras", "tensorflow"):
        require(module, bool(find_spec(module)), f"pip install {module}")
    with local(tmp_path_factory.mktemp("home")) as cluster:
        ids = [cluster.submit("--env", f"TF_USE_LEGACY_KERAS={on}", "--", sys.executable, "-c", OLD) for on in ("1", "0")]
        old, new = cluster.ended(*ids, seconds=200)
        assert old["state"] == "COMPLETED", cluster.printed(old["id"])
        assert len(cluster.history(old["run_id"], "batch/loss")) == 6 and cluster.history(old["run_id"], "epoch") == [1, 2, 3]
        # tf_keras takes lr=0.0002, warns, and trains with its usual rate: examples/README.md says so.
        assert cluster.history(old["run_id"], "learning_rate") == pytest.approx([1e-3] * 3)
        assert new["state"] == "FAILED" and "TF_USE_LEGACY_KERAS=1" in cluster.noria("why", new["id"]).stdout
