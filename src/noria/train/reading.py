"""What learning curves say, in words. Pure: curves in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import fmean, median, stdev

FEW = 20
"""Steps below which a curve of losses says nothing."""
_GAP, _RISE, _NOISE = 0.3, 0.05, 0.5
_VANISHES, _EXPLODES = 1e-4, 1e3


@dataclass(frozen=True)
class Finding:
    """name: one of diverging, unstable, flat, improving, plateau, over-fitting, under-fitting, vanishing, exploding, dead. says: what is seen
    and what usually helps."""

    name: str
    says: str


def read(
    losses: Sequence[float],
    validation: Sequence[float] = (),
    *,
    train: Sequence[float] = (),
    chance: float | None = None,
    gradients: Mapping[str, Sequence[float]] | None = None,
    dead: Mapping[str, float] | None = None,
) -> list[Finding]:
    """Read one training.

    losses: of every step. validation: the loss after each epoch; train: the mean training loss of each epoch, beside it. chance: the loss
    of guessing (log of the number of classes). gradients: norms of each layer's gradient, first layer first. dead: for each layer
    the part of its units that answered 0 to every example.
    """
    found = [*_course(losses, chance), *_generality(train or _epochs(losses, len(validation)), validation)]
    return [*found, *_layers(gradients or {}), *_dead(dead or {})]


def smoothed(values: Sequence[float], share: float = 0.1) -> list[float]:
    """Medians of windows of this share of the curve, which single bad batches do not move."""
    width = max(1, int(len(values) * share))
    return [median(values[max(0, end - width) : end]) for end in range(1, len(values) + 1)]


def _epochs(losses: Sequence[float], epochs: int) -> list[float]:
    """Mean losses of so many equal parts."""
    if not epochs or len(losses) < epochs:
        return []
    return [fmean(losses[len(losses) * number // epochs : len(losses) * (number + 1) // epochs]) for number in range(epochs)]


def _course(losses: Sequence[float], chance: float | None) -> list[Finding]:
    bad = next((step for step, loss in enumerate(losses) if not isfinite(loss)), None)
    if bad is not None:
        return [
            Finding(
                "diverging", f"The loss of step {bad} is no number. Lower the learning rate, warm it up, or clip the gradient."
            )
        ]
    if len(losses) < FEW:
        return []
    curve = smoothed(losses)
    begun, least, last = median(losses[: max(3, len(losses) // 50)]), min(curve[len(curve) // 20 :]), curve[-1]
    drop = begun - least
    if last > begun * (1 + _RISE) and last - least > _RISE * abs(begun):
        return [
            Finding(
                "diverging",
                f"The loss rose from {begun:.3g} to {last:.3g}. The learning rate is too high: try a tenth of it, with a warm-up.",
            )
        ]
    if last - least > _GAP * drop and drop > _RISE * abs(begun):
        return [Finding("unstable", f"The loss fell to {least:.3g} and came back to {last:.3g}. Lower the learning rate towards the end (cosine()), "
                        "or clip the gradient.")]  # fmt: skip
    if drop < _RISE * abs(begun):
        at = f", which is what guessing gives ({chance:.3g})" if chance and abs(last - chance) < _RISE * chance else ""
        return [Finding("flat", f"The loss stayed at {last:.3g}{at}. Raise the learning rate tenfold (find_lr proposes one), and check that inputs and "
                        "targets belong together.")]  # fmt: skip
    return [_end(curve, drop)]


def _end(curve: Sequence[float], drop: float) -> Finding:
    """Whether the last quarter still learned."""
    quarter = curve[-max(FEW // 2, len(curve) // 4) :]
    gained, noise = quarter[0] - quarter[-1], stdev(quarter) / sqrt(len(quarter))
    if gained > 0.02 * drop and gained > noise:
        return Finding(
            "improving", f"The loss still fell in the last quarter (by {gained:.2g} of {drop:.2g} in all). More steps will help."
        )
    return Finding(
        "plateau",
        "The loss did not fall any more in the last quarter. More steps of this kind gain nothing: lower the learning rate, or stop sooner.",
    )


def _generality(train: Sequence[float], validation: Sequence[float]) -> list[Finding]:
    if len(validation) < 3 or len(train) != len(validation):
        return []
    best = min(range(len(validation)), key=validation.__getitem__)
    since, fell = validation[-1] - validation[best], train[best] - train[-1]
    if best < len(validation) - 2 and since > _RISE * abs(validation[best]) and fell > 0:
        return [Finding("over-fitting", f"Since epoch {best + 1} the validation loss rose from {validation[best]:.3g} to {validation[-1]:.3g} while the training loss fell on. "
                        "Stop there (patience=), use more data or augmentation, dropout, or weight decay.")]  # fmt: skip
    learned, gap = validation[0] - validation[best], train[-1] - validation[-1]
    if learned < _RISE * abs(validation[0]) and train[0] - train[-1] < _RISE * abs(train[0]) and gap > -_GAP * abs(train[-1]):
        return [Finding("under-fitting", f"Neither the training loss ({train[-1]:.3g}) nor the validation loss ({validation[-1]:.3g}) fell much. "
                        "Use a larger model, train longer, or raise the learning rate.")]  # fmt: skip
    return []


def _layers(gradients: Mapping[str, Sequence[float]]) -> list[Finding]:
    usual = {name: median(norms) for name, norms in gradients.items() if norms}
    if not usual:
        return []
    greatest = max(usual.values())
    exploding = [name for name, norm in usual.items() if norm > _EXPLODES]
    if exploding:
        return [Finding("exploding", f"The gradient of {_named(exploding)} is about {max(usual[name] for name in exploding):.2g}. Clip it (clip=1.0), and check "
                        "how the weights begin.")]  # fmt: skip
    vanishing = [name for name, norm in usual.items() if norm < _VANISHES * greatest]
    if vanishing:
        return [Finding("vanishing", f"The gradient of {_named(vanishing)} is less than a {1 / _VANISHES:,.0f}th of the largest one: these layers hardly learn. "
                        "Use normalisation, residual connections, or ReLU instead of sigmoids.")]  # fmt: skip
    return []


def _dead(dead: Mapping[str, float]) -> list[Finding]:
    mostly = {name: part for name, part in dead.items() if part > 0.5}
    if not mostly:
        return []
    return [
        Finding(
            "dead",
            f"{max(mostly.values()):.0%} of the units of {_named(list(mostly))} answer 0 to everything. Lower the learning rate, or use LeakyReLU or GELU.",
        )
    ]


def _named(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
    return ", ".join(layers[:3]) + more
