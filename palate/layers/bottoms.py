"""Bottoms: what a model of several tasks stands on, the fields as they are or with their crossings beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from palate.layers.attention import Attention
from palate.layers.bilinear import Bilinear
from palate.layers.cin import CIN
from palate.layers.cross import cross_v2
from palate.layers.products import Pooled
from palate.layers.towers import Dropout

BottomName = Literal["plain", "fm", "cross", "cin", "attention", "bilinear"]


def bottom(kind: BottomName, fields: int, dim: int, hidden: Sequence[int], dropout: float = 0.0) -> Bottom:
    """``[N, F, D] -> [N, width]``.

    ``plain``: the fields themselves, one after the other. Beside them stand, with ``fm``, the sum of the products of all pairs (as in NFM);
    with ``cross``, what cross layers make (DCNv2); with ``cin``, sums of products of vectors (xDeepFM), as many a layer as there are fields;
    with ``attention``, the fields after self-attention of two heads (AutoInt); with ``bilinear``, the products of all pairs, each left field
    turned by its matrix (FiBiNET). A crossing made of layers has as many as ``hidden``, the tower
    that stands on it. ``dropout`` of all that is given.
    """
    if kind not in get_args(BottomName):
        raise ValueError(f"bottom must be one of {', '.join(get_args(BottomName))}, not {kind!r}")
    made = _CROSSINGS.get(kind)
    crossing = made(fields, dim, max(len(hidden), 1)) if made else None
    return Bottom(fields * dim, crossing, dropout)


class Bottom(nn.Module):
    """The fields beside what ``crossing`` (``[N, F, D] -> [N, crossing.width]``) makes of them."""

    def __init__(self, flat: int, crossing: nn.Module | None, dropout: float) -> None:
        super().__init__()
        self.crossing, self.dropout = crossing, Dropout(dropout)
        self.width: int = flat + (0 if crossing is None else int(crossing.width))  # type: ignore[arg-type]

    def forward(self, fields: Tensor) -> Tensor:
        flat = fields.flatten(1)  # [N, F D]
        return self.dropout(flat if self.crossing is None else torch.cat([flat, self.crossing(fields)], 1))


_CROSSINGS: dict[str, Callable[[int, int, int], nn.Module]] = {  # of fields, dim and layers
    "fm": lambda fields, dim, layers: Pooled(fields, dim),
    "cross": cross_v2,
    "cin": lambda fields, dim, layers: CIN(fields, dim, (fields,) * layers),
    "attention": lambda fields, dim, layers: Attention(fields, dim, heads=2, per_head=max(dim // 2, 1), blocks=layers),
    "bilinear": lambda fields, dim, layers: Bilinear(fields, dim, "each"),
}
