"""The transformer of ``layers/transformer.py`` written out for one list, place by place."""

import torch
from torch import Tensor
from torch.nn import functional as F

from palate.layers.transformer import Transformer


def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    return torch.stack([(row - row.mean()) / (row.var(correction=0) + 1e-8).sqrt() * layer.weight + layer.bias for row in x])


def attended(block: torch.nn.Module, x: Tensor, causal: bool) -> Tensor:
    dim = x.shape[1] // block.heads
    query, key, value = (x @ block.maps.weight.T + block.maps.bias).split(x.shape[1], 1)
    found = []
    for here in range(len(x)):
        heads = []
        for head in range(block.heads):
            part = slice(head * dim, (head + 1) * dim)
            seen = range(here + 1) if causal else range(len(x))
            weights = torch.softmax(torch.stack([query[here, part] @ key[there, part] / dim**0.5 for there in seen]), 0)
            heads.append(sum(weight * value[there, part] for weight, there in zip(weights, seen, strict=True)))
        found.append(block.out.weight @ torch.cat(heads) + block.out.bias)
    return torch.stack(found)


def transformed(model: Transformer, x: Tensor) -> Tensor:
    """``x [L, D]``, a list without padding."""
    x = x + model.places[-len(x) :]
    for block in model.blocks:

        def think(y: Tensor, block: torch.nn.Module = block) -> Tensor:
            activation = torch.relu if block.activation is F.relu else F.gelu
            return activation(y @ block.wide.weight.T + block.wide.bias) @ block.narrow.weight.T + block.narrow.bias

        if block.before:
            x = x + attended(block, norm(x, block.norms[0]), model.causal)
            x = x + think(norm(x, block.norms[1]))
        else:
            x = norm(x + attended(block, x, model.causal), block.norms[0])
            x = norm(x + think(x), block.norms[1])
    return norm(x, model.last) if isinstance(model.last, torch.nn.LayerNorm) else x
