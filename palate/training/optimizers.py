"""Optimisers: Adam for dense weights; for tables with sparse gradients, lazy Adam or row-wise Adagrad that touch only rows just read."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from palate.layers.embedding import tables


class Rows(Optimizer):
    """Steps for parameters ``[V, D]`` with sparse gradients.

    ``adam``: Kingma, Ba, ICLR 2015, with both moments kept and decayed for touched rows only. ``adagrad``: Duchi et al., JMLR 2011, with one
    accumulator a row (the mean square of its gradient), so that a table of a billion rows needs four bytes a row more.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float, method: Literal["adam", "adagrad"] = "adam", weight_decay: float = 0.0):
        if method not in ("adam", "adagrad"):
            raise ValueError(f"tables must be 'adam' or 'adagrad', not {method!r}")
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": weight_decay})
        self.method = method
        for parameter in parameters:
            state = self.state[parameter]
            state["step"] = torch.zeros((), dtype=torch.float64)
            if method == "adam":
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            else:
                state["square"] = torch.zeros(len(parameter))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                rows, gradient = by_row(parameter.grad)
                state = self.state[parameter]
                state["step"] += 1
                values = parameter.index_select(0, rows)
                if group["weight_decay"]:
                    values -= group["lr"] * group["weight_decay"] * values
                if self.method == "adam":
                    step = float(state["step"])
                    mean = state["mean"].index_select(0, rows).lerp_(gradient, 0.1)
                    square = state["square"].index_select(0, rows).mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                    state["mean"].index_copy_(0, rows, mean)
                    state["square"].index_copy_(0, rows, square)
                    scale = (square / (1 - 0.999**step)).sqrt_().add_(1e-8)
                    values.addcdiv_(mean, scale, value=-group["lr"] / (1 - 0.9**step))
                else:
                    square = state["square"][rows] + gradient.pow(2).mean(1)
                    state["square"][rows] = square
                    values -= group["lr"] * gradient / (square.sqrt() + 1e-8)[:, None]
                parameter.index_copy_(0, rows, values)


def by_row(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows int64 ``[R]``, each once, and the sum of each row's gradient ``[R, D]`` of a sparse tensor ``[V, D]``."""
    places, values = gradient._indices()[0], gradient._values()
    size = gradient.shape[0]
    if size <= 8 * len(places):  # marking all rows beats sorting while the table is not much larger than the batch
        read = torch.zeros(size, dtype=torch.bool)
        read[places] = True
        rows = read.nonzero()[:, 0]
        inverse = read.cumsum(0).sub_(1).index_select(0, places)
    else:
        rows, inverse = torch.unique(places, return_inverse=True)
    return rows, values.new_zeros(len(rows), values.shape[1]).index_add_(0, inverse, values)


def optimizers(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    method: Literal["adam", "adagrad"] = "adam",
    table_learning_rate: float | None = None,
) -> dict[str, Optimizer]:
    """The optimisers of a model by name: ``dense`` and ``tables``, each only where there is something to update."""
    sparse = tables(model)
    known = {id(parameter) for parameter in sparse}
    dense = [parameter for parameter in model.parameters() if id(parameter) not in known and parameter.requires_grad]
    found: dict[str, Optimizer] = {}
    if dense:
        found["dense"] = torch.optim.AdamW(dense, lr=learning_rate, weight_decay=weight_decay, fused=True)
    if sparse:
        found["tables"] = Rows(sparse, table_learning_rate or learning_rate, method, weight_decay)
    return found
