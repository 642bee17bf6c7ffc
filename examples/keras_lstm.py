"""An LSTM that guesses the next character of English text from the 50 before, tracked by mlflow.autolog() alone."""

import pydoc_data.topics

import keras
import mlflow
import numpy as np
from keras.layers import LSTM, Dense, Embedding
from keras.models import Sequential

LENGTH, PIECES = 50, 4000

keras.utils.set_random_seed(0)
text = " ".join("".join(pydoc_data.topics.topics.values()).lower().split())
known = sorted(set(text))
codes = np.searchsorted(known, list(text))
starts = np.random.default_rng(0).integers(0, len(codes) - LENGTH - 1, PIECES)
before = np.stack([codes[start : start + LENGTH] for start in starts])
after = keras.utils.to_categorical(codes[starts + LENGTH], len(known))

model = Sequential()
model.add(keras.Input((LENGTH,)))
model.add(Embedding(input_dim=len(known), output_dim=32))
model.add(LSTM(64))
model.add(Dense(len(known), activation="softmax"))
model.compile(optimizer=keras.optimizers.Adam(5e-3), loss="categorical_crossentropy", metrics=["accuracy"])

mlflow.autolog()
with mlflow.start_run():
    model.fit(before, after, batch_size=64, epochs=3, validation_split=0.1, verbose=2)
