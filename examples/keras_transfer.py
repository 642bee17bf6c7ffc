"""VGG16 as it is, and a classifier on top of it that learns. Its weights come from a file, because nodes often have no network.

Where there is a network, once: python -c "from keras.applications import VGG16; VGG16(include_top=False).save_weights('vgg16.weights.h5')"
Without that file, one is made with weights that were never trained: all that follows is the same, but for how well it works.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras.applications.vgg16 import VGG16
from keras.layers import Dense, Flatten
from keras.models import Model
from sklearn.datasets import load_digits

import noria

parser = argparse.ArgumentParser()
parser.add_argument("--weights", type=Path, default=Path("vgg16.weights.h5"))
parser.add_argument("--size", type=int, default=32, help="of the images; VGG16 was trained on 224")
options = parser.parse_args()

keras.utils.set_random_seed(0)
if not options.weights.exists():
    print(f"there is no {options.weights}: it is made, untrained")
    untrained = VGG16(weights=None, include_top=False)
    untrained.set_weights([weights * 2**0.5 for weights in untrained.get_weights()])  # Else little is left after 13 layers.
    untrained.save_weights(options.weights)

digits = load_digits()
times = options.size // 8
images = np.repeat(np.kron(digits.images[:, :, :, None], np.ones((1, times, times, 1))) / 16, 3, axis=3).astype("float32")
labels = keras.utils.to_categorical(digits.target, 10)

base_model = VGG16(weights=options.weights, include_top=False, input_shape=(options.size, options.size, 3))
for layer in base_model.layers:
    layer.trainable = False
before = [weights.copy() for weights in base_model.get_weights()]

x = base_model.output
x = Flatten()(x)
x = Dense(256, activation="relu")(x)
output = Dense(10, activation="softmax")(x)
model = Model(inputs=base_model.input, outputs=output)
model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])

model.fit(images[:300], labels[:300], batch_size=20, epochs=2, verbose=2, callbacks=[noria.keras_callback()])
loss, accuracy = model.evaluate(images[300:500], labels[300:500], verbose=0)
moved = max(float(np.abs(old - new).max()) for old, new in zip(before, base_model.get_weights(), strict=True))
noria.log(test_accuracy=accuracy, moved=moved)
print(f"right about {accuracy:.1%} of 200 digits; the weights from the file moved by {moved}")
