"""Training speed on a GPU: the trainer beside a loop written by hand, on the same model and data, rounds alternating; and what precision gains.

    python bench/gpu.py [--small] [--rounds 3]

gpt: GPT-2 with 124M weights, 16 windows of 1,024 tokens a step, bf16, compiled; tokens a second, and of the peak. The loop is nanoGPT's: autocast,
fused AdamW, the gradient clipped, loss and model compiled together. resnet50: 256 pictures of 224 pixels a step, in memory, channels last; pictures a
second in fp32, tf32, bf16 and fp16, and the loop's in bf16. --small: tiny ones, which say nothing but that this program works without a GPU.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from peers import RESULTS, keep
from torch import Tensor, nn

from noria.hardware.peaks import peak
from noria.train.architectures import build
from noria.train.count import multiply_adds
from noria.train.data import Arrays
from noria.train.optimizers import adamw
from noria.train.steps import Step, classification, tokens
from noria.train.trainer import Trainer

WARM = 10
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Task:
    """per: what an example is counted as."""

    make: Callable[[], nn.Module]
    data: Arrays
    batch: int
    step: Step
    loss: Callable[[Tensor, Tensor], Tensor]
    per: int
    unit: str


def gpt(small: bool) -> Task:
    sizes = {"vocabulary": 65, "context": 32, "width": 32, "layers": 2, "heads": 2} if small else {"vocabulary": 50304}
    length = 32 if small else 1024
    rows = torch.randint(0, 65 if small else 50257, (64, length + 1))

    def loss(out: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(out.flatten(0, 1), targets.flatten())

    return Task(lambda: build("gpt", dropout=0.0, bias=False, **sizes), Arrays(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()),
                16, tokens, loss, length, "tokens")  # fmt: skip


def resnet(small: bool) -> Task:
    count, side = (32, 32) if small else (512, 224)
    data = Arrays(torch.randn(count, 3, side, side), torch.randint(0, 1000, (count,)))
    name = "resnet18" if small else "resnet50"
    return Task(
        lambda: build(name).to(memory_format=torch.channels_last),
        data,
        16 if small else 256,
        classification,
        F.cross_entropy,
        1,
        "pictures",
    )


def trained(task: Task, precision: str, steps: int, compiled: bool) -> float:
    """Examples a second of the trainer, after the first steps."""
    at: dict[int, float] = {}

    def log(values: Mapping[str, float], /, *, step: int) -> None:
        if "loss" in values:
            at[step] = perf_counter()

    torch.manual_seed(0)
    Trainer(task.make(), task.step, adamw(3e-4), steps=WARM + steps, batch=task.batch, precision=precision, compile=compiled, clip=1.0,  # type: ignore[arg-type]  # one of its names
            log=log, progress=None, rewind=None).fit(task.data)  # fmt: skip
    return steps * task.batch / (at[WARM + steps - 1] - at[WARM - 1])


def by_hand(task: Task, precision: str, steps: int, compiled: bool) -> float:
    torch.manual_seed(0)
    model = task.make().to(DEVICE)
    data = task.data.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        return task.loss(model(inputs), targets)

    run = torch.compile(step) if compiled else step
    began = 0.0
    for done, (inputs, targets) in enumerate(_batches(data, task.batch), 1):
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = run(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if done in (WARM, WARM + steps):
            _wait()
            if done > WARM:
                break
            began = perf_counter()
    return steps * task.batch / (perf_counter() - began)


def _batches(data: Arrays, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        for chosen in torch.randperm(len(data), device=DEVICE).split(batch):
            yield data.inputs[chosen], data.targets[chosen]


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if DEVICE.type == "cpu" and not given.small:
        parser.exit(1, "There is no GPU here; --small shows that this program works.\n")
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    steps, compiled = (20, False) if given.small else (100, True)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["NORIA_HOME"] = home
        for name, task in {"gpt": gpt(given.small), "resnet": resnet(given.small)}.items():
            precisions = ["bf16"] if name == "gpt" else ["fp32", "bf16", *(["tf32", "fp16"] if DEVICE.type == "cuda" else [])]
            runs: dict[str, list[float]] = {"loop bf16": [], **{f"trainer {each}": [] for each in precisions}}
            for _ in range(given.rounds):
                for what, speeds in runs.items():
                    who, precision = what.split()
                    speeds.append((by_hand if who == "loop" else trained)(task, precision, steps, compiled and name == "gpt"))
            found[name] = {what: median(speeds) * task.per for what, speeds in runs.items()}
            flops = 6.0 * multiply_adds(task.make(), task.data.inputs[:1]) / task.per
            for what, speed in found[name].items():
                most = peak(device, what.split()[1])
                used = f"  {flops * speed / most:6.1%} of the peak" if most else ""
                print(
                    f"{name:8} {what:14} {speed:12,.0f} {task.unit} a second  {speed / found[name]['loop bf16']:6.3f} of the loop{used}",
                    flush=True,
                )
    print(f"on {device}, torch {torch.__version__}")
    keep(RESULTS / "gpu.json", {"device": device, "per_second": found})


if __name__ == "__main__":
    main()
