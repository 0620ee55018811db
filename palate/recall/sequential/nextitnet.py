"""NextItNet: causal convolutions with holes that grow layer by layer, so that a few of them see a long list.

Yuan, Karatzoglou, Arapakis, Jose, He, "A Simple Convolutional Generative Network for Next Item Recommendation", WSDM 2019.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Windows
from palate.layers.embedding import Table
from palate.layers.foretelling import drawn, next_item, piecewise
from palate.layers.towers import Dropout


class Residual(nn.Module):
    """x + two times relu(norm(convolution)), the second with holes twice as wide: the paper's block (b)."""

    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, dim, kernel, dilation=holes) for holes in (dilation, 2 * dilation))
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-8) for _ in range(2))
        self.ahead = [(kernel - 1) * holes for holes in (dilation, 2 * dilation)]

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """``x [B, L, D]`` to the same; ``there [B, L, 1]`` is 0 at padding, which stays zero: it is as if nothing stood before a list."""
        y = x
        for convolution, norm, ahead in zip(self.convolutions, self.norms, self.ahead, strict=True):
            wide = F.pad(y.transpose(1, 2), (ahead, 0))  # a place sees itself and what is before it
            y = F.relu(norm(convolution(wide).transpose(1, 2))) * there
        return x + y


class NextItNet(Recaller):
    """The score of item i after a list is h' w_i + b_i, h the last place after the blocks and w_i, b_i of a table of their own.

    One block for each of ``dilations``, its two convolutions of width ``kernel`` with holes of that size and twice that size. ``dim`` of the items
    and of every layer; ``dropout`` of the vectors that are read; ``length``: the latest items that are read. The softmax at every place is over all
    items, or, with ``negatives``, over so many drawn for a batch by how likely each is.
    """

    examples = Windows

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        kernel: int = 3,
        dilations: tuple[int, ...] = (1, 4, 1, 4),
        dropout: float = 0.1,
        length: int = 50,
        negatives: int = 0,
    ) -> None:
        super().__init__(interactions, length)
        for name, value in {"dim": dim, "kernel": kernel, "every dilation": min(dilations, default=0)}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if negatives < 0:
            raise ValueError(f"negatives must be 0 or more, not {negatives}")
        self.negatives = negatives
        self.reads = Table(self.n_items + 1, dim, deviation=0.1)
        self.table = Table(self.n_items + 1, dim + 1, sparse=negatives > 0, deviation=0.1)  # w and b side by side
        self.table.weight.data[:, -1] = 0
        self.blocks = nn.ModuleList(Residual(dim, kernel, dilation) for dilation in dilations)
        self.dropout = Dropout(dropout)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Windows:
        return Windows(sequences, self.length, sampler if self.negatives else None, max(self.negatives, 1), "batch")

    def read(self, ids: Tensor) -> Tensor:
        """What each place of ``ids [B, L]`` knows, ``[B, L, D + 1]``, the last entry 1."""
        x, there = self.dropout(self.reads(ids, padding=0)), (ids > 0)[..., None].float()
        for block in self.blocks:
            x = block(x, there)
        return F.pad(x, (0, 1), value=1.0)

    def loss(self, batch: Batch) -> Tensor:
        before, after = batch["item"][:, :-1], batch["item"][:, 1:]
        known = before > 0
        states = piecewise(lambda ids: self.read(ids)[ids > 0], before)
        return next_item(states, self.table, self.n_items, after[known], *(drawn(batch, known) if self.negatives else ()))

    def encode_users(self, batch: Batch) -> Tensor:
        return self.read(batch["history"])[:, -1]

    def encode_items(self) -> Tensor:
        return self.table.weight[1:]
