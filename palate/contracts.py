"""What each kind of part promises. Models do not know the trainer and the trainer does not know the models: both know this file.

Two thin bases hold code (``Ranker``, ``Embedder``); the rest are protocols. A model states its needs in its constructor: a typed
argument (``schema: Schema``, ``catalogue: Catalogue``) is filled in by ``build``, everything else is a hyper-parameter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.candidates import Candidates, Ints, Request
from palate.datasets.interactions import Interactions
from palate.datasets.pairs import Pairs
from palate.datasets.pointwise import Pointwise
from palate.layers.embedding import Embedding
from palate.layers.lean import LeanHalves, LeanTower
from palate.layers.losses import of_task
from palate.schema import Label, Schema

SAMPLE = 65_536  #: examples that a ranker looks at before its first step


class Examples(Protocol):
    """What training asks of a data set."""

    def __len__(self) -> int: ...

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch: ...


@dataclass(frozen=True, eq=False)
class Portion:
    """Some of a model's weights, and how they are trained where that is not left to the trainer.

    ``method`` is one of the trainer's optimisers, ``options`` are its own (``{"l1": 1.0}``); what is left out is the trainer's.
    """

    weights: Sequence[nn.Parameter]
    method: str
    options: Mapping[str, float] = field(default_factory=dict)


class Model(nn.Module):
    """A thing with weights and one loss. ``examples`` is the shape of the data set it learns from."""

    examples: ClassVar[type]

    def loss(self, batch: Batch) -> Tensor:
        """Scalar to be minimised; mean over the batch."""
        raise TypeError(f"{type(self).__name__} must define loss(batch)")

    def begin(self, examples: Examples) -> None:
        """Called by the trainer before the first step: take from the examples what a good start needs. Does nothing here."""

    def portions(self) -> tuple[Portion, ...]:
        """Weights that are trained otherwise than the trainer's options say. None here."""
        return ()


class Ranker(Model):
    """Scores (user, item) rows on every task of the schema. You write ``forward(batch) -> logits [B, T]``."""

    examples = Pointwise

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        if not schema.labels:
            raise ValueError(f"{type(self).__name__} needs at least one label: name the tasks in the recipe")
        self.tasks: tuple[str, ...] = tuple(label.name for label in schema.labels)
        self.labels = schema.labels
        self.started: Tensor  # an empty model's start is made once, also over several fittings
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def loss(self, batch: Batch) -> Tensor:
        """Sum over tasks of the loss that its label names times its weight, over the rows that have this task's label."""
        logits = self.thinned(self(batch), batch)  # [B, T]
        total = logits.new_zeros(())
        for t, label in enumerate(self.labels):
            total = total + label.weight * self.task_loss(label, logits[:, t], batch)
        return total

    def thinned(self, logits: Tensor, batch: Batch) -> Tensor:
        """The logits as they stand among rows of which only a share ``kept`` of the first task's negatives is left: z - ln kept for that task.

        So z is trained to be right among all rows. Tasks that only what was taken has labels of lost no row.
        """
        if "kept" not in batch:
            return logits
        return torch.cat((logits[:, :1] - batch["kept"].log()[:, None], logits[:, 1:]), 1)

    def task_loss(self, label: Label, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of one task alone, from its ``logits [B]``; point-wise ones count rows by their ``weight``."""
        return of_task(label.minimises, logits, batch[f"label:{label.name}"], batch.get("group"), batch.get("weight"))

    def last_bias(self) -> Tensor | None:
        """What is added to the logits last, ``[T]``: the attribute ``bias`` if there is one of that shape."""
        bias = getattr(self, "bias", None)
        return bias if isinstance(bias, Tensor) and bias.shape == (len(self.tasks),) else None

    @torch.no_grad()
    def begin(self, examples: Examples) -> None:
        """Centre numbers, and start each task's bias at the log-odds of its label (Lin et al., ICCV 2017, section 3.3), or a number's mean.

        From a bias of 0 the thousands of steps to the log-odds of a rare label are taken by every weight whose input is not centred,
        in whatever direction lowers all logits: popularity and the scores of recall begin by counting against an item.
        """
        if self.started:
            return
        chance = torch.Generator().manual_seed(0)
        batch = examples.batch(torch.randperm(len(examples), generator=chance)[:SAMPLE], chance)
        for part in self.modules():
            if isinstance(part, Embedding):
                part.standardise(batch)
        bias = self.last_bias()
        if bias is not None:
            for t, label in enumerate(self.labels):
                labels = batch[f"label:{label.name}"]
                weights = torch.where(torch.isnan(labels), 0.0, batch.get("weight", torch.ones_like(labels)))
                if not t and "kept" in batch:
                    weights = torch.where(labels == 0, weights / batch["kept"], weights)  # each stands for those that were left out
                known = int((weights > 0).sum())
                if known:
                    rate = float((weights * labels.nan_to_num(0.0)).sum() / weights.sum())
                    margin = 0.5 / known  # a label never seen is rare, not impossible
                    bias[t] = rate if label.kind == "number" else math.log(max(rate, margin) / max(1 - rate, margin))
        self.started.fill_(True)

    def predict(self, batch: Batch) -> Tensor:
        """What ``answers`` gives of the logits: ``[B, T]``."""
        return self.answers(self(batch))

    def answers(self, logits: Tensor) -> Tensor:
        """Each task's probability from ``logits [B, T]``; of a task that is a number the value itself."""
        numbers = [t for t, label in enumerate(self.labels) if label.kind == "number"]
        found = torch.sigmoid(logits)
        if numbers:
            found[:, numbers] = logits[:, numbers]
        return found

    def exported(self) -> LeanHalves | None:
        """The weights as they are now, as compiled loops that give what ``predict`` does; None where it cannot be had. Optional."""
        return None


@runtime_checkable
class Forest(Protocol):
    """A ranker fitted without gradients. ``arrays()`` is all of its persistence: ``from_arrays(arrays())`` answers the same.

    Its constructor takes the schema and options and draws its seed, if it needs one, from torch's generator, as others draw their weights.
    """

    tasks: tuple[str, ...]

    def fit(self, examples: Pointwise, validation: Pointwise | None = None) -> Self: ...

    def predict(self, batch: Batch) -> Tensor: ...  # [B, T]: probabilities, none below 0; of a task that is a number its value

    def eval(self) -> Self: ...  # itself: asked is no other than fitted

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]: ...

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self: ...


