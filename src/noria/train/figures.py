"""Pictures of tensors, as images of the run. matplotlib is imported at the first use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from noria.errors import Unsupported

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(width: float, height: float) -> Figure:
    """An empty one, of so many inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Unsupported("Figures are drawn by matplotlib, which is not installed.", "pip install matplotlib") from None
    return Figure((width, height), dpi=150, layout="constrained")


def rows(pictures: Mapping[str, Tensor]) -> Figure:
    """By name, float [n, channels, height, width] from 0 to 1, of one channel or three: a row each."""
    count = max(map(len, pictures.values()))
    drawn = figure(1 + 0.7 * count, 0.8 * len(pictures) + 0.1)
    axes: Any = drawn.subplots(len(pictures), 1, squeeze=False)
    for axis, (name, row) in zip(axes[:, 0], pictures.items(), strict=True):
        strip = F.pad(row.detach().cpu().float().clamp(0, 1), (1, 1, 1, 1), value=1.0).permute(2, 0, 3, 1).flatten(1, 2)
        axis.imshow(strip.squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_axis_off()
        axis.set_title(name, fontsize=7, loc="left", pad=2)
    return drawn
