"""JAX: the numbers of all processes, added up by all of them."""

import os

import jax

# Slurm tells JAX the rest; elsewhere it is in these.
jax.distributed.initialize(num_processes=int(os.environ["JAX_NUM_PROCESSES"]), process_id=int(os.environ["JAX_PROCESS_ID"]))
from jax.experimental.multihost_utils import process_allgather  # noqa: E402

total = process_allgather(jax.numpy.array(jax.process_index() + 1)).sum()
print(f"process {jax.process_index()} of {jax.process_count()}: {total}", flush=True)
