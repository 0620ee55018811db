"""ESMM: the conversion after a click, learned over all exposures as what turns the click's probability into that of click and conversion.

Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate", SIGIR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Examples, Ranker
from palate.layers import bottoms
from palate.layers.embedding import Embedding
from palate.layers.losses import binary_cross_entropy
from palate.layers.towers import Tower
from palate.schema import Schema


class ESMM(Ranker):
    """The first task is the click, the second (and any further one) a conversion that only a click can bring.

    pCTCVR = pCTR pCVR; loss = BCE(click, pCTR) + BCE(click and conversion, pCTCVR), each over all exposures and times its label's ``weight``;
    there is no loss of pCVR alone. A conversion label where nothing was clicked is not looked at (NaN or not, it is no conversion); one that
    is NaN after a click is left out.

    ``predict`` gives pCTR and pCVR. So the second column is the chance of a conversion *if* clicked, and the funnel's ``choose^a like^b`` with
    ``a = b = 1`` is pCTCVR, the chance of both at this exposure; with pCTCVR as the column the click would count twice.

    ``dim`` of each field's vector, which all tasks share; each task has its own ``bottom`` and tower of ``hidden`` layers. ``dropout`` of what the
    bottoms give and after each hidden layer.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        bottom: bottoms.BottomName = "plain",
    ) -> None:
        super().__init__(schema)
        if len(self.tasks) < 2 or any(label.kind != "binary" for label in schema.labels):
            raise ValueError(f"ESMM needs a label for the click and at least one for what follows it, all binary, not {', '.join(self.tasks)}")
        self.embedding = Embedding(schema.features, dim)
        self.bottoms = nn.ModuleList(bottoms.bottom(bottom, len(schema.features), dim, hidden, dropout) for _ in self.tasks)
        self.towers = nn.ModuleList(Tower(part.width, hidden, 1, dropout) for part in self.bottoms)  # type: ignore[arg-type]
        self.bias = nn.Parameter(torch.zeros(len(self.tasks)))

    def forward(self, batch: Batch) -> Tensor:
        fields = self.embedding(batch)  # [B, F, D]
        logits = [tower(part(fields)) for part, tower in zip(self.bottoms, self.towers, strict=True)]  # each [B, 1]
        return torch.cat(logits, 1) + self.bias  # [B, T]

    def loss(self, batch: Batch) -> Tensor:
        logits, weights = self.thinned(self(batch), batch), batch.get("weight")
        click, (first, *rest) = batch[f"label:{self.tasks[0]}"], self.labels
        total = first.weight * binary_cross_entropy(logits[:, 0], click, weights)
        for t, label in enumerate(rest, 1):
            both = torch.where(click == 0, 0.0, click * batch[f"label:{label.name}"])
            total = total + label.weight * binary_cross_entropy(joint(logits[:, 0], logits[:, t]), both, weights)
        return total

    def begin(self, examples: Examples) -> None:
        """As any ranker, but a conversion's rate is that after clicks."""
        super().begin(_Clicked(examples, self.tasks))


def joint(one: Tensor, other: Tensor) -> Tensor:
    """The logit of the product of two probabilities given by their logits, exact in float32 at any size.

    1 / (s(a) s(b)) = (1 + e^-a)(1 + e^-b), so the odds against are e^-a + e^-b + e^-(a + b).
    """
    return -torch.logsumexp(torch.stack([-one, -other, -one - other]), 0)


class _Clicked:
    """The same examples, in which only what was clicked has the labels that follow the click."""

    def __init__(self, examples: Examples, tasks: tuple[str, ...]) -> None:
        self.examples, self.tasks = examples, tasks

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        batch = Batch(self.examples.batch(chosen, generator))
        for task in self.tasks[1:]:
            batch[f"label:{task}"] = torch.where(batch[f"label:{self.tasks[0]}"] > 0, batch[f"label:{task}"], torch.nan)
        return batch
