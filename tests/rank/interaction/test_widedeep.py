import torch

from palate.batch import Batch
from palate.contracts import Ranker
from palate.evaluation.metrics.rating import auc
from palate.rank.interaction.mlp import MLP
from palate.rank.interaction.widedeep import WideDeep
from palate.rank.linear.lr import LR
from palate.schema import Feature, Label, Schema
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import columns, exceptions, more

SCHEMA = Schema((Feature("a", "user", "category", 9), Feature("b", "item", "category", 7), Feature("c", "item", "number")), (Label("x"),))
CROSSES = (("user", "item"),)


def test_it_is_the_formula() -> None:
    """w . [x, crosses] + w . a + b, the activations a of the tower's last hidden layer."""
    model = WideDeep(SCHEMA, dim=4, hidden=(6, 5), crosses=(("a", "b"),)).eval()
    model.wide.embedding.reset(0.5)
    model.wide.crossed.weight.data.normal_()
    model.embedding.reset(0.5)
    batch = Batch(columns(SCHEMA, 12))
    fields = model.embedding(batch).flatten(1)
    first, second = model.tower.layers
    deep = torch.relu(first(torch.relu(fields @ model.tower.weight + model.tower.bias)))
    table = model.wide.embedding.table.weight
    wide = table[batch["a"]] + table[9 + batch["b"]] + batch["c"][:, None] * model.wide.embedding.numbers[0]
    wide = wide + model.wide.crossed.weight[1 + batch["a"] + 9 * batch["b"]]
    torch.testing.assert_close(model(batch), wide + second(deep) + model.bias)


def test_the_wide_part_goes_by_ftrl_and_the_rest_by_the_trainer() -> None:
    model = WideDeep(SCHEMA, dim=4, crosses=(("a", "b"),), l1=0.3, l2=0.1, wide_learning_rate=0.7, beta=0.2)
    found = Trainer(tables="adagrad").optimizers(model)
    held = {id(weight) for weight in found["portion0"].param_groups[0]["params"]}
    assert held == {id(weight) for weight in model.wide.parameters()}
    assert found["portion0"].method == "ftrl"  # type: ignore[attr-defined]
    assert {name: found["portion0"].param_groups[0][name] for name in ("lr", "l1", "l2", "beta")} == {"lr": 0.7, "l1": 0.3, "l2": 0.1, "beta": 0.2}
    assert [id(weight) for weight in found["tables"].param_groups[0]["params"]] == [id(model.embedding.table.weight)]


def judged(make: object, share: float) -> float:
    (schema, train), (_, test) = exceptions(more(10_000), 0, share), exceptions(4000, 0, share, part=1)
    torch.manual_seed(0)
    model: Ranker = make(schema)  # type: ignore[operator]
    batch = test.batch(torch.arange(len(test)))
    Trainer(epochs=8, batch_size=256, learning_rate=0.01).fit(model, train)
    with torch.inference_mode():
        return auc(batch["label:take"].numpy(), model.predict(batch)[:, 0].numpy())


def both(schema: Schema) -> WideDeep:
    return WideDeep(schema, dim=8, hidden=(32, 16), crosses=CROSSES, wide_learning_rate=1.0, beta=1 / 256)


def deep(schema: Schema) -> MLP:
    return MLP(schema, dim=8, hidden=(32, 16))


def test_where_rare_pairs_are_exceptions_both_beat_either(beats: Beats) -> None:
    joint = judged(both, 0.5)
    beats(0.05, WideDeep=joint, MLP=judged(deep, 0.5))
    beats(0.02, WideDeep=joint, LR=judged(lambda schema: LR(schema, crosses=CROSSES), 0.5))


def test_where_there_are_no_exceptions_it_loses_little(beats: Beats) -> None:
    beats(-0.01, WideDeep=judged(both, 0.0), MLP=judged(deep, 0.0))
