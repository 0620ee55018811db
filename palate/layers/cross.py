"""Cross networks: each layer multiplies by the input once more, so that after L layers there are products of up to L + 1 entries.

v1: Wang et al., "Deep & Cross Network for Ad Click Predictions", ADKDD 2017. v2: Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021.
Gated: Wang et al., "Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction", CIKM 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from palate.layers.halves import placed, share
from palate.layers.towers import Dropout, Tower

Form = Literal["stacked", "parallel"]


def _matrix(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(shape)))


class CrossNet(nn.Module):
    """v1: ``x_{l+1} = x_0 (x_l . w_l) + b_l + x_l``, ``[N, F, D] -> [N, F D]``.

    Every x_l is a multiple of x_0 (another one for each row) plus the sum of the biases so far, so the L numbers ``x_0 . w_l`` of a row
    are all that the layers need: ``scale`` makes them into the multiple and the sum, and no layer is written out.
    """

    def __init__(self, fields: int, dim: int, layers: int = 3) -> None:
        super().__init__()
        self.width = fields * dim
        self.weight = _matrix(self.width, _positive(layers))  # w
        self.bias = nn.Parameter(torch.zeros(layers, self.width))

    def forward(self, fields: Tensor) -> Tensor:
        flat = fields.flatten(1)
        times, plus = self.scale(flat @ self.weight)
        return torch.addcmul(plus, times, flat)

    def scale(self, products: Tensor) -> tuple[Tensor, Tensor]:
        """``times [N, 1]`` and ``plus [F D]`` with ``x_L = times x_0 + plus``, of ``products [N, L]``."""
        times, plus = torch.ones_like(products[:, :1]), torch.zeros_like(self.bias[0])
        for each, weight, bias in zip(products.unbind(1), self.weight.unbind(1), self.bias, strict=True):
            times = torch.addcmul(times, times, each[:, None]) + plus @ weight
            plus = plus + bias
        return times, plus


class Full(nn.Module):
    """``W x + b``. Like those below, it is given the product of ``weight [F D, P]`` with x, and gives what x_0 is multiplied by ``[N, F D]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = _matrix(width, width), nn.Parameter(torch.zeros(width))

    def forward(self, products: Tensor) -> Tensor:
        return products + self.bias