@runtime_checkable
class Halved(Protocol):
    """Optional, for a Ranker whose first layer is a sum over owners: each half is computed once and the halves are added.

    ``forward(batch)`` must equal ``combine(half(user) + half(item) + half(rest))``. A half is a dict of tensors ``[N, ...]``; those of
    one request's user are broadcast over its candidates, those of the items are cached by catalogue row.
    """

    def half(self, batch: Batch, *owners: str) -> dict[str, Tensor]: ...

    def combine(self, *halves: Mapping[str, Tensor]) -> Tensor: ...  # logits [N, T]


class Embedder(Model):
    """Users and items as vectors whose inner product is the score. You write ``encode_user`` and ``encode_item``, both ``[N, D]``."""

    examples = Pairs
    dim: int

    def encode_user(self, batch: Batch) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define encode_user(batch)")

    def encode_item(self, batch: Batch) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define encode_item(batch)")

    def exported(self) -> LeanTower | None:
        """The weights as they are now, as compiled loops that give what ``encode_user`` does; None where it cannot be had. Optional."""
        return None


@runtime_checkable
class Retriever(Protocol):
    """Offers up to k items to each request, best first (ties by catalogue row), never one of ``request.exclude``.

    Answers for a user it never saw from the history or the attributes in the request; ignores history rows it was not fitted on.
    """

    def retrieve(self, request: Request, k: int) -> Candidates: ...


@runtime_checkable
class Counter(Protocol):
    """A Retriever fitted without gradients. ``arrays()`` is all of its persistence: ``from_arrays(arrays())`` answers the same."""

    def fit(self, interactions: Interactions) -> Self: ...

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]: ...

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self: ...

    def retrieve(self, request: Request, k: int) -> Candidates: ...


@runtime_checkable
class Similar(Protocol):
    """Optional, for a Retriever that knows which items go with an item."""

    def similar(self, item: int, k: int) -> tuple[Ints, np.ndarray[Any, Any]]: ...  # rows [<=k], scores, best first


class Step(Protocol):
    """Candidates in, candidates out. A scorer rescores and never drops; a selector drops and never rescores."""

    def __call__(self, request: Request, candidates: Candidates) -> Candidates: ...


class Explains(Protocol):
    """Optional: one short reason for each candidate."""

    def explain(self, request: Request, candidates: Candidates) -> Sequence[str]: ...
