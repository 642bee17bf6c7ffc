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
        raise Unsupported(
            "The search algorithm tpe needs Optuna.", "pip install 'noria[search]', or use --algorithm random."
        ) from None
    distributions = {name: _distribution(parameter) for name, parameter in space.items()}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # It announces each study, and ours live for one question.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=0, multivariate=True, constant_liar=True, seed=numbers.getrandbits(31)
            )
            study = optuna.create_study(sampler=sampler, direction=direction)
            study.add_trials([frozen for trial in history if (frozen := _frozen(trial, space, distributions))])
            asked = study.ask(distributions).params
    finally:
        optuna.logging.set_verbosity(before)
    return {name: parameter.choices[asked[name]] if isinstance(parameter, Choice) else asked[name]
            for name, parameter in space.items()}  # fmt: skip


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match parameter:
        case Float(low, high, log):
            return FloatDistribution(low, high, log=log)
        case Int(low, high, log):
            return IntDistribution(low, high, log=log)
        case Choice(choices):  # By position, because Optuna takes 1 and True for the same choice.
            return CategoricalDistribution(range(len(choices)))


def _frozen(trial: Trial, space: Space, distributions: dict[str, BaseDistribution]) -> FrozenTrial | None:
    """The trial as Optuna keeps it; None if there is nothing to learn from it: failed, not a number, or of another space."""
    from optuna.trial import TrialState, create_trial

    if trial.state == "failed" or not all(name in trial.params and _within(trial.params[name], space[name]) for name in space):
        return None
    params = {}
    for name, parameter in space.items():
        value = trial.params[name]
        params[name] = _place(value, parameter) if isinstance(parameter, Choice) else value
    if trial.state == "running":
        return create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
    if trial.value is None or math.isnan(trial.value):
        return None
    return create_trial(value=trial.value, params=params, distributions=distributions)


def _place(value: Value, parameter: Choice) -> int:
    return [(type(choice), choice) for choice in parameter.choices].index((type(value), value))


def _within(value: Value, parameter: Parameter) -> bool:
    match parameter:
        case Choice(choices):
            return (type(value), value) in [(type(choice), choice) for choice in choices]
        case Float(low, high) | Int(low, high):
            return not isinstance(value, str) and low <= value <= high
