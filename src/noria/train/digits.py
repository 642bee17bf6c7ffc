"""Train the tutorials' network on 5,000 handwritten digits: `python -m noria.train.digits --epochs 14`.

Runs alone, as a trial of a search, or as any number of processes of a job; it is also the example to copy. Restarted in the
same job it goes on from the job's last checkpoint. Exit codes: 0 done, 75 stopped by SIGTERM and saved, others failed.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

import noria
from noria.train import architectures
from noria.train.augment import Jitter
from noria.train.data import Digits, digits
from noria.train.recipes import adamw, classification, one_cycle
from noria.train.trainer import Plan, Progress, evaluate, fit


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m noria.train.digits", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--architecture", default="cnn", help="a name on the shelf noria.train.architectures")
    parser.add_argument("--width", type=int, default=32, help="channels of the first layer (mlp: hidden units)")
    parser.add_argument("--lr", type=float, default=4e-3, help="peak learning rate of the one-cycle schedule")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch", type=int, default=64, help="examples per step, over all processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--degrees", type=float, default=10.0, help="augmentation: the largest turn, in degrees")
    parser.add_argument("--pixels", type=float, default=2.0, help="augmentation: the largest shift, in pixels")
    parser.add_argument("--patience", type=int, help="stop after so many epochs without a better val_accuracy")
    parser.add_argument("--max-examples", type=int, help="train on the first so many of the 3,500 examples")
    parser.add_argument("--save-model", action="store_true", help="log the best epoch's model as the artifact 'model'")
    return parser.parse_args()


def line(progress: Progress) -> None:
    values = progress.values
    print(f"epoch {progress.epoch}/{progress.epochs}  step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  "
          f"val_loss {values['val_loss']:.4f}  val_accuracy {values['val_accuracy']:.4f}  "
          f"{values['images_per_s']:,.0f} images/s", flush=True)  # fmt: skip


def main() -> None:
    options = arguments()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    torch.manual_seed(options.seed)
    first = os.environ.get("RANK", "0") == "0"
    data = digits()
    train = data.train.part(0, options.max_examples or data.train.size)
    extra = {"dropout": options.dropout} if options.architecture == "cnn" else {}
    model = architectures.build(options.architecture, width=options.width, **extra)
    folder = noria.job_folder()
    if first:
        noria.log_params(vars(options))
        noria.log_dataset("mnist-5k", data.digest, data.source, "training")
    plan = Plan(
        epochs=options.epochs, batch=options.batch, optimizer=adamw(options.lr, options.weight_decay), schedule=one_cycle(),
        seed=options.seed, augment=Jitter(options.degrees, options.pixels), clip=1.0, ema=0.98, patience=options.patience,
        folder=folder / "checkpoints" if folder else None,
    )  # fmt: skip
    started = perf_counter()
    result = fit(model, classification, train, data.validation, plan, log=noria.log, rewind=noria.rewind, progress=line)
    if not first:
        return
    seconds = perf_counter() - started
    model = result.model.cpu()
    found = evaluate(model, classification, data.test)
    noria.log({"test_accuracy": found["accuracy"], "test_loss": found["loss"]}, step=result.steps - 1)
    print(f"held-out accuracy {found['accuracy']:.4f} on {data.test.size:,} digits, "
          f"best epoch {result.values['epoch']:.0f}, {seconds:.1f} s", flush=True)  # fmt: skip
    keep_predictions(model, data)
    if options.save_model:
        noria.log_model(model, "model", input_example=data.test.inputs[:2].numpy())


@torch.no_grad()
def keep_predictions(model: torch.nn.Module, data: Digits) -> None:
    """Log held_out.json: what the model says about each held-out digit. A promotion gate compares two runs' by it."""
    predicted = model(data.test.inputs).argmax(1)
    content = {"dataset": "mnist-5k", "digest": data.digest, "split": "test", "predicted": predicted.tolist(),
               "correct": (predicted == data.test.targets).tolist()}  # fmt: skip
    with TemporaryDirectory() as folder:
        file = Path(folder) / "held_out.json"
        file.write_text(json.dumps(content))
        noria.log_artifact(file)


if __name__ == "__main__":
    main()
