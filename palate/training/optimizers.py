"""Optimisers for dense weights and for rows of tables: of a table with sparse gradients only the rows just read are touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.optim import Optimizer

from palate.contracts import Model
from palate.layers.embedding import tables, zeros
from palate.layers.scatter import summed

Method = Literal["adam", "adagrad", "sgd", "rmsprop", "ftrl"]


def _plain(function: Any) -> Any:
    """The method without the wrapper by which torch takes it out of compiled code: the wrapper imports torch's compiler, seconds for nothing here."""
    return getattr(function, "__wrapped__", function)


class Plain(Optimizer):
    """An Optimizer that never loads torch's compiler."""

    add_param_group = _plain(Optimizer.add_param_group)
    state_dict = _plain(Optimizer.state_dict)
    load_state_dict = _plain(Optimizer.load_state_dict)


class AdamW(Plain, torch.optim.AdamW):
    """AdamW: Loshchilov, Hutter, ICLR 2019; torch's own, all weights in one compiled call."""

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        _plain(torch.optim.AdamW.step)(self)


class Rows(Plain):
    """Steps for parameters whose gradients are sparse by row (``[V, D]``) or dense.

    ``adam``: Kingma, Ba, ICLR 2015, of a table with both moments kept and decayed for touched rows only. ``adagrad``: Duchi et al., JMLR 2011,
    for a table with one accumulator a row (the mean square of its gradient), so that a table of a billion rows needs four bytes a row more.
    ``sgd`` with ``momentum``: Polyak, 1964. ``rmsprop``: Tieleman, Hinton, 2012. ``ftrl``: FTRL-Proximal, McMahan et al., "Ad Click
    Prediction: a View from the Trenches", KDD 2013, Algorithm 1, with alpha = ``learning_rate``: weights whose gradients do not add up to ``l1``
    are exactly 0. The paper starts at 0; a weight that starts elsewhere has the z that belongs to it.

    ``l2``: added to the gradient as l2 x weight (``ftrl``: its lambda 2); ``weight_decay``: taken off directly (Loshchilov, Hutter, ICLR 2019).
    Of a table both touch only the rows that were read.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        learning_rate: float,
        method: Method = "adam",
        weight_decay: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        beta: float = 1.0,
        momentum: float = 0.0,
    ):
        if method not in get_args(Method):
            raise ValueError(f"an optimiser is one of {', '.join(map(repr, get_args(Method)))}, not {method!r}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, not {learning_rate}")
        for name, value in (("weight_decay", weight_decay), ("l1", l1), ("l2", l2), ("beta", beta)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number of at least 0, not {value}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, not {momentum}")
        if l1 and method != "ftrl":
            raise ValueError(f"l1 is for 'ftrl': {method} gives no weight that is exactly 0")
        if method == "ftrl" and weight_decay:
            raise ValueError("weight_decay is not for 'ftrl': it has l2")
        if method == "ftrl" and not beta + l2:
            raise ValueError("ftrl needs beta or l2 above 0: without either a weight that had no gradient yet is 0 / 0")
        if momentum and method != "sgd":
            raise ValueError(f"momentum is for 'sgd', not for {method!r}")
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": weight_decay, "l1": l1, "l2": l2, "beta": beta, "momentum": momentum})
        self.method = method

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float64)
                    state.update(self._begin(parameter, group))
                state["step"] += 1
                if not parameter.grad.is_sparse:
                    self._move(parameter, parameter.grad, state, group)
                    continue
                rows, gradient = by_row(parameter.grad)
                if self.method == "adam" and parameter.device.type == "cpu" and parameter.dtype == torch.float32:
                    _adam_rows(parameter, rows, gradient, state, group)
                    continue
                values = parameter.index_select(0, rows)
                kept = {name: state[name].index_select(0, rows) for name in state if name != "step"}
                self._move(values, gradient, {"step": state["step"], **kept}, group)
                for name, part in kept.items():
                    state[name].index_copy_(0, rows, part)
                parameter.index_copy_(0, rows, values)

    def _begin(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """What is kept of each weight from step to step."""
        if self.method == "adam":
            return {name: zeros(*parameter.shape).to(parameter) for name in ("mean", "square")}
        if self.method == "adagrad":
            return {"square": parameter.new_zeros(len(parameter)) if parameter.grad.is_sparse else torch.zeros_like(parameter)}  # type: ignore[union-attr]
        if self.method == "rmsprop":
            return {"square": torch.zeros_like(parameter)}
        if self.method == "ftrl":
            return {
                "square": torch.zeros_like(parameter),
                "z": -parameter * (group["beta"] / group["lr"] + group["l2"]) - parameter.sign() * group["l1"],
            }
        return {"mean": torch.zeros_like(parameter)} if group["momentum"] else {}

    def _move(self, values: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """One step of ``values`` and of their ``state``, both in place; ``gradient`` is left as it is."""
        rate = group["lr"]
        if group["weight_decay"]:
            values -= rate * group["weight_decay"] * values
        if group["l2"] and self.method != "ftrl":
            gradient = gradient.add(values, alpha=group["l2"])
        if self.method == "adam":
            step = float(state["step"])
            mean = state["mean"].lerp_(gradient, 0.1)
            square = state["square"].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            scale = (square / (1 - 0.999**step)).sqrt_().add_(1e-8)
            values.addcdiv_(mean, scale, value=-rate / (1 - 0.9**step))
        elif self.method == "adagrad" and state["square"].dim() < gradient.dim():
            square = state["square"].add_(gradient.pow(2).mean(1))
            values -= rate * gradient / (square.sqrt() + 1e-8)[:, None]
        elif self.method == "adagrad":
            square = state["square"].addcmul_(gradient, gradient)
            values.addcdiv_(gradient, square.sqrt().add_(1e-10), value=-rate)
        elif self.method == "rmsprop":
            square = state["square"].mul_(0.99).addcmul_(gradient, gradient, value=0.01)
            values.addcdiv_(gradient, square.sqrt().add_(1e-8), value=-rate)
        elif self.method == "ftrl":
            root = state["square"].sqrt()
            square = state["square"].addcmul_(gradient, gradient).sqrt()
            z = state["z"].add_(gradient).addcmul_((square - root) / rate, values, value=-1)
            beyond = (z.abs() - group["l1"]).clamp_(min=0).copysign_(z)
            torch.div(beyond, (square + group["beta"]).div_(rate).add_(group["l2"]).neg_(), out=values)
        elif group["momentum"]:
            values.add_(state["mean"].mul_(group["momentum"]).add_(gradient), alpha=-rate)
        else:
            values.add_(gradient, alpha=-rate)


def _adam_rows(weight: Tensor, rows: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    """The step of ``Rows._move`` for these rows of a table, in one pass: each row and its moments are fetched from memory once."""
    step = float(state["step"])
    arrays = (tensor.detach().numpy() for tensor in (weight, state["mean"], state["square"], rows, gradient))
    rates = group["lr"] / (1 - 0.9**step), 1 / (1 - 0.999**step), 1 - group["lr"] * group["weight_decay"], group["l2"]
    _adam(*arrays, *(np.float32(rate) for rate in rates))


@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def _adam(weight, mean, square, rows, gradient, rate, unbiased, kept, l2):  # type: ignore[no-untyped-def]
    tenth, most, least, tiny = np.float32(0.1), np.float32(0.999), np.float32(0.001), np.float32(1e-8)
    for n in range(len(rows)):
        row = rows[n]
        for d in range(weight.shape[1]):
            value = kept * weight[row, d]
            pull = gradient[n, d] + l2 * value
            mean[row, d] += tenth * (pull - mean[row, d])
            square[row, d] = most * square[row, d] + least * pull * pull
            weight[row, d] = value - rate * mean[row, d] / (np.sqrt(unbiased * square[row, d]) + tiny)


def by_row(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows int64 ``[R]``, each once, and the sum of each row's gradient ``[R, D]`` of a sparse tensor ``[V, D]``."""
    return summed(gradient._indices()[0], gradient._values())


