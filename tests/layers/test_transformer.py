import torch

from palate.layers.towers import Dropout
from palate.layers.transformer import Transformer


def test_training_differs_from_answering_by_what_is_dropped_alone() -> None:
    torch.manual_seed(0)
    model, x = Transformer(8, 5, blocks=2, heads=2, dropout=0.5), torch.randn(3, 5, 8)
    there = torch.tensor([[False, False, True, True, True], [True] * 5, [False] * 4 + [True]])
    plain = model.eval()(x, there)[there]
    assert not torch.allclose(model.train()(x, there)[there], plain)
    for part in model.modules():
        if isinstance(part, Dropout):
            part.dropped = 0
    torch.testing.assert_close(model.train()(x, there)[there], plain)


def test_attention_itself_is_thinned_in_training() -> None:
    torch.manual_seed(0)
    model = Transformer(8, 1, blocks=1, dropout=0.5)
    block, x = model.blocks[0], torch.randn(400, 1, 8)
    block.dropout.forward, drawn = lambda values: values, block.dropout.forward
    seen = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    whole = block.train()._attend(x, seen)
    block.dropout.forward = lambda values: drawn(values) if values.dim() == 4 else values  # the weights of each head alone
    left = ((block._attend(x, seen) - block.out.bias).abs().sum((1, 2)) > 1e-6).float().mean()
    assert 0.4 < float(left) < 0.6
    assert float(((whole - block.out.bias).abs().sum((1, 2)) > 1e-6).float().mean()) == 1
