"""A memory of a few slots that is read and written event by event, so that a user's whole past has one size and grows by one step an event.

Pi et al., "Practice on Long Sequential User Behavior Modeling for Click-Through Rate Prediction", KDD 2019, section 4; read and write heads by
content as in Graves, Wayne, Danihelka, "Neural Turing Machines", 2014.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.layers.augru import advanced

State = dict[str, Tensor]  #: all that is known of N users, by name ``[N, ...]``: can be kept, and gone on from


class Heads(NamedTuple):
    """What the controller asks for: addresses ``read write [N, m]`` (sums 1), vectors ``erase add [N, W]``."""

    read: Tensor
    write: Tensor
    erase: Tensor
    add: Tensor


class InterestMemory(nn.Module):
    """A state has ``slots [N, m, W]`` (M), the ``controller [N, W]`` that works on them, the vector ``read [N, W]`` it read last, ``use [N, m]``,
    how much each slot was written to, ``channels [N, m, W]`` (S) and ``sum [N, W]`` of the events. For each event e:

    - the controller, a GRU over [e; read], makes a key and a sharpness for each head; an address is the softmax over slots of sharpness times
      cosine, half of it with the slot, half with the slot's own learned key (at first all slots are empty, and alike);
    - ``read`` = sum of w_r(i) M(i);
    - memory induction unit: the ``k`` slots of the highest w_r go on, S(i) = GRU([M(i); e], S(i)), by one GRU for all;
    - utilisation: w = w_w P, where the rows of P = softmax(W_g use) sum to 1 (a constant on the diagonal: at first w is w_w);
    - M(i) = (1 - w(i) erase) * M(i) + w(i) add, with ``erase`` in 0..1 and ``add`` in -1..1.
    """

    def __init__(self, width: int, slots: int, k: int) -> None:
        super().__init__()
        if slots < 1:
            raise ValueError(f"slots must be 1 or more, not {slots}")
        if not 1 <= k <= slots:
            raise ValueError(f"k must be 1 to slots ({slots}), not {k}")
        self.width, self.count, self.k = width, slots, k
        self.of_event = nn.Linear(width, 6 * width)  # the event's share in the controller and in the induction unit, of all steps at once
        self.of_read = nn.Parameter(torch.empty(width, 3 * width))
        self.of_slot = nn.Parameter(torch.empty(width, 3 * width))
        self.controller = nn.Parameter(torch.empty(width, 3 * width))
        self.induction = nn.Parameter(torch.empty(width, 3 * width))
        self.heads = nn.Linear(width, 4 * width + 2)
        self.keys = nn.Parameter(torch.empty(slots, width))
        self.balance = nn.Linear(slots, slots * slots)  # W_g
        for weight in (self.of_event.weight, self.of_read, self.of_slot, self.controller, self.induction, self.heads.weight):
            nn.init.xavier_normal_(weight)
        nn.init.normal_(self.keys)
        nn.init.zeros_(self.balance.weight)
        with torch.no_grad():
            self.balance.bias.copy_(4 * torch.eye(slots).flatten())

    def empty(self, size: int) -> State:
        """The state of users who have done nothing."""
        single, each = self.keys.new_zeros(size, self.width), self.keys.new_zeros(size, self.count, self.width)
        return {"slots": each, "controller": single, "read": single, "use": self.keys.new_zeros(size, self.count), "channels": each, "sum": single}

    def forward(self, events: Tensor, mask: Tensor, state: State) -> State:
        """The state after ``events [N, L, W]``, oldest first; where ``mask [N, L]`` is false nothing happens."""
        after = dict(state, sum=state["sum"] + (events * mask[:, :, None]).sum(1))
        keys, everyone = F.normalize(self.keys, dim=1), mask.all(0).tolist()
        for t, inputs in enumerate(self.of_event(events).unbind(1)):
            before, after = after, self._step(inputs, keys, after)
            if not everyone[t]:
                there = mask[:, t, None]
                after = {name: torch.where(there if new.dim() == 2 else there[:, :, None], new, before[name]) for name, new in after.items()}
        return after

    def look(self, candidate: Tensor, state: State) -> Tensor:
        """What the candidate ``[N, W]`` calls up from a state (of one row: for all), which stays as it is: controller and read vector ``[N, 2W]``."""
        hidden = self._controlled(self.of_event(candidate), state)
        return torch.cat([hidden, self._read(self._ask(hidden, F.normalize(self.keys, dim=1), state).read, state)], 1)

    def _step(self, inputs: Tensor, keys: Tensor, state: State) -> State:
        hidden = self._controlled(inputs, state)
        ask, slots, use = self._ask(hidden, keys, state), state["slots"], state["use"]
        transfer = self.balance(use.detach()).view(-1, self.count, self.count).softmax(2)  # P
        write = (ask.write[:, None] @ transfer).transpose(1, 2)  # [N, m, 1]
        return {
            "slots": torch.addcmul(slots, write, torch.addcmul(ask.add[:, None], slots, ask.erase[:, None], value=-1)),
            "controller": hidden,
            "read": self._read(ask.read, state),
            "use": use + write[:, :, 0],
            "channels": self._induced(inputs, ask.read, state),
            "sum": state["sum"],
        }

    def _controlled(self, inputs: Tensor, state: State) -> Tensor:
        given = torch.addmm(inputs[:, : 3 * self.width], state["read"].expand(len(inputs), -1), self.of_read)
        return advanced(given, state["controller"] @ self.controller, state["controller"])

    def _ask(self, hidden: Tensor, own: Tensor, state: State) -> Heads:
        keys, erase, add, sharpness = self.heads(hidden).split([2 * self.width, self.width, self.width, 2], 1)
        keys = F.normalize(torch.tanh(keys).view(-1, 2, self.width), dim=2)
        near = keys @ (F.normalize(state["slots"], dim=2) + own).transpose(1, 2)  # [N, 2, m]: twice the mean cosine
        read, write = ((1 + F.softplus(sharpness))[:, :, None] * near).softmax(2).unbind(1)
        return Heads(read, write, torch.sigmoid(erase), torch.tanh(add))

    def _read(self, address: Tensor, state: State) -> Tensor:
        return address @ state["slots"][0] if len(state["slots"]) == 1 else (address[:, None] @ state["slots"])[:, 0]

    def _induced(self, inputs: Tensor, read: Tensor, state: State) -> Tensor:
        places = read.topk(self.k, 1).indices[:, :, None].expand(-1, -1, self.width)  # [N, k, W]
        slots, channels = state["slots"].gather(1, places), state["channels"].gather(1, places)
        given = inputs[:, None, 3 * self.width :] + slots @ self.of_slot
        return state["channels"].scatter(1, places, advanced(given, channels @ self.induction, channels))
