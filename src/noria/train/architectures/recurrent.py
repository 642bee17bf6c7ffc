"""Recurrent networks for series and for text: the plain one (Elman 1990), LSTM (Hochreiter and Schmidhuber 1997) and GRU
(Cho and others 2014, arXiv 1406.1078). Cells, names of weights and initial weights are PyTorch's.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from noria.errors import Invalid

NAMES: dict[str, dict[str, Any]] = {"rnn": {"cell": "rnn"}, "lstm": {"cell": "lstm"}, "gru": {"cell": "gru"}}

Cell = Literal["rnn", "lstm", "gru"]
Task = Literal["classify", "generate", "forecast"]
_CELLS: dict[Cell, type[nn.RNN | nn.LSTM | nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """Series float32 [batch, time, inputs], or texts int64 [batch, time] below `vocabulary`, to what the task asks:

    classify: [batch, num_classes], unnormalised log-probabilities, from the state after the last step;
    generate: [batch, time, vocabulary], those of the token that comes after each;
    forecast: [batch, horizon, inputs], the values that come next.
    """

    def __init__(
        self, cell: Cell, task: Task, inputs: int, width: int, layers: int, num_classes: int, vocabulary: int, horizon: int,
        dropout: float, bidirectional: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.task, self.inputs, self.directions = task, inputs, 2 if bidirectional else 1
        self.embedding = nn.Embedding(vocabulary, width) if vocabulary else nn.Identity()
        self.cells = _CELLS[cell](
            width if vocabulary else inputs, width, layers, batch_first=True, bidirectional=bidirectional,
            dropout=dropout if layers > 1 else 0.0,
        )  # fmt: skip
        outputs = {"classify": num_classes, "generate": vocabulary, "forecast": horizon * inputs}[task]
        self.head = nn.Linear(width * self.directions, outputs)

    def forward(self, series: Tensor) -> Tensor:
        steps, state = self.cells(self.embedding(series))
        if self.task == "generate":
            out: Tensor = self.head(steps)
            return out
        last = state[0] if isinstance(state, tuple) else state
        out = self.head(last[-self.directions :].transpose(0, 1).flatten(1))
        return out if self.task == "classify" else out.reshape(len(out), -1, self.inputs)


def build(
    *, cell: Cell = "lstm", task: Task = "classify", inputs: int = 1, width: int = 64, layers: int = 1, num_classes: int = 10,
    vocabulary: int = 0, horizon: int = 1, dropout: float = 0.0, bidirectional: bool = False,
) -> nn.Module:  # fmt: skip
    """inputs: values per step of a series. vocabulary: tokens of a text; 0 for a series. horizon: steps that are forecast.
    dropout: between layers. bidirectional: read backwards too."""
    if cell not in _CELLS or task not in ("classify", "generate", "forecast"):
        raise Invalid(
            f"There is no cell '{cell}' for the task '{task}'.", "Cells: rnn, lstm, gru; tasks: classify, generate, forecast."
        )
    if task == "generate" and (not vocabulary or bidirectional):
        raise Invalid("A text is generated from its tokens, forwards.", "Give a vocabulary, and leave bidirectional out.")
    return Recurrent(cell, task, inputs, width, layers, num_classes, vocabulary, horizon, dropout, bidirectional)
