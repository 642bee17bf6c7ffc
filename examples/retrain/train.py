"""Learn to read digits from a folder with digits.npz, and keep the model with the run.

--digest is what the rule has seen: data that have changed since are another version, and will have an event of their own.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

import noria

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--digest", default="")
parser.add_argument("-C", type=float, default=1.0)
asked = parser.parse_args()

with np.load(asked.data / "digits.npz", allow_pickle=False) as found:
    x, y = found["x"], found["y"]
digest = noria.log_dataset(asked.data, "digits")
if asked.digest not in ("", digest):
    raise SystemExit(f"{asked.data} has changed: it was {asked.digest}, and is {digest} by now")

model = LogisticRegression(C=asked.C, max_iter=200).fit(x, y)
noria.log_params({"C": asked.C, "examples": len(x)})
noria.log(train_accuracy=model.score(x, y))
noria.log_model(model, input_example=x[:2])
