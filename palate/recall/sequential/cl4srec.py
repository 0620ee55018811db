"""CL4SRec: SASRec that is also taught to know a list again when it was cropped, masked or reordered.

Xie, Sun, Liu, Wu, Gao, Zhang, Ding, Cui, "Contrastive Learning for Sequential Recommendation", ICDE 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from palate.batch import Batch
from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences, Windows
from palate.layers import losses
from palate.layers.embedding import Table
from palate.layers.foretelling import by_list, piecewise
from palate.layers.transformer import Transformer


class CL4SRec(Recaller):
    """Loss = next item at every place (softmax sampled against ``negatives`` drawn for each list) + ``contrast`` times the InfoNCE of two views.

    A view is one of three, by chance: a piece of a share ``crop`` of the list; the list with a share ``masked`` of its items hidden; the list with a
    piece of a share ``reorder`` shuffled. A list is what the last place knows; its inner products with the views of the other lists of the batch
    are taken over ``temperature``. Everything else is SASRec's. In small worlds of few lists the views brought no gain over none (some loss at
    temperature 1), and where order is all they cost much: two of the three teach that it does not matter.
    """

    examples = Windows

    def __init__(
        self,
        interactions: Interactions,
        dim: int = 64,
        blocks: int = 2,
        heads: int = 2,
        dropout: float = 0.2,
        length: int = 50,
        negatives: int = 64,
        contrast: float = 0.1,
        temperature: float = 1.0,
        crop: float = 0.6,
        masked: float = 0.3,
        reorder: float = 0.6,
    ) -> None:
        super().__init__(interactions, length)
        for name, value in {"dim": dim, "negatives": negatives}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        for name, share in {"crop": crop, "masked": masked, "reorder": reorder}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must lie in [0, 1], not {share}")
        if not 0 <= contrast < float("inf") or not 0 < temperature < float("inf"):
            raise ValueError(f"contrast must be 0 or more and temperature above 0, not {contrast} and {temperature}")
        self.dim, self.negatives, self.contrast, self.temperature = dim, negatives, contrast, temperature
        self.crop, self.masked, self.reorder = crop, masked, reorder
        self.table = Table(self.n_items + 2, dim, deviation=0.02)  # the last one hides an item
        self.transformer = Transformer(dim, length, blocks, heads, dropout=dropout, deviation=0.02 * dim**0.5)

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Windows:
        return Windows(sequences, self.length, sampler, self.negatives, "list")

    def read(self, ids: Tensor) -> Tensor:
        """What each place of ``ids [B, L]`` knows, ``[B, L, D]``."""
        return self.transformer(self.table(ids, padding=0) * self.dim**0.5, ids > 0)

    def view(self, ids: Tensor) -> Tensor:
        """Each list of ``ids [B, L]`` changed in one of the three ways."""
        size, length = ids.shape
        place = torch.arange(length, device=ids.device)
        count = (ids > 0).sum(1, keepdim=True)  # [B, 1]
        way = torch.randint(3, (size, 1), device=ids.device)

        def piece(share: float) -> tuple[Tensor, Tensor]:
            """Where a stretch of this share of each list begins, by chance, and where it ends."""
            kept = (share * count).long().clamp(min=1)
            start = length - count + (torch.rand(size, 1, device=ids.device) * (count - kept + 1)).long()
            return start, start + kept

        start, stop = piece(self.crop)
        from_end = stop - length + place  # the piece moved to the right
        cropped = torch.where(from_end >= start, ids.gather(1, from_end.clamp(min=0)), 0)
        chance = torch.rand(size, length, device=ids.device).masked_fill(ids == 0, torch.inf)
        hidden = ids.masked_fill(chance.argsort(1).argsort(1) < (self.masked * count).long(), self.n_items + 1)
        start, stop = piece(self.reorder)
        within = (place >= start) & (place < stop)
        order = torch.where(within, start + torch.rand(size, length, device=ids.device) * (stop - start), place.float()).argsort(stable=True, dim=1)
        return torch.where(way == 0, cropped, torch.where(way == 1, hidden, ids.gather(1, order)))

    def loss(self, batch: Batch) -> Tensor:
        before, after = batch["item"][:, :-1], batch["item"][:, 1:]
        known = before > 0
        states = piecewise(lambda ids: self.read(ids)[ids > 0], before)
        log_q = batch["log_q"].repeat_interleave(known.sum(1), 0)  # [M, N]
        told = losses.drawn_softmax(*by_list(states, self.table, after[known], batch["negative"], known), log_q)
        if not self.contrast:
            return told
        one, other = (piecewise(lambda ids: self.read(self.view(ids))[:, -1], after) for _ in range(2))
        return told + self.contrast * losses.info_nce(one, other, self.temperature, within=True)

    def encode_users(self, batch: Batch) -> Tensor:
        return self.read(batch["history"])[:, -1]

    def encode_items(self) -> Tensor:
        return self.table.weight[1 : self.n_items + 1]
