"""TensorFlow: every worker fits the same line to its half of the points; what they do together shows in the loss."""

import numpy as np
import tensorflow as tf

import noria

strategy = tf.distribute.MultiWorkerMirroredStrategy()
task = strategy.cluster_resolver.task_id
x = np.linspace(-1, 1, 64, dtype="float32")
points = tf.data.Dataset.from_tensor_slices((x, 3 * x + 1)).batch(16).repeat()
batches = iter(strategy.experimental_distribute_dataset(points))
with strategy.scope():
    weights = tf.Variable([0.0, 0.0], aggregation=tf.VariableAggregation.SUM)


def one(x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((weights[0] * x + weights[1] - y) ** 2)
    weights.assign_sub(0.1 * tape.gradient(loss, weights))
    return loss


@tf.function
def step(batch):
    return strategy.reduce("mean", strategy.run(one, args=batch), axis=None)


for number in range(40):
    loss = float(step(next(batches)))
    if task == 0:
        noria.log(loss=loss, step=number)
print(f"worker {task} of {strategy.num_replicas_in_sync}: {weights.numpy().round(1).tolist()}", flush=True)
