import pytest
import torch

from palate.layers.memory import InterestMemory, State


def made(slots: int = 3, k: int = 2) -> InterestMemory:
    torch.manual_seed(0)
    memory = InterestMemory(4, slots, k)
    torch.nn.init.normal_(memory.balance.weight)
    torch.nn.init.normal_(memory.heads.bias)
    return memory


def gru(given: torch.Tensor, recurrent: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    (r, u, c), (hr, hu, hc) = given.chunk(3), (state @ recurrent).chunk(3)
    update = torch.sigmoid(u + hu)
    return (1 - update) * state + update * torch.tanh(c + torch.sigmoid(r + hr) * hc)


def address(memory: InterestMemory, key: torch.Tensor, sharpness: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    key, near = torch.tanh(key), []
    for slot, own in zip(slots, memory.keys, strict=True):
        of_slot = key @ slot / (key.norm() * slot.norm()) if slot.norm() > 0 else torch.zeros(())
        near.append((of_slot + key @ own / (key.norm() * own.norm())) / 2)
    scores = (2 * (1 + torch.nn.functional.softplus(sharpness)) * torch.stack(near)).exp()
    return scores / scores.sum()


def asked(memory: InterestMemory, event: torch.Tensor, s: State) -> tuple[torch.Tensor, ...]:
    """The controller's state, both addresses, erase and add, and the event's share in the induction unit."""
    share, induced = memory.of_event(event).split(12)
    controller = gru(share + s["read"] @ memory.of_read, memory.controller, s["controller"])
    read_key, write_key, erase, add, sharpness = memory.heads(controller).split([4, 4, 4, 4, 2])
    read, write = address(memory, read_key, sharpness[0], s["slots"]), address(memory, write_key, sharpness[1], s["slots"])
    return controller, read, write, torch.sigmoid(erase), torch.tanh(add), induced


def by_hand(memory: InterestMemory, events: torch.Tensor) -> State:
    """One user, slot by slot, in the words of the docstring."""
    m = memory.count
    s = {"slots": torch.zeros(m, 4), "controller": torch.zeros(4), "read": torch.zeros(4), "use": torch.zeros(m), "channels": torch.zeros(m, 4)}
    for event in events:
        controller, read, write, erase, add, induced = asked(memory, event, s)
        transfer = memory.balance(s["use"]).view(m, m).softmax(1)
        write = sum(write[i] * transfer[i] for i in range(m))
        channels = s["channels"].clone()
        for i in sorted(range(m), key=lambda i: -float(read[i].detach()))[: memory.k]:
            channels[i] = gru(induced + s["slots"][i] @ memory.of_slot, memory.induction, s["channels"][i])
        s = {
            "read": sum(read[i] * s["slots"][i] for i in range(m)),
            "slots": torch.stack([(1 - write[i] * erase) * s["slots"][i] + write[i] * add for i in range(m)]),
            "controller": controller,
            "use": s["use"] + write,
            "channels": channels,
        }
    return s | {"sum": events.sum(0)}


def test_each_users_state_by_hand_and_padding_changes_nothing() -> None:
    memory, lengths = made(), (5, 2, 0, 4)
    events, mask = torch.randn(4, 5, 4), torch.arange(5) < torch.tensor(lengths)[:, None]
    found = memory(events * mask[:, :, None], mask, memory.empty(4))
    for row, length in enumerate(lengths):
        for name, wanted in by_hand(memory, events[row, :length]).items():
            torch.testing.assert_close(found[name][row], wanted, msg=lambda text, name=name, row=row: f"{name} of row {row}: {text}")
    torch.testing.assert_close(found["use"].sum(1), torch.tensor(lengths).float())


def test_what_a_candidate_calls_up_by_hand() -> None:
    memory = made()
    state = memory(torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.bool), memory.empty(2))
    candidates = torch.randn(2, 4)
    for row in range(2):
        mine = {name: values[row] for name, values in state.items()}
        controller, read, *_ = asked(memory, candidates[row], mine)
        torch.testing.assert_close(memory.look(candidates, state)[row], torch.cat([controller, read @ mine["slots"]]))
    one = {name: values[:1] for name, values in state.items()}
    same = {name: values.expand(2, *values.shape[1:]) for name, values in one.items()}
    torch.testing.assert_close(memory.look(candidates, one), memory.look(candidates, same))


def test_at_first_writing_is_the_plain_machines() -> None:
    torch.manual_seed(0)
    memory = InterestMemory(4, 3, 1)
    transfer = memory.balance(torch.rand(1, 3)).view(3, 3).softmax(1)
    assert float(transfer.diagonal().min().detach()) > 0.95


@pytest.mark.parametrize(("slots", "k", "text"), [(0, 1, "slots must be 1 or more"), (3, 4, "k must be 1 to slots"), (3, 0, "k must be 1 to slots")])
def test_sizes_that_cannot_be(slots: int, k: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        InterestMemory(4, slots, k)
