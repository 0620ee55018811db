from typing import Any

import torch

from palate.batch import Batch
from palate.datasets.pointwise import Pointwise
from palate.rank.behavior.youtuberank import KNOTS, YouTubeRank
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.behavior.judged import held_out
from tests.worlds import Curved, columns, labelled, schema_of_everything

SCHEMA = schema_of_everything()
SMALL: dict[str, Any] = {"dim": 8, "hidden": (16,), "dropout": 0.0}
FITTING: dict[str, Any] = {"epochs": 6, "batch_size": 128, "learning_rate": 0.02}


def test_the_formula() -> None:
    """tower([fields; x; x^2; sqrt(x)]), the tower's first layer being a sum over its inputs."""
    torch.manual_seed(0)
    model, batch = YouTubeRank(SCHEMA, dim=4, hidden=(6,)).eval(), Batch(columns(SCHEMA, 7))
    for name in model.numbers:
        batch[name] = torch.rand(7)  # the untrained model's quantiles are those of [0, 1]: a number is its own rank
    x = torch.stack([batch[name] for name in model.numbers], 1)
    first = model.embedding(batch).flatten(1) @ model.tower.weight + torch.cat([x, x**2, x**0.5], 1) @ model.of_numbers
    torch.testing.assert_close(model(batch), model.tower.rest(first))


def test_a_number_becomes_its_rank_among_the_training_rows() -> None:
    model, rows = YouTubeRank(SCHEMA), labelled(SCHEMA, 4000)
    values = torch.randn(4000).exp() * 1000 - 5
    values[:1000] = -5.0  # a quarter has the same value
    values[7] = torch.nan
    rows = Pointwise({**columns(SCHEMA, 4000), "year": values}, {label.name: torch.ones(4000) for label in SCHEMA.labels}, torch.arange(4000))
    model.begin(rows)
    place = model.numbers.index("year")
    asked = torch.stack([values[1000:1200], torch.rand(200)], 1)
    shares = model.shares(asked, model.knots[[place, place]])
    wanted = (values[torch.isfinite(values)][None] <= asked[:, :1]).float().mean(1)
    torch.testing.assert_close(shares[:, 0], wanted, atol=1 / (KNOTS - 1), rtol=0)
    torch.testing.assert_close(shares[:, [2, 4]], torch.stack([shares[:, 0] ** 2, shares[:, 0] ** 0.5], 1))
    strange = model.shares(torch.tensor([[torch.nan], [torch.inf], [-1e9], [1e9], [-5.0]]), model.knots[[place]])[:, 0]
    torch.testing.assert_close(strange[:4], torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert abs(float(strange[4]) - 0.25) < 2 / KNOTS


def test_squares_and_roots_help_where_odds_rise_and_fall(beats: Beats) -> None:
    world = Curved(4000)
    found = held_out(YouTubeRank, world, 2000, SMALL, **FITTING)
    beats(0.03, YouTubeRank=found, without_powers=held_out(YouTubeRank, world, 2000, {**SMALL, "powers": False}, **FITTING))
    beats(0.05, YouTubeRank=found, MLP=held_out(MLP, world, 2000, SMALL, **FITTING))


def test_they_do_no_harm_where_odds_only_rise(beats: Beats) -> None:
    world = Curved(4000, curved=False)
    beats(-0.01, YouTubeRank=held_out(YouTubeRank, world, 2000, SMALL, **FITTING), MLP=held_out(MLP, world, 2000, SMALL, **FITTING))
