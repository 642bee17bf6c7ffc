"""noria nodes"""

from __future__ import annotations

import click

from noria.cli.show import json_option


@click.command()
@click.option("--on", help="Of this one alone: slurm, pbs, sge, local, or a cluster that noria.toml names.")
@json_option
def command(on: str | None, as_json: bool) -> None:
    """List the nodes that jobs can run on, and what is free of them.

    FREE is so many of so many.
    """
    from noria.cli import show
    from noria.cli.commands.queues import asked, of

    found = asked(on, lambda cluster: cluster.dialect.nodes(cluster.run(cluster.dialect.NODES)))
    if as_json:
        show.as_json({"nodes": [{"scheduler": name, **show.plain(node)} for name, node in found]})
        return
    show.table(
        ("NODE", "ON", "STATE", "FREE CPUS", "FREE MEMORY", "FREE GPUS", "TYPE", "QUEUES", "WHY"),
        [(node.name, name, node.state, of(node.free_cpus, node.cpus), f"{node.free_mem / 2**30:.1f}/{node.mem / 2**30:.1f} GiB",
          "-" if node.gpus == 0 else of(node.free_gpus, node.gpus), ",".join(node.gpu_types) or "-", ",".join(node.queues) or "-",
          node.reason) for name, node in found],
        "No nodes.",
    )  # fmt: skip