def optimizers(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    tables_by: Method = "adam",
    table_learning_rate: float | None = None,
    dense_by: Method = "adam",
    **options: float,
) -> dict[str, Optimizer]:
    """The optimisers of a model by name: ``dense`` and ``tables``, and ``portion0`` ... for those that it wants otherwise, where there are any.

    ``options`` (``l1 l2 beta momentum``) go to each of the first two whose method has them; a portion has its own.
    """
    found: dict[str, Optimizer] = {}
    portions = model.portions() if isinstance(model, Model) else ()
    apart = {id(weight) for portion in portions for weight in portion.weights}
    sparse = [weight for weight in tables(model) if id(weight) not in apart and weight.requires_grad]
    known = apart | {id(weight) for weight in tables(model)}
    dense = [weight for weight in model.parameters() if id(weight) not in known and weight.requires_grad]
    if dense and dense_by == "adam" and not options.get("l2"):
        found["dense"] = AdamW(dense, learning_rate, weight_decay)
    elif dense:
        found["dense"] = Rows(dense, learning_rate, dense_by, **_fitting(dense_by, weight_decay=weight_decay, **options))
    if sparse:
        rate = learning_rate if table_learning_rate is None else table_learning_rate
        found["tables"] = Rows(sparse, rate, tables_by, **_fitting(tables_by, weight_decay=weight_decay, **options))
    for place, portion in enumerate(portions):
        own = {"learning_rate": learning_rate, **portion.options}
        found[f"portion{place}"] = Rows(portion.weights, method=portion.method, **own)  # type: ignore[arg-type]
    return found


def _fitting(method: Method, **options: float) -> dict[str, float]:
    """The options that this method has."""
    none = {"ftrl": ("weight_decay", "momentum"), "sgd": ("l1", "beta")}.get(method, ("l1", "beta", "momentum"))
    return {name: value for name, value in options.items() if name not in none}
