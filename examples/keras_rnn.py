"""A simple recurrent network that tells English from Python, 40 characters at a time. The texts are those that come with Python."""

import inspect
import pydoc_data.topics
from importlib import import_module

import keras
import numpy as np
from keras.layers import Dense, Embedding, SimpleRNN
from keras.models import Sequential

import noria

LENGTH, CHARACTERS = 40, 128


def windows(text: str, count: int) -> np.ndarray:
    """So many pieces from all over the text, as numbers of characters: [count, LENGTH]."""
    codes = np.frombuffer(text.encode("ascii", "ignore"), dtype="uint8")
    starts = np.linspace(0, len(codes) - LENGTH, count).astype(int)
    return np.stack([codes[start : start + LENGTH] for start in starts])


keras.utils.set_random_seed(0)
english = "".join(pydoc_data.topics.topics.values())
python = "".join(inspect.getsource(import_module(name)) for name in ("argparse", "ast", "inspect", "pdb", "tarfile", "typing"))
texts = np.concatenate([windows(english, 1500), windows(python, 1500)])
is_python = np.repeat([0.0, 1.0], 1500)
order = np.random.default_rng(0).permutation(len(texts))
texts, is_python = texts[order], is_python[order]

model = Sequential()
model.add(keras.Input((LENGTH,)))
model.add(Embedding(input_dim=CHARACTERS, output_dim=32))
model.add(SimpleRNN(64))
model.add(Dense(1, activation="sigmoid"))
model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="binary_crossentropy", metrics=["accuracy"])

callbacks = [noria.keras_callback(steps=10)]
model.fit(texts[:2500], is_python[:2500], batch_size=32, epochs=4, verbose=2, callbacks=callbacks)
loss, accuracy = model.evaluate(texts[2500:], is_python[2500:], verbose=0)
noria.log(test_loss=loss, test_accuracy=accuracy)
print(f"right about {accuracy:.1%} of 500 pieces that it has not seen")
