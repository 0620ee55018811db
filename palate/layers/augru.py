"""GRUs whose steps are weighted by attention: how an interest that the candidate touches has moved on.

Zhou et al., "Deep Interest Evolution Network for Click-Through Rate Prediction", AAAI 2019. The released code lets an event of attention 0 in by
the full update gate; this is the paper's formula, in which it changes nothing.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Evolution = Literal["augru", "agru", "aigru"]


def advanced(inputs: Tensor, past: Tensor, hidden: Tensor, share: Tensor | None = None, gated: bool = True) -> Tensor:
    """One step of a GRU: ``h' = (1 - u) * h + u * tanh(W i + r * U h)`` with ``r`` and ``u`` the sigmoids of theirs.

    ``inputs = W i + b`` and ``past = U h`` are ``[N, 3H]`` (reset, update, candidate); ``share [N, 1]`` multiplies ``u``, or stands for it where
    the step is not ``gated`` (``[N, 2H]``, without update).
    """
    size = hidden.shape[-1]
    gates = torch.sigmoid(inputs[..., :-size] + past[..., :-size])
    candidate = torch.tanh(torch.addcmul(inputs[..., -size:], gates[..., :size], past[..., -size:]))
    if share is None:
        return torch.lerp(hidden, candidate, gates[..., size:])
    return torch.lerp(hidden, candidate, gates[..., size:] * share if gated else share.expand_as(candidate))


class AUGRU(nn.Module):
    """The last state ``[N, H]`` over a history, each event weighted by the candidate's ``attention``.

    ``kind``, a being an event's attention: ``augru`` u' = a * u; ``agru`` u' = a, without an update gate; ``aigru`` the plain u, but the input
    is a * i. The first two keep the state at a = 0.
    """

    def __init__(self, inputs: int, hidden: int, kind: Evolution = "augru") -> None:
        super().__init__()
        if kind not in get_args(Evolution):
            raise ValueError(f"evolution must be one of {', '.join(get_args(Evolution))}, not {kind!r}")
        self.hidden, self.kind, gates = hidden, kind, 2 if kind == "agru" else 3
        self.weight = nn.Parameter(torch.empty(inputs, gates * hidden))  # W
        self.recurrent = nn.Parameter(torch.empty(hidden, gates * hidden))  # U
        self.bias = nn.Parameter(torch.zeros(gates * hidden))
        for gate in range(gates):
            nn.init.xavier_normal_(self.weight[:, gate * hidden : (gate + 1) * hidden])
            nn.init.orthogonal_(self.recurrent[:, gate * hidden : (gate + 1) * hidden])

    def forward(self, history: Tensor, attention: Tensor, mask: Tensor) -> Tensor:
        """Of ``history [N, L, I]`` and ``mask [N, L]``, or ``[1, ...]`` of one user for all; ``attention [N, L]`` is 0 where there is no event."""
        inputs = history @ self.weight  # [N, L, G]: of all steps at once
        if self.kind == "aigru":
            inputs = inputs * attention[:, :, None]
            share = mask.to(attention.dtype).expand_as(attention)
        else:
            share = attention
        hidden = inputs.new_zeros(len(attention), self.hidden)
        for step, part in zip((inputs + self.bias).unbind(1), share[:, :, None].unbind(1), strict=True):
            hidden = advanced(step, hidden @ self.recurrent, hidden, part, self.kind != "agru")
        return hidden
