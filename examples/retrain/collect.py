"""More digits have been collected: the first so many of scikit-learn's 1,797 to learn from, and its last 400 to judge by.

python collect.py 600 data held_out.npz
noria data add data --name digits
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

count, data, held_out = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(x))
x, y = (x[order] / 16).astype(np.float32), y[order]
data.mkdir(parents=True, exist_ok=True)
np.savez(data / "digits.npz", x=x[:count], y=y[:count])
np.savez(held_out, x=x[-400:], y=y[-400:])
