"""GRU4Rec: a recurrent network reads a list step by step, and each step's next item is told from those that other lists have at the same step.

Hidasi, Karatzoglou, Baltrunas, Tikk, "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016; extra negatives and the losses
with a maximum: Hidasi, Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM 2018.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Steps
from palate.layers import losses
from palate.layers.embedding import Table
from palate.layers.softmax import log_sum
from palate.layers.towers import Dropout

Loss = Literal["cross_entropy", "bpr", "top1", "bpr_max", "top1_max"]


class GRU4Rec(Recaller):
    """The score of item i after a list is h' m_i + b_i, h the state of ``blocks`` GRUs of size ``dim`` after the list's latest ``length`` items.

    Lists of a batch run side by side from the first item to the last, each a state of its own that begins at 0 (as the session-parallel batches of
    the paper do; but gradients go back through the whole list, and a step of the optimiser is taken after whole lists, not after every item).
    What others have at the same step are the negatives, and ``negatives`` more drawn for each step; the recipe says how (the paper's popularity^a).
    ``shared``: drawn once for a batch, which costs little where they are thousands and learns worse from the same number. ``loss``: ``cross_entropy``
    (with ``log_q`` corrected for how often an item is expected among those compared), ``bpr``, ``top1``, ``bpr_max`` (with ``restraint`` on large
    scores) or ``top1_max``. ``tied``: the network reads the vectors m that it scores by (the paper's constrained embedding). ``dropout`` of what the
    network reads and of h.
    """

    examples = Steps

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        blocks: int = 1,
        dropout: float = 0.2,
        length: int = 50,
        loss: Loss = "cross_entropy",
        negatives: int = 128,
        shared: bool = False,
        log_q: bool = True,
        restraint: float = 0.5,
        tied: bool = True,
    ) -> None:
        super().__init__(interactions, length)
        for name, value in {"dim": dim, "blocks": blocks}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if negatives < 0 or not 0 <= restraint < float("inf"):
            raise ValueError(f"negatives and restraint must be 0 or more, not {negatives} and {restraint}")
        if loss not in get_args(Loss):
            raise ValueError(f"loss must be one of {', '.join(get_args(Loss))}, not {loss!r}")
        self.dim, self.kind, self.negatives, self.shared, self.log_q, self.restraint = dim, loss, negatives, shared, log_q, restraint
        self.table = Table(self.n_items + 1, dim + 1, deviation=0.1)  # m and b side by side
        self.table.weight.data[:, -1] = 0
        self.reads = None if tied else Table(self.n_items + 1, dim, deviation=0.1)
        self.gru = nn.GRU(dim, dim, blocks, batch_first=True)
        self.dropout = Dropout(dropout)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Steps:
        return Steps(sequences, self.length, sampler, self.negatives, self.shared)

    def read(self, ids: Tensor) -> Tensor:
        """The state after each place of ``ids [B, L]``, ``[B, L, D]``; padding, which stands before a list, is not read."""
        length, ahead = ids.shape[1], (ids == 0).sum(1, keepdim=True)
        place = torch.arange(length, device=ids.device)
        turned = ids.gather(1, (place + ahead) % length)  # the list first, then its padding
        vectors = self.table(turned, padding=0)[..., :-1] if self.reads is None else self.reads(turned, padding=0)
        states = self.gru(self.dropout(vectors))[0]
        return self.dropout(states.gather(1, ((place - ahead) % length)[..., None].expand_as(states)))

    def loss(self, batch: Batch) -> Tensor:
        before, after, negative = batch["item"][:, :-1], batch["item"][:, 1:].T, batch["negative"]  # [B, L], [L, B], [L, N] or [N]
        states, there = F.pad(self.read(before), (0, 1), value=1.0).transpose(0, 1), before.T > 0  # [L, B, D + 1], [L, B]
        place, whose = there.nonzero().T  # of each of the M states that something comes after
        target = after[there]
        summed = self.shared and self.kind == "cross_entropy"  # then scores of what is drawn need not be written out
        columns = after if summed else torch.cat((after, negative.expand(len(after), -1)), 1)
        scores = (states @ self.table(columns, padding=0).transpose(1, 2))[there]  # [M, B] or [M, B + N]
        corrected = self.kind == "cross_entropy" and self.log_q
        if corrected:
            scores = scores - batch["log_q"][:, : columns.shape[1]][place]
        positive = scores.gather(1, whose[:, None])[:, 0]
        none = (columns[place] == target[:, None]) | (columns == 0)[place]
        if self.kind == "cross_entropy":
            total = scores.masked_fill(none.scatter(1, whose[:, None], False), -torch.inf).logsumexp(1)
            if summed:

                def amend(scores: Tensor, rows: slice) -> None:
                    if corrected:
                        scores.sub_(batch["log_q"][:, columns.shape[1] :][place[rows]])
                    scores.masked_fill_(negative == target[rows, None], -torch.inf)

                total = torch.logaddexp(total, log_sum(states[there], self.table(negative, padding=0), amend))
            return (total - positive).mean()
        against = scores.masked_fill(none, -torch.inf)
        if self.kind == "bpr_max":
            return losses.bpr_max(positive, against, self.restraint)
        return {"bpr": losses.bpr, "top1": losses.top1, "top1_max": losses.top1_max}[self.kind](positive, against)

    def encode_users(self, batch: Batch) -> Tensor:
        return F.pad(self.read(batch["history"])[:, -1], (0, 1), value=1.0)

    def encode_items(self) -> Tensor:
        return self.table.weight[1:]
