"""mpi4py: every rank adds its number to those of all others; rank 0 logs the sum."""

from mpi4py import MPI

import noria

world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
print(f"rank {world.rank} of {world.size} on {MPI.Get_processor_name()}: {total}", flush=True)
if world.rank == 0:
    noria.log(total=total)
