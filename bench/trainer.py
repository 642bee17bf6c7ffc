"""What the trainer adds to a step: beside loops written by hand on the same model and data, rounds alternating, in one process.

    python bench/trainer.py [--rounds 7] [--steps 2000]

The small MLP is 64-64-10 at batches of 32 on one thread, so that a step is hardly more than its overhead; the large one takes about 5 ms. `plain`
feeds itself by a DataLoader and steps torch's AdamW as it is; `fused` steps the AdamW that the trainer takes, which is one call for all
weights; `gathered` does so too, and indexes tensors, as the trainer does. None of them logs. The trainer logs every loss, read
every 10 steps. `first step` is from the start of a process to the end of its first step, of a script with either loop.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from time import perf_counter, time

import torch
import torch.nn.functional as F
from peers import RESULTS, keep
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH, SIZE = 32, 6400
WIDTHS = {"small": 64, "5 ms": 1100}


def model(width: int) -> nn.Module:
    torch.manual_seed(0)
    middle = [nn.Linear(width, width), nn.ReLU()] if width > 64 else []
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), *middle, nn.Linear(width, 10))


FIRST = {
    "plain": """
import time, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
for x, y in DataLoader(TensorDataset(torch.randn(6400, 64), torch.randint(0, 10, (6400,))), batch_size=32, shuffle=True):
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    break
print(time.time())
""",
    "trainer": """
import time, torch
from torch import nn
from noria.train import Arrays, Trainer
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
class Over(Exception): pass
def log(values, *, step):
    print(time.time(), flush=True)
    raise Over
try:
    Trainer(net, steps=200, batch=32, log=log).fit(Arrays(torch.randn(6400, 64), torch.randint(0, 10, (6400,))))
except Over:
    pass
""",
}


def first_step(program: str) -> float:
    began = time()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0]) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    inputs, targets = torch.randn(SIZE, 64), torch.randint(0, 10, (SIZE,))
    with tempfile.TemporaryDirectory() as home:
        os.environ["NORIA_HOME"] = home
        found = {size: measured(contenders(width, inputs, targets, steps := given.steps if width == 64 else given.steps // 20), steps, given.rounds)
                 for size, width in WIDTHS.items()}  # fmt: skip
        firsts = {who: median(first_step(program) for _ in range(given.rounds)) for who, program in FIRST.items()}
    for size, loops in found.items():
        for name, microseconds in loops.items():
            plain = microseconds - loops["plain"]
            print(f"{size:8} {name:12} {microseconds:8.1f} us a step  {plain:+8.1f} to plain ({plain / loops['plain']:+.1%})"
                  f"  {microseconds - loops['gathered']:+8.1f} to gathered")  # fmt: skip
    print(
        f"first step: plain {firsts['plain']:.2f} s, trainer {firsts['trainer']:.2f} s, {firsts['trainer'] - firsts['plain']:+.2f} s"
    )
    keep(RESULTS / "trainer.json", {"us_per_step": found, "first_step_s": firsts})


def measured(loops: dict[str, Callable[[], object]], steps: int, rounds: int) -> dict[str, float]:
    """Microseconds a step, medians of rounds in which all take their turn."""
    took: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, loop in loops.items():
            began = perf_counter()
            loop()
            if number:  # The first round warms up.
                took[name].append((perf_counter() - began) / steps * 1e6)
    return {name: median(times) for name, times in took.items()}


def contenders(width: int, inputs: torch.Tensor, targets: torch.Tensor, steps: int) -> dict[str, Callable[[], object]]:
    from noria.train.data import Arrays
    from noria.train.optimizers import adamw
    from noria.train.trainer import Trainer

    def by_hand(batches: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]], fused: bool = True) -> None:
        net = model(width)
        optimizer, done = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=fused), 0
        while done < steps:
            for x, y in batches():
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                done += 1
                if done == steps:
                    return

    def gathered() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(SIZE)
        return ((inputs[chosen], targets[chosen]) for chosen in order.split(BATCH))

    loader = DataLoader(TensorDataset(inputs, targets), batch_size=BATCH, shuffle=True)
    data = Arrays(inputs, targets)
    return {
        "plain": lambda: by_hand(lambda: loader, fused=False),
        "fused": lambda: by_hand(lambda: loader),
        "gathered": lambda: by_hand(gathered),
        "trainer": lambda: Trainer(model(width), optimizer=adamw(1e-3), steps=steps, batch=BATCH, progress=None).fit(data),
    }


if __name__ == "__main__":
    main()
