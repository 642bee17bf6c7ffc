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


def same(found, wanted=answer, atol=0.0):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=atol)


def stack(*layers, shape=(8,), dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def joined():
    start = keras.Input((8,))
    side = keras.layers.Dense(3)(start)
    return keras.Model(start, keras.layers.Concatenate()([side, keras.layers.Multiply()([side, side])]))


L = keras.layers
pictures, words = np.random.default_rng(1).random((3, 8, 8, 1), dtype="float32"), np.random.default_rng(2).integers(0, 20, (3, 4))
MADE = {
    "number": (lambda: stack(L.Dense(1)), x),
    "binary": (lambda: stack(L.Dense(4, "tanh"), L.Dense(1, "sigmoid")), x),
    "kinds": (lambda: stack(L.Dense(3, "softmax")), x),
    "normed": (lambda: stack(L.Dense(4), L.BatchNormalization(), L.LayerNormalization()), x),
    "pictures": (lambda: stack(L.Conv2D(4, 3), L.MaxPooling2D(), L.Flatten(), L.Dense(3), shape=(8, 8, 1)), pictures),
    "up": (lambda: stack(L.Conv2DTranspose(2, 3), L.UpSampling2D(), L.GlobalAveragePooling2D(), shape=(8, 8, 1)), pictures),
    "words": (lambda: stack(L.Embedding(20, 4), L.GRU(3), shape=(4,), dtype="int64"), words),
    "memory": (lambda: stack(L.Embedding(20, 4), L.Bidirectional(L.LSTM(2)), L.Dense(1), shape=(4,), dtype="int64"), words),
    "joined": (joined, x),
    "dropped": (lambda: stack(L.GaussianNoise(1.0), L.Dropout(0.9), L.Dense(2)), x),
}


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

chosen = MADE if sys.argv[2:] == ["mlflow"] else ("number",)  # The other backends compile each step: minutes for ten.
MODELS = {name: (MADE[name][0](), MADE[name][1]) for name in chosen}
for name, (each, batch) in MODELS.items():
    wanted = keras.ops.convert_to_numpy(each(batch, training=False))
    models.save(each, folder / name)
    same(models.load(folder / name).predict(batch), wanted, 1e-6)

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
    for name, (each, batch) in MODELS.items():
        wanted = keras.ops.convert_to_numpy(each(batch, training=False))
        same(mlflow.pyfunc.load_model(str(folder / name)).predict(batch), wanted, 1e-6)
        mlflow.keras.save_model(each, str(folder / f"{name} of mlflow"), **options)
        same(models.load(folder / f"{name} of mlflow").predict(batch), wanted, 1e-6)
    mlflow.keras.save_model(model, str(folder / "keras"), **options)
    same(models.load(folder / "keras").predict(x))
    mlflow.tensorflow.save_model(model, str(folder / "tensorflow"), **options)
    same(models.load(folder / "tensorflow").predict(x))
    mlflow.tensorflow.save_model(model, str(folder / "pickled"), custom_objects={"f": abs}, **options)
    refused(Forbidden, "custom_objects.cloudpickle", folder / "pickled")
    same(models.load(folder / "pickled", allow_pickle=True).predict(x))
