"""Fits with the callback, one for each argument: a run's id, and "+" and the number of the step before which it is told to stop, if any."""

import json
import os
import signal
import sys

import keras
import numpy as np

import noria

x = np.random.default_rng(0).random((96, 8), dtype="float32")
y = (x.sum(axis=1) > 4).astype("float32")


class Told(keras.callbacks.Callback):
    def __init__(self, before):
        super().__init__()
        self.left = before

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def fit(run_id, stop):
    """Two fits of one program: what was done is passed over in either."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dense(1)]
    )
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)
    model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
    with noria.start_run(run_id=run_id):
        ours = [Told(int(stop or 0)), noria.keras_callback(every=0)]
        epochs = [model.fit(x, y, epochs=more, batch_size=16, shuffle=False, verbose=0, callbacks=ours).epoch for more in (2, 3)]
        noria.log_model(model, input_example=x[:2])
    weights = [float(abs(value).sum()) for value in model.get_weights()]
    updates = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    print(json.dumps({"epochs": epochs, "weights": weights, "updates": updates}), flush=True)


for each in sys.argv[1:]:
    run_id, _, stop = each.partition("+")
    fit(run_id, stop)
