"""A restricted Boltzmann machine of zeros and ones, and contrastive divergence as the gradient of a difference of free energies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palate.layers.bags import bag


class Boltzmann(nn.Module):
    """E(v, h) = -b' v - c' h - v' W h; ``W [V, H]`` normal with deviation 0.01."""

    def __init__(self, visible: int, hidden: int) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"dim and hidden sizes must be 1 or more, not {hidden}")
        self.weight = nn.Parameter(torch.empty(visible, hidden).normal_(0, 0.01))
        self.visible = nn.Parameter(torch.zeros(visible))  # b
        self.bias = nn.Parameter(torch.zeros(hidden))  # c

    def up(self, values: Tensor) -> Tensor:
        """P(h = 1 | v) ``[B, H]``."""
        return torch.sigmoid(values @ self.weight + self.bias)

    def up_from(self, ids: Tensor) -> Tensor:
        """The same of bags ``[B, L]`` of the ones of v."""
        return torch.sigmoid(bag(self.weight, ids, (ids > 0).float()) + self.bias)

    def down(self, hidden: Tensor) -> Tensor:
        """Logits of P(v = 1 | h) ``[B, V]``."""
        return hidden @ self.weight.T + self.visible

    def energy(self, values: Tensor) -> Tensor:
        """F(v) = -b' v - sum ln(1 + exp(c + W' v)) ``[B]``: exp(-F) is the sum of exp(-E) over h."""
        return -values @ self.visible - F.softplus(values @ self.weight + self.bias).sum(1)

    def loss(self, values: Tensor, steps: int) -> Tensor:
        """Contrastive divergence of ``steps`` from ``values [B, V]`` in [0, 1].

        Its gradient is that of F(v) - F(v_k), v_k what ``steps`` rounds of Gibbs sampling make of v: <v h>_data - <v h>_k, the sign turned. Its
        value is the cross-entropy of v and its reconstruction, which is what the divergence lowers in the end and can be watched
        (Hinton, "A Practical Guide to Training Restricted Boltzmann Machines", 2010).
        """
        with torch.no_grad():
            logits = self.down(torch.bernoulli(self.up(values)))
            lost = (F.softplus(logits) - values * logits).sum(1).mean()
            for _ in range(steps - 1):
                logits = self.down(torch.bernoulli(self.up(torch.bernoulli(torch.sigmoid(logits)))))
            sampled = torch.bernoulli(torch.sigmoid(logits))
        divergence = (self.energy(values) - self.energy(sampled)).mean()
        return lost + divergence - divergence.detach()


def dense(ids: Tensor, columns: int) -> Tensor:
    """Bags ``[B, L]`` as rows of zeros and ones ``[B, columns]``."""
    return torch.zeros(len(ids), columns + 1).scatter_(1, ids, 1.0)[:, 1:]


@torch.no_grad()
def begin(visible: Tensor, counts: Tensor, users: int) -> None:
    """Start visible biases at the log-odds of each item among those who took anything, as Hinton advises."""
    rate = (counts.float() + 0.5) / (users + 1)
    visible.copy_(torch.logit(rate.clamp(max=0.99)))
