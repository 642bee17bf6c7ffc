"""JAX: the numbers of all processes, added up by all of them."""

import os

import jax
from jax.experimental import multihost_utils

# JAX reads who it is from Slurm's variables, and elsewhere where the coordinator is, but not the rest.
known = {name: int(os.environ[f"JAX_{name.upper()}"]) for name in ("num_processes", "process_id")}
jax.distributed.initialize(**({} if "SLURM_JOB_ID" in os.environ else known))
total = multihost_utils.process_allgather(jax.numpy.array(jax.process_index() + 1)).sum()
print(f"process {jax.process_index()} of {jax.process_count()}: {total}", flush=True)
