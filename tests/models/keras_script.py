"""Keras models, saved and loaded by Noria and by mlflow. argv: a folder that is empty. Each way in must answer as the model itself does."""

import sys
from pathlib import Path

import keras
import numpy as np

from noria import models
from noria.errors import Forbidden, Unsupported

folder, x = Path(sys.argv[1]), np.random.default_rng(0).random((3, 8), dtype="float32")
layers = [keras.Input((8,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
model = keras.Sequential(layers)
answer = keras.ops.convert_to_numpy(model(x, training=False))


def same(found):
    np.testing.assert_allclose(found, answer, rtol=1e-5)


def refused(kind, word, what, **options):
    try:
        models.load(what, **options)
    except kind as error:
        assert word in str(error), error
    else:
        raise AssertionError(f"{what} was loaded")


written = models.save(model, folder / "ours", input_example=x)
assert written.signature.inputs[0].shape == (-1, 8) and set(written.flavors) == {"python_function", "keras"}
same(models.load(folder / "ours").predict(x))

double = keras.Sequential([keras.Input((8,)), keras.layers.Lambda(lambda x: 2 * x)])
models.save(double, folder / "code")
refused(Forbidden, "Lambda", folder / "code")
np.testing.assert_allclose(models.load(folder / "code", allow_pickle=True).predict(x), 2 * x)


class Own(keras.layers.Layer):
    def call(self, x):
        return x


models.save(keras.Sequential([keras.Input((8,)), Own()]), folder / "own")
del Own
refused(Unsupported, "code that is not here", folder / "own")

if sys.argv[2:] == ["mlflow"]:
    import mlflow

    same(mlflow.pyfunc.load_model(str(folder / "ours")).predict(x))
    same(keras.ops.convert_to_numpy(mlflow.keras.load_model(str(folder / "ours"))(x, training=False)))
    options = {"pip_requirements": ["keras"]}
    mlflow.keras.save_model(model, str(folder / "keras"), **options)
    same(models.load(folder / "keras").predict(x))
    mlflow.tensorflow.save_model(model, str(folder / "tensorflow"), **options)
    same(models.load(folder / "tensorflow").predict(x))
    mlflow.tensorflow.save_model(model, str(folder / "pickled"), custom_objects={"f": abs}, **options)
    refused(Forbidden, "custom_objects.cloudpickle", folder / "pickled")
    same(models.load(folder / "pickled", allow_pickle=True).predict(x))
