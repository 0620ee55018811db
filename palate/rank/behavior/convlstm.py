"""ConvLSTM: a convolution reads short patterns of the history, an LSTM their order; the last state goes to the tower.

The stack of convolution, recurrence and perceptron is that of Sainath, Vinyals, Senior, Sak, "Convolutional, Long Short-Term Memory, Fully
Connected Deep Neural Networks", ICASSP 2015, here over a user's events. (The ConvLSTM cell of Shi et al., NeurIPS 2015, is something else.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.behaviors import Behaviors
from palate.layers.embedding import Embedding
from palate.layers.towers import Dropout, Tower
from palate.schema import Schema


class ConvLSTM(Ranker):
    """logits = tower(fields, last state of LSTM(ReLU(Conv1D(events)))); an empty history has a state of zeros.

    ``channels`` of the convolution, which looks at ``kernel`` events at a time and keeps the history's length; ``state`` of the LSTM. The time
    gaps ``<history>_gaps``, if there are any, are part of the events. ``dim`` of each field's vector; ``dropout`` of what enters the tower and
    after each hidden layer. Tasks share everything but the tower's output. It does not look at the candidate before the tower: for the
    candidates of one request it runs once. Where order says nothing it loses to attention, and to pooling too: AUC .59 beside DIN's .76 and the
    plain tower's .66 in the world ``Drift`` with its order shuffled.

    On ML-1M's rows parted at random it stays .010 of AUC below DeepFM, which knows each user by id; among users never seen it is .025 above one
    without histories, not above one that pools them.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.1,
        channels: int = 32,
        kernel: int = 3,
        state: int = 32,
    ) -> None:
        super().__init__(schema)
        for name, value in {"channels": channels, "kernel": kernel, "state": state}.items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, to lie evenly around an event, not {kernel}")
        self.behaviors = Behaviors(schema, dim, timed=True)
        self.embedding = Embedding(schema.features, dim, unpooled=self.behaviors.unpooled)
        self.convolution = nn.Conv1d(len(self.behaviors.unpooled) * dim, channels, kernel, padding=kernel // 2)
        self.recurrence = nn.LSTM(channels, state, batch_first=True)
        self.dropout = Dropout(dropout)
        self.tower = Tower(len(self.embedding.names) * dim + state, hidden, len(self.tasks), dropout)

    def last_bias(self) -> Tensor:
        return self.tower.last_bias

    def forward(self, batch: Batch) -> Tensor:
        fields = self.embedding(batch)  # [B, F, D]
        past = self.behaviors(batch, self.embedding, fields)
        events = past.history if past.gaps is None else torch.cat([past.history, past.gaps], 2)  # [B, L, C]
        patterns = torch.relu(self.convolution(events.transpose(1, 2))).transpose(1, 2)
        states = self.recurrence(patterns)[0]  # [B, L, S]
        lengths = past.mask.sum(1)
        last = states[torch.arange(len(states)), (lengths - 1).clamp(min=0)] * (lengths > 0)[:, None]  # [B or 1, S]
        return self.tower(self.dropout(torch.cat([fields.flatten(1), last.expand(len(fields), -1)], 1)))
