"""What each kind of part promises. Models do not know the trainer and the trainer does not know the models: both know this file.

Three thin bases hold code (``Ranker``, ``Embedder``, ``Recaller``); the rest are protocols. A model states its needs in its constructor: a typed
argument (``schema: Schema``, ``catalogue: Catalogue``, ``interactions: Interactions``) is filled in by ``build``, everything else is a
hyper-parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.candidates import Candidates, Floats, Grounds, Ints, Ragged, Request, offsets_of
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.pairs import Pairs
from palate.datasets.pointwise import Pointwise
from palate.datasets.sequences import Sequences, ending
from palate.index.retrievers import Nearby
from palate.index.topk import best_of, nearest_of_all
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

    def finish(self) -> None:
        """Called by the trainer after the last step, the best weights in place and the model in eval mode. Does nothing here."""

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


class Recaller(Model):
    """A ``Retriever`` with weights that knows users and items by their catalogue rows alone: no features.

    You write ``learn_from``, ``loss``, ``encode_users`` and ``encode_items``, whose inner product is the score (the largest one where a user has
    several vectors); a model whose score is none sets ``inner`` to False and writes ``scores``. In batches an id is a row + 1, 0 is padding or
    nobody known, and lists stand at the right (``datasets/sequences.py``). ``interactions`` is the training matrix when a model is made to be
    fitted, and one of the same size with nothing in it when it is read back: what must outlive training is a parameter or a buffer.

    A request is answered from its history; its user counts only in a model that is ``personal``, for users it was fitted on. Without either
    there are no candidates.
    """

    inner: ClassVar[bool] = True
    personal: ClassVar[bool] = False

    def __init__(self, interactions: Interactions, length: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"length must be 1 or more, not {length}")
        self.n_users, self.n_items, self.length = interactions.n_users, interactions.n_items, length
        self.sizes: Tensor
        self.fitted_users: Tensor  # bool [U + 1]: who took something; not the 0 of nobody known
        self.register_buffer("sizes", torch.tensor([self.n_users, self.n_items]))
        if self.personal:
            took = np.concatenate(([False], np.diff(interactions.offsets) > 0))
            self.register_buffer("fitted_users", torch.from_numpy(took))
        self._vectors: Tensor | None = None
        self._lengths: Tensor | None = None  # [I], of these vectors
        self._index: Nearby | None = None

    def learn_from(self, sequences: Sequences, sampler: Sampler) -> Examples:
        """The examples of this model, made of what users took; negatives, where it needs them, by the sampler."""
        raise TypeError(f"{type(self).__name__} must define learn_from(sequences, sampler)")

    def encode_users(self, batch: Batch) -> Tensor:
        """``history`` int64 ``[B, L]``, L at most ``length``, and ``user [B]``, to ``[B, D]`` or, with K vectors each, ``[B, K, D]``."""
        raise TypeError(f"{type(self).__name__} must define encode_users(batch)")

    def encode_items(self) -> Tensor:
        """All items ``[I, D]`` in order of their rows."""
        raise TypeError(f"{type(self).__name__} must define encode_items()")

    def scores(self, batch: Batch) -> Tensor:
        """Of every item for each user: ``[B, I]``."""
        found = self.encode_users(batch) @ self.item_vectors().T
        return found if found.ndim == 2 else found.amax(1)

    def item_vectors(self) -> Tensor:
        """``encode_items``, made once between trainings."""
        if self.training:
            return self.encode_items()
        if self._vectors is None:
            with torch.inference_mode():
                self._vectors = self.encode_items()
        return self._vectors

    def train(self, mode: bool = True) -> Self:
        self._vectors = self._lengths = None
        return super().train(mode)

    @property
    def items(self) -> Floats:
        """Item vectors float32 ``[I, D]``."""
        return self.item_vectors().detach().numpy()

    def search_with(self, index: Nearby) -> Self:
        """Look for the best items in this index over ``items`` (inner product) instead of comparing all of them."""
        self._index = index
        return self

    def asked(self, request: Request) -> Batch:
        """The request as ids: the latest ``length`` items of each history that were there when the model was fitted."""
        histories = request.histories
        known = (histories.items >= 0) & (histories.items < self.n_items)
        offsets, items = offsets_of(known.astype(np.int64))[histories.offsets], histories.items[known]
        stop = torch.from_numpy(offsets[1:])
        start = torch.maximum(torch.from_numpy(offsets[:-1]), stop - self.length)
        longest = max(int((stop - start).max()), 1) if len(request) else 1
        batch = Batch(history=ending(torch.from_numpy(items), start, stop, longest) if len(items) else torch.zeros(len(request), 1, dtype=torch.long))
        if self.personal:
            users = torch.from_numpy(np.where((request.users >= 0) & (request.users < self.n_users), request.users + 1, 0))
            batch["user"] = torch.where(self.fitted_users[users], users, 0)
        return batch

    def retrieve(self, request: Request, k: int) -> Candidates:
        if not len(request):
            return Candidates.empty(0)
        batch = self.asked(request)
        known = ((batch["history"] > 0).any(1) | (batch["user"] > 0 if self.personal else False)).numpy()
        with torch.inference_mode():
            if self._index is not None:
                found = nearest_of_all(self._index, self.encode_users(batch).numpy(), k, request.exclude)
            else:
                found = best_of(
                    lambda start, stop: self.scores(batch.take(slice(start, stop))).numpy(), len(request), self.n_items, k, request.exclude
                )
        return found if known.all() else found.take(np.flatnonzero(known[found.requests]))

    def speaks(self, batch: Batch, items: Tensor) -> Tensor:
        """How much each place of ``history [B, L]`` speaks for each of ``items [B, C]`` (ids), ``[B, C, L]``; of padding it does not matter.

        The cosine of their vectors, unless a model knows better, such as one that attends.
        """
        own, asked = (torch.nn.functional.normalize(self.item_vectors()[(ids - 1).clamp(min=0)], dim=-1) for ids in (batch["history"], items))
        return asked @ own.transpose(1, 2)

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """For each candidate the item of the history that ``speaks`` most for it; for none where scores are no inner product."""
        found, batch, owner = Grounds.none(len(candidates.items)), self.asked(request), candidates.requests
        place = np.arange(len(owner)) - candidates.offsets[owner]
        ids = np.zeros((len(request), int(np.diff(candidates.offsets).max(initial=0))), np.int64)
        ids[owner, place] = np.where(candidates.items < self.n_items, candidates.items + 1, 0)
        if self.inner and ids.size:
            items, history = torch.from_numpy(ids)[:, :, None], batch["history"][:, None]
            with torch.inference_mode():
                told = self.speaks(batch, items[:, :, 0]).masked_fill((history == 0) | (items == 0) | (history == items), 0.0)
            strength, at = (values.numpy()[owner, place] for values in told.max(2))
            found.items[:] = np.where(strength > 0, batch["history"].numpy()[owner, at] - 1, -1)
            found.strength[:] = np.maximum(strength, 0)
        return found

    def similar(self, item: int, k: int) -> tuple[Ints, Floats]:
        """Items whose vectors point the same way: int64 rows and cosines, best first; nothing for an item that was not there at fitting."""
        if not self.inner or not 0 <= item < self.n_items:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        vectors = self.item_vectors().detach()
        if self._lengths is None or self.training:
            self._lengths = vectors.norm(dim=1).clamp(min=1e-12)
        cosines = (vectors @ (vectors[item] / self._lengths[item])) / self._lengths
        found = best_of(lambda _start, _stop: cosines[None].numpy(), 1, self.n_items, k, Ragged.of([[item]]))
        return found.items, found.scores


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


@dataclass(frozen=True)
class Others:
    """The recipe's other retrievers, trained, by name: what a hybrid is made of (an argument ``others: Others`` and an option ``models``).

    Each sees of a history what it would see as a route; what models are fitted on are events that show the bit ``taken``. ``rehearse(models,
    share)``, while a hybrid is fitted: how they would have done if the last share of the events were not there yet.
    """

    named: Callable[[str], Retriever]
    taken: int = 0
    rehearse: Callable[[Sequence[str], float], Rehearsal] | None = None


@dataclass(frozen=True)
class Rehearsal:
    """Models fitted on the events before a moment, the requests of some who were there before it and came again, and what new each then took."""

    others: Others
    request: Request
    taken: Ragged


@runtime_checkable
class Similar(Protocol):
    """Optional, for a Retriever that knows which items go with an item."""

    def similar(self, item: int, k: int) -> tuple[Ints, np.ndarray[Any, Any]]: ...  # rows [<=k], scores, best first


@runtime_checkable
class Grounded(Protocol):
    """Optional, for a Retriever that can say why it offers an item: asked only about what it offered."""

    def grounds(self, request: Request, candidates: Candidates) -> Grounds: ...


class Step(Protocol):
    """Candidates in, candidates out. A scorer rescores and never drops; a selector drops and never rescores."""

    def __call__(self, request: Request, candidates: Candidates) -> Candidates: ...


class Explains(Protocol):
    """Optional: one short reason for each candidate."""

    def explain(self, request: Request, candidates: Candidates) -> Sequence[str]: ...
