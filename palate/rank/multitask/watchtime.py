"""WatchTime: expected watch time by a logistic regression in which what was watched weighs as much as the time it was watched.

Covington, Adams, Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016, section 4.2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Examples, Ranker
from palate.layers import bottoms
from palate.layers.embedding import Embedding
from palate.layers.towers import Tower
from palate.schema import Label, Schema


class WatchTime(Ranker):
    """Labels are times T >= 0, of 0 where an impression was not watched; the answer is e^z, a time.

    ``form`` ``known``: as in the paper, a positive weighs T and a negative 1. With a share p of positives the odds learned are
    e^z = E[T] / (1 - p), E[T] over all impressions: close to E[T] where positives are rare, above it elsewhere.
    ``exact``: every impression is a unit negative, and a positive besides with weight T: e^z = E[T]. This is the likelihood of the geometric
    distribution of mean e^z, so its loss asks nothing of how times are spread but that they have a mean.

    What the loss would be at e^z = T is taken off it, so that it is 0 where every time is foreseen. Of several tasks those of kind ``number`` are
    times (all, if none is), the others an ordinary logistic regression. ``dim`` of each field's vector; ``bottom``: what the tower of
    ``hidden`` layers reads; ``dropout`` of that and after each hidden layer.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        form: Literal["known", "exact"] = "known",
        bottom: bottoms.BottomName = "plain",
    ) -> None:
        super().__init__(schema)
        if form not in ("known", "exact"):
            raise ValueError(f"form must be 'known' or 'exact', not {form!r}")
        numbers = [label.kind == "number" for label in schema.labels]
        self.timed, self.form = [number or not any(numbers) for number in numbers], form
        self.embedding = Embedding(schema.features, dim)
        self.bottom = bottoms.bottom(bottom, len(schema.features), dim, hidden, dropout)
        self.tower = Tower(self.bottom.width, hidden, len(self.tasks), dropout)

    def forward(self, batch: Batch) -> Tensor:
        return self.tower(self.bottom(self.embedding(batch)))  # z [B, T]

    def last_bias(self) -> Tensor:
        return self.tower.last_bias

    def task_loss(self, label: Label, logits: Tensor, batch: Batch) -> Tensor:
        if not self.timed[self.tasks.index(label.name)]:
            return super().task_loss(label, logits, batch)
        kept = batch.get("kept") if label.name == self.tasks[0] else None
        return weighted_logistic(logits, batch[f"label:{label.name}"], self.form, batch.get("weight"), kept)

    def answers(self, logits: Tensor) -> Tensor:
        """Expected times, and the probability of what is not a time."""
        return torch.where(torch.tensor(self.timed), logits.exp(), torch.sigmoid(logits))

    def predict(self, batch: Batch) -> Tensor:
        return self.answers(self(batch))  # of its own: not what a ranker that gives sigmoids has

    @torch.no_grad()
    def begin(self, examples: Examples) -> None:
        """As any ranker, but the bias of a time is the logarithm of its mean."""
        fresh, bias = not self.started, self.last_bias()
        super().begin(examples)
        if fresh:
            for t, label in enumerate(self.labels):
                if label.kind == "number":
                    bias[t] = bias[t].clamp(min=1e-6).log()


def weighted_logistic(
    logits: Tensor, times: Tensor, form: Literal["known", "exact"], weights: Tensor | None = None, kept: Tensor | None = None
) -> Tensor:
    """Mean over rows whose time is not NaN of T ln(1 + e^-z) + N ln(1 + e^z) - its least value; N is 1, in the known form 0 where T > 0.

    ``kept``: the rate at which rows without a time were kept, which ``logits`` allow for. The unit negative of a row that has a time then
    weighs as much as those of the others that are left.
    """
    weights = torch.where(torch.isnan(times), 0.0, torch.ones_like(times) if weights is None else weights)
    times = times.nan_to_num(0.0)
    if bool((times < 0).any()):
        raise ValueError("a watch time is below 0")
    unit = torch.ones_like(times) if kept is None else kept
    negatives = torch.where(times == 0, 1.0, unit if form == "exact" else 0.0)
    both = times + negatives
    least = torch.xlogy(both, both) - torch.xlogy(times, times) - torch.xlogy(negatives, negatives)
    lost = times * F.softplus(-logits) + negatives * F.softplus(logits) - least
    return (weights * lost).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