class LowRank(nn.Module):
    """``U V' x + b``: W of rank ``rank``."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.weight, self.up, self.bias = _matrix(width, rank), _matrix(rank, width), nn.Parameter(torch.zeros(width))

    def forward(self, products: Tensor) -> Tensor:
        return torch.addmm(self.bias, products, self.up)


class Experts(nn.Module):
    """``sum over e of G_e(x) U_e tanh(C_e tanh(V_e' x)) + b``, G the softmax of a linear map: low ranks that share out the rows among them.

    As G adds up to 1, one bias serves all experts; the U_e stand one below the other, so their sum is one product.
    """

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.inner = rank * experts
        inner = [_matrix(width, rank) for _ in range(experts)]
        self.weight = nn.Parameter(torch.cat([*inner, torch.zeros(width, experts)], 1).detach())  # V and, at the end, the gates
        self.gate_bias = nn.Parameter(torch.zeros(experts))
        self.between = nn.Parameter(torch.stack([_matrix(rank, rank) for _ in range(experts)]).detach())  # C [E, r, r]
        self.up = nn.Parameter(torch.cat([_matrix(rank, width) for _ in range(experts)]).detach())  # U [E r, F D]
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, products: Tensor) -> Tensor:
        gates = torch.softmax(products[:, self.inner :] + self.gate_bias, 1)  # [N, E]
        down = torch.tanh(products[:, : self.inner]).unflatten(1, (len(self.between), -1))  # [N, E, r]
        inner = torch.tanh(down.transpose(0, 1) @ self.between).transpose(0, 1)  # [N, E, r]
        return torch.addmm(self.bias, (inner * gates[:, :, None]).flatten(1), self.up)


class Gated(nn.Module):
    """``(W x + b) sigmoid(V x)``: the gate decides row by row which products are worth keeping."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([_matrix(width, width), _matrix(width, width)], 1).detach())  # W and V
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, products: Tensor) -> Tensor:
        linear, gate = products.chunk(2, 1)
        return (linear + self.bias) * torch.sigmoid(gate)


class CrossLayers(nn.Module):
    """``x_{l+1} = x_0 * layer_l(x_l) + x_l``, ``[N, F, D] -> [N, F D]``. The first layer's product can be computed in shares and added."""

    def __init__(self, width: int, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(layers)

    def forward(self, fields: Tensor) -> Tensor:
        flat = fields.flatten(1)
        return self.rest(flat, flat @ self.first)

    @property
    def first(self) -> Tensor:
        """The weight ``[F D, P]`` of the first layer's product."""
        return self.layers[0].weight  # type: ignore[return-value]

    def rest(self, flat: Tensor, products: Tensor) -> Tensor:
        """All that follows the first product ``[N, P]`` of ``flat [N, F D]``."""
        values = flat
        for place, layer in enumerate(self.layers):
            factor = layer(values @ layer.weight if place else products)  # type: ignore[operator]
            values = torch.addcmul(values, flat, factor)
        return values


def cross_v2(fields: int, dim: int, layers: int = 3, rank: int = 0, experts: int = 1) -> CrossLayers:
    """v2: a matrix a layer, full where ``rank`` is 0 and else of that rank, or a mixture of ``experts`` of that rank."""
    width = fields * dim
    if rank < 0:
        raise ValueError(f"rank must be 0 (full) or more, not {rank}")
    if experts < 1:
        raise ValueError(f"experts must be 1 or more, not {experts}")
    if experts > 1:
        return CrossLayers(width, (Experts(width, rank or width, experts) for _ in range(_positive(layers))))
    return CrossLayers(width, (LowRank(width, rank) if rank else Full(width) for _ in range(_positive(layers))))


def cross_gated(fields: int, dim: int, layers: int = 3) -> CrossLayers:
    """GDCN's."""
    return CrossLayers(fields * dim, (Gated(fields * dim) for _ in range(_positive(layers))))


def _positive(layers: int) -> int:
    if layers < 1:
        raise ValueError(f"layers must be 1 or more, not {layers}")
    return layers


class CrossTower(nn.Module):
    """Cross layers and a tower, ``[N, F, D] -> [N, outputs]``: ``stacked``, the tower reads what is crossed; ``parallel``, it reads the fields
    and a linear map of what is crossed is added to what it gives. ``dropout`` where the tower begins and after each hidden layer."""

    def __init__(self, cross: CrossLayers, dim: int, hidden: Sequence[int], outputs: int, dropout: float, form: Form) -> None:
        super().__init__()
        self.cross, self.dim, self.form = cross, dim, form
        self.dropout = Dropout(dropout)
        self.tower = Tower(cross.width, hidden, outputs, dropout)
        if form == "parallel":
            self.out = _matrix(cross.width, outputs)

    def shares(self, fields: Tensor, places: Tensor) -> dict[str, Tensor]:
        """The share of fields ``[N, f, D]`` that stand at ``places [f]``: themselves among zeros, and their part of the first products."""
        every = torch.arange(self.cross.width // self.dim)
        whole = fields if len(places) == len(every) else placed(fields, places, every)
        half = {"fields": whole, "products": share(fields, self.cross.first, places)}
        return half | {"first": self.tower.partial(self.dropout(fields), places, self.dim)} if self.form == "parallel" else half

    def forward(self, whole: Mapping[str, Tensor]) -> Tensor:
        """``[N, outputs]`` of the sum of the shares."""
        crossed = self.cross.rest(whole["fields"].flatten(1), whole["products"])
        if self.form == "parallel":
            return torch.addmm(self.tower.rest(whole["first"]), crossed, self.out)
        return self.tower(self.dropout(crossed))
