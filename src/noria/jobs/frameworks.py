"""What a task finds in its environment: torchrun's names for everybody, and what TensorFlow, JAX and Slurm's own users look for. Pure.

GPUs are torchrun's way: each task sees all that its node was given, and takes the one that LOCAL_RANK says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from zlib import crc32

from noria.jobs.dialect import Placement
from noria.types import Job

CLIENT = "NORIA_CLIENT"
"""In a job's environment: the folder with Noria's client (`carry`), which goes to the end of PYTHONPATH."""
_PORTS = 64
"""How far the ports of two tries are apart: what the last try used may linger."""


def port(job: Job, attempt: int) -> int:
    """The first of a try's ports, which all nodes compute alike: torch's, JAX's, and TensorFlow's, one for each task of a node."""
    return 20_000 + (crc32(job.id.encode()) + _PORTS * attempt) % 12_000


def spare_port(job: Job, attempt: int) -> int:
    """The last of a try's ports, which no framework uses."""
    return port(job, attempt) + _PORTS - 1


def fixed(job: Job, placement: Placement, attempt: int, local: int, env: Mapping[str, str]) -> dict[str, str]:
    """Who a task is: what nobody may set otherwise. env: the launcher's, which tells whether this is Slurm."""
    spec, node = job.spec, placement.node_rank
    rank = node * spec.tasks_per_node + local
    found: dict[str, object] = {
        "RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": spec.world_size, "LOCAL_WORLD_SIZE": spec.tasks_per_node,
        "GROUP_RANK": node, "GROUP_WORLD_SIZE": spec.nodes, "ROLE_RANK": rank, "ROLE_WORLD_SIZE": spec.world_size, "ROLE_NAME": "default",
        "MASTER_ADDR": first(placement), "MASTER_PORT": port(job, attempt), "TORCHELASTIC_RUN_ID": job.id,
        "TORCHELASTIC_RESTART_COUNT": attempt - 1, "TORCHELASTIC_MAX_RESTARTS": spec.max_restarts,
        "JAX_NUM_PROCESSES": spec.world_size, "JAX_PROCESS_ID": rank,
    }  # fmt: skip
    if "SLURM_JOB_ID" in env:  # As if srun had started each task, and not one launcher on each node.
        found |= {
            "SLURM_PROCID": rank, "SLURM_LOCALID": local, "SLURM_NTASKS": spec.world_size, "SLURM_NPROCS": spec.world_size,
            "SLURM_NTASKS_PER_NODE": spec.tasks_per_node, "SLURM_CPUS_PER_TASK": spec.cpus,
        }  # fmt: skip
    return {name: str(value) for name, value in found.items()}


def usual(job: Job, placement: Placement, attempt: int, local: int) -> dict[str, str]:
    """What a job's own environment may set otherwise."""
    spec, rank = job.spec, placement.node_rank * job.spec.tasks_per_node + local
    found = {"OMP_NUM_THREADS": str(spec.cpus), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    if spec.world_size > 1:
        found["TF_CONFIG"] = _tensorflow(placement, spec.tasks_per_node, rank, port(job, attempt) + 2)
        found["JAX_COORDINATOR_ADDRESS"] = f"{first(placement)}:{port(job, attempt) + 1}"
    return found


def recorded(logs: str) -> dict[str, str]:
    """What makes torch keep its last collective calls, and write them into this folder when one times out: its flight recorder, under
    the names of 2.5 and of later releases."""
    size, file = "2000", f"{logs}/flight_rank_"
    return {
        "TORCH_NCCL_TRACE_BUFFER_SIZE": size, "TORCH_NCCL_DUMP_ON_TIMEOUT": "1", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": file,
        "TORCH_FR_BUFFER_SIZE": size, "TORCH_FR_DUMP_TEMP_FILE": file,
    }  # fmt: skip


def first(placement: Placement) -> str:
    """Where rank 0 is, as the others find it."""
    return placement.nodes[0] if len(placement.nodes) > 1 else "127.0.0.1"


def _tensorflow(placement: Placement, tasks: int, rank: int, port: int) -> str:
    """TF_CONFIG, as tf.distribute's TFConfigClusterResolver reads it: every task is a worker, and the first is the chief."""
    nodes = placement.nodes if len(placement.nodes) > 1 else [first(placement)]
    workers = [f"{node}:{port + local}" for node in nodes for local in range(tasks)]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}})
