"""The tree-structured Parzen estimator of Optuna, asked about a study that is replayed from the history.

Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization. Running trials count as bad ones (the constant liar), so
that workers who ask at the same time are not all sent to the same place.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from noria.errors import Unsupported
from noria.search.space import Choice, Direction, Float, Int, Parameter, Space, Trial, Value, check, draw, generator

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STARTUP = 10
"""So many trials are drawn at random first."""


def suggest(space: Space, history: Sequence[Trial], seed: int, direction: Direction = "minimize") -> dict[str, Value]:
    """Raises Unsupported if Optuna is missing."""
    check(space)
    numbers = generator(seed, len(history))
    if sum(trial.state == "done" for trial in history) < STARTUP:
        return draw(space, numbers)
    try:
        import optuna
    except ImportError:
        raise Unsupported("The search algorithm tpe needs Optuna.", "pip install 'noria[search]', or use --algorithm random.") from None
    distributions = {name: _distribution(parameter) for name, parameter in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(n_startup_trials=0, constant_liar=True, seed=numbers.getrandbits(31))
        study = optuna.study.Study("", optuna.storages.InMemoryStorage(), sampler) if False else _study(sampler, direction)
        study.add_trials([_frozen(trial, space, distributions) for trial in history if _known(trial, space)])
        asked = study.ask(distributions)
    return {name: _back(space[name], asked.params[name]) for name in space}
