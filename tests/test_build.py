from typing import Literal

import pytest

from palate.build import OptionError, build
from palate.schema import Feature, MissingFeature, Schema


class Thing:
    def __init__(
        self,
        schema: Schema,
        dim: int = 16,
        hidden: tuple[int, ...] = (2,),
        rate: float = 0.1,
        mode: Literal["fast", "exact"] = "fast",
        cap: int | None = None,
        powers: dict[str, float] | None = None,
    ) -> None:
        if dim < 1:
            raise ValueError("dim must be positive")
        self.schema, self.dim, self.hidden, self.rate, self.mode, self.cap, self.powers = schema, dim, hidden, rate, mode, cap, powers


SCHEMA = Schema((Feature("user_id", "user", "category", 5), Feature("age", "user", "number"), Feature("item_id", "item", "category", 9)))


def test_options_become_arguments_and_provided_objects_fill_types():
    thing = build(Thing, {"dim": 4, "hidden": [8, 4], "rate": 1, "mode": "exact", "cap": 3, "powers": {"a": 1}}, SCHEMA)
    assert (thing.schema, thing.dim, thing.hidden, thing.rate, thing.mode, thing.cap) == (SCHEMA, 4, (8, 4), 1.0, "exact", 3)
    assert isinstance(thing.rate, float)
    assert thing.powers == {"a": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimm": 4}, "here: Thing has no option 'dimm'; did you mean 'dim'?"),
        ({"schema": 1}, "here: Thing has no option 'schema'"),
        ({"dim": "4"}, "here: option 'dim' of Thing must be int, not '4'"),
        ({"dim": True}, "here: option 'dim' of Thing must be int, not True"),
        ({"dim": 1.5}, "must be int, not 1.5"),
        ({"rate": "x"}, "must be float, not 'x'"),
        ({"hidden": [1, "a"]}, "option 'hidden' of Thing must be"),
        ({"mode": "fats"}, "did you mean 'fast'"),
        ({"cap": "x"}, "option 'cap' of Thing must be"),
        ({"dim": 0}, "here: Thing: dim must be positive"),
    ],
)
def test_every_mistake_names_the_option_and_what_was_wanted(options, message):
    with pytest.raises(OptionError) as caught:
        build(Thing, options, SCHEMA, where="here")
    assert message in str(caught.value)


def test_what_is_neither_given_nor_provided_is_named():
    with pytest.raises(OptionError, match="Thing needs the option 'schema'"):
        build(Thing, {})


def test_a_schema_says_what_is_missing_and_splits_by_owner():
    with pytest.raises(MissingFeature, match="did you mean 'user_id'"):
        SCHEMA["userid"]
    with pytest.raises(MissingFeature, match="part = 'history'"):
        SCHEMA.part("history")
    assert [f.name for f in SCHEMA.only("user").features] == ["user_id", "age"]
    assert Schema.from_json(SCHEMA.to_json()) == SCHEMA
    with pytest.raises(ValueError, match="same name: age"):
        Schema((Feature("age", "user", "number"), Feature("age", "user", "number")))
