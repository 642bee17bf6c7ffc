"""`model.fit(..., callbacks=[noria.keras_callback()])`: what a fit measures goes to the run, and a job that was stopped goes on.

With Keras 3 and each of its backends. In a legacy environment (TF_USE_LEGACY_KERAS=1) it logs, and does not save: that Keras has no way
to begin later.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from noria.client.checkpoint import checkpoint, rank, resume, stopping
from noria.client.fluent import log, run_id
from noria.errors import Invalid, Unsupported

Logs = Mapping[str, float] | None


def keras_callback(*, steps: int = 1, every: float | None = None, resumes: bool = True) -> Any:
    """A callback for `fit`: metrics by step ("batch/loss", as Keras gives them: means over the epoch so far) and by epoch ("loss",
    "val_loss", "learning_rate", "epoch"), all against the number of the training step.

    steps: log every so many steps; 0: by epoch alone, which spares a GPU the wait for each step's values. resumes: save at epoch ends
    with noria.checkpoint, which takes `every`; save and leave with code 75 when the job is told to stop; go on after the epochs that
    are done. An epoch that was stopped in its middle is begun again, with the weights as they were then. Where one program fits
    several times, pass the same callback to each: what was done is passed over.
    """
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    try:
        keras = import_module("tf_keras" if legacy else "keras")
    except ImportError as error:
        raise Unsupported(f"Keras is not here ({error}).", "pip install keras, and one of tensorflow, torch, jax.") from None
    kind = type("NoriaCallback", (_Hooks, keras.callbacks.Callback), {})
    return kind(keras, steps, every, resumes and not legacy)


class _Hooks:
    """What Keras calls. `model` and `params` are of keras.callbacks.Callback, which is mixed in when Keras is there."""

    model: Any
    params: Mapping[str, Any]

    def __init__(self, keras: Any, steps: int, every: float | None, resumes: bool) -> None:
        super().__init__()
        self._keras, self._steps, self._every, self._resumes = keras, steps, every, resumes
        self._fit, self._epoch, self._step, self._base, self._logged = -1, 0, 0, 0, 0
        self._state: Mapping[str, Any] | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        self._fit, self._epoch = self._fit + 1, 0
        run_id()
        if not self._resumes:
            return
        if not self.model.built:
            raise Invalid("This model gets its weights with its first batch, too late to go on from a checkpoint.",
                          "Begin it with keras.Input(shape), or write noria.keras_callback(resumes=False).")  # fmt: skip
        if self._fit == 0:
            self._state = resume()
        if self._state:
            self._go_on(self._state)

    def _go_on(self, state: Mapping[str, Any]) -> None:
        if state["fit"] > self._fit:
            self._begin_at(int(self.params["epochs"]))
        elif state["fit"] == self._fit:
            self._begin_at(state["epoch"])
            self._step = state["step"]
            self._assign(state["values"])
        else:
            self._begin_at(0)

    def _begin_at(self, epoch: int) -> None:
        self._epoch = epoch
        self.model._initial_epoch = epoch or None  # Where Keras's own BackupAndRestore says it, to every backend.

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch, self._base = epoch, self._step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._step = self._base + batch + 1
        if self._steps and self._step - self._logged >= self._steps and rank() == 0:
            self._logged = self._step
            log({f"batch/{name}": float(value) for name, value in (logs or {}).items()}, step=self._step)
        if (
            self._resumes and stopping() and batch + 1 != self.params.get("steps")
        ):  # The last one's save comes with the epoch's end.
            self._save(self._epoch)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if rank() == 0:
            own = {"epoch": epoch + 1, "learning_rate": self._rate()}
            log({name: float(value) for name, value in {**own, **(logs or {})}.items()}, step=self._step)
        if self._resumes:
            self._save(epoch + 1)

    def _rate(self) -> float:
        rate = self.model.optimizer.learning_rate
        return float(self._keras.ops.convert_to_numpy(rate) if hasattr(self._keras, "ops") else rate.numpy())

    def _save(self, epoch: int) -> None:
        def state() -> dict[str, Any]:
            return {
                "fit": self._fit,
                "epoch": epoch,
                "step": self._step,
                "values": [self._array(each) for each in self._variables()],
            }

        checkpoint(state, step=self._step, every=self._every)

    def _array(self, variable: Any) -> Any:
        return self._keras.ops.convert_to_numpy(variable)

    def _variables(self) -> list[Any]:
        """Weights, the states of random layers, and the optimizer's moments."""
        model = self.model
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return [*model.variables, *model.optimizer.variables]

    def _assign(self, values: list[Any]) -> None:
        variables = self._variables()
        if [tuple(each.shape) for each in variables] != [value.shape for value in values]:
            raise Invalid("The checkpoint is of another model: its weights have other shapes.",
                          "Build the same model, or submit a new job.")  # fmt: skip
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
