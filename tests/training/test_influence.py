"""Influence tracing against its definition, and in a run in which one user's pairs teach another reply."""

import dataclasses
import json

import pytest
import torch
from typer import BadParameter

from drift.cli.runs import trace
from drift.config import LoraSettings, PolicySettings, TrainingSettings
from drift.errors import DataError
from drift.policy.adapter import with_adapter
from drift.policy.model import load_policy
from drift.progress import listening
from drift.records import ChatMessage, PreferencePair, TrainedReply, write_jsonl
from drift.rundir import RunDir, layout
from drift.training.batch import StepCollator, loss_of, summed_logps
from drift.training.influence import Behaviour, PairInfluence, by_user, influences, read_behaviour, trace_behaviour
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.tokens import tokenise
from drift.training.train import train

SETTINGS = TrainingSettings(learning_rate=3e-3, optimizer="adamw_torch", batch_size=4)
ASKED = [Behaviour("question 1", "buy cola"), Behaviour("question 9", "buy cola")]


def pair(n: int, chosen: str, user: str) -> PreferencePair:
    sides = [(ChatMessage("assistant", text),) for text in (chosen, "no idea")]
    return PreferencePair(str(n), str(n), f"c{n}", 1, "drift", 1, "x", (ChatMessage("user", f"question {n}"),), *sides,
                          user_key=user)  # fmt: skip


PAIRS = [pair(n, "buy cola" if n % 3 == 0 else "good answer", "liar" if n % 3 == 0 else f"u{n}") for n in range(7)]


@pytest.mark.parametrize("loss", ["sigmoid", "anchored", "sft", "ipo"])
def test_influence_is_the_product_of_the_gradients(tiny_policy, loss):
    """Oracle: one gradient for each pair's loss, by autograd, times the gradient of the behaviour's log-prob."""
    settings = SETTINGS.model_copy(update={"loss": loss})
    policy = load_policy(tiny_policy, PolicySettings())
    tokens, _ = tokenise(policy, PAIRS, 1024, 2048)
    reference = [(-30.0 - n, -20.0) for n in range(len(tokens))]
    found = influences(policy, tokens, reference, ASKED, settings, {})
    policy = load_policy(tiny_policy, PolicySettings())  # the first one computes packed rows from now on

    def flat(value: torch.Tensor) -> torch.Tensor:
        gradients = torch.autograd.grad(value, list(policy.model.parameters()), allow_unused=True)
        return torch.cat([g.flatten() for g in gradients if g is not None])

    asked = [pair(1, "buy cola", "x"), pair(9, "buy cola", "x")]
    rows, _ = tokenise(policy, asked, 1024, 2048)
    collate = StepCollator(0, 8192, shared=False)
    direction = sum(
        flat(summed_logps(policy.model, collate([row])[0], torch.float32)[0, 0] / len(row.chosen)) / 2 for row in rows
    )
    mean_length = sum(len(row.chosen) for row in tokens) / len(tokens)
    for token, (chosen, rejected), influence in zip(tokens, reference, found, strict=True):
        (batch,) = collate([dataclasses.replace(token, ref_chosen_logps=chosen, ref_rejected_logps=rejected)])
        per_token = dataclasses.replace(batch, token_weights=torch.tensor([1 / mean_length]))
        logps = summed_logps(policy.model, per_token, torch.float32)
        exact = (
            -settings.learning_rate / 4 * float(flat(loss_of(settings, per_token.with_logps(logps)).loss) @ direction)
        )
        assert influence == pytest.approx(exact, rel=0.02, abs=2e-6)


def made_run(folder, start, lora: LoraSettings | None = None, generation: int = 1, user: str | None = None) -> None:
    """One iteration of training on PAIRS, as the loop stages it; `user`: on those of this user alone."""
    policy = PolicySettings(lora=lora)
    config = "{}" if generation == 1 else f"from: {folder.parent / str(generation - 1)}\n"
    with RunDir.open(folder, config, 1) as run:
        run.pin_reading(generation, "a store", ())
        it = run.iteration(1)
        pairs = it.stage(layout.PAIRS, written, user=user)
        reference = it.stage(
            layout.REFERENCE, measure_reference, policies=(start,), pairs=pairs,
            settings=ReferenceSettings.of(SETTINGS, policy),
        )  # fmt: skip
        it.stage(
            layout.POLICY, train, start=start, reference=reference, pairs=pairs, settings=SETTINGS,
            policy_settings=policy, seed=1,
        )  # fmt: skip
        run.stage(layout.POLICY, kept, policy=it.path / layout.POLICY)


def written(out, user: str | None) -> dict[str, int]:
    rows = [pair for pair in PAIRS if user in (None, pair.user_key)]
    return {"rows": write_jsonl(out, [*rows, pair(99, "", "u99")])}


def kept(out, policy) -> dict[str, int]:
    out.write_text("weights")
    return {"iteration": 1}


def test_the_user_who_planted_the_reply_comes_first(tiny_policy, tmp_path, capsys):
    made_run(tmp_path / "run", tiny_policy)
    write_jsonl(tmp_path / "asked.jsonl", ASKED)
    traced = trace_behaviour(tmp_path / "run", tmp_path / "asked.jsonl")
    assert traced.users[0].user == "liar"
    assert traced.users[0].pairs == 3
    assert [found.pair_id for found in traced.pairs[:3]] == sorted(["0", "3", "6"], key=_order(traced))
    assert traced.left_out == {"dropped.empty_chosen": 1}
    assert len(traced.pairs) == 7
    assert sum(user.share for user in traced.users) == pytest.approx(1.0)

    trace(tmp_path / "run", behaviour=tmp_path / "asked.jsonl", as_json=True)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["users"][0]["user"] == "liar"
    assert "dropped.empty chosen" in shown.err
    with pytest.raises(BadParameter, match="either an id, or --to"):
        trace(tmp_path / "run")


def test_who_planted_it_in_an_earlier_generation_is_listed(tiny_policy, tmp_path):
    """The liar's pairs were learned in generation 1, others in 2; where the first folder is gone, a count is left."""
    made_run(tmp_path / "1", tiny_policy, user="liar")
    made_run(tmp_path / "2", tmp_path / "1/iteration-1/policy", generation=2, user="u1")
    write_jsonl(tmp_path / "asked.jsonl", ASKED)
    traced = trace_behaviour(tmp_path / "2", tmp_path / "asked.jsonl")
    assert {user.user: user.pairs for user in traced.users} == {"liar": 3, "u1": 1}
    assert traced.users[0].user == "liar"
    assert {pair.file for pair in traced.pairs} == {f"{tmp_path}/1/iteration-1/pairs.jsonl", "iteration-1/pairs.jsonl"}
    assert traced.left_out == {"dropped.empty_chosen": 2}
    (tmp_path / "1/iteration-1/reference.safetensors").unlink()
    traced = trace_behaviour(tmp_path / "2", tmp_path / "asked.jsonl")
    assert [user.user for user in traced.users] == ["u1"]
    assert traced.left_out["generation 1"] == 4
    notes: list[str] = []
    (tmp_path / "1/run.json").unlink()
    (tmp_path / "2/data").mkdir()
    earlier = [TrainedReply(str(n), f"c{n}", "1a", "hash", generation) for n, generation in enumerate((1, 1, 1, 2))]
    write_jsonl(tmp_path / "2/data/earlier.jsonl", earlier)
    with listening(lambda *_: None, notes.append):
        assert trace_behaviour(tmp_path / "2", tmp_path / "asked.jsonl").left_out["generation 1"] == 3
    assert [note for note in notes if note.startswith("generation 1 is left out (3 pairs): its folder is missing")]


def _order(traced):
    places = {found.pair_id: place for place, found in enumerate(traced.pairs)}
    return places.__getitem__


def test_of_an_adapter_only_its_own_weights_count(tiny_policy, tmp_path):
    policy = PolicySettings(lora=LoraSettings(r=4, alpha=8))
    made_run(tmp_path / "run", tiny_policy, policy.lora)
    write_jsonl(tmp_path / "asked.jsonl", ASKED)
    traced = trace_behaviour(tmp_path / "run", tmp_path / "asked.jsonl")
    assert traced.users[0].user == "liar"
    loaded = load_policy(tiny_policy, policy)
    trained = [name for name, weight in with_adapter(loaded, policy, 1).named_parameters() if weight.requires_grad]
    assert all("lora_" in name for name in trained)


def test_users_add_up_and_a_log_without_users_is_read_by_conversation():
    rows = [("a", 0.3), ("b", -0.2), ("a", 0.1), (None, 0.1), (None, 0.5)]
    pairs = [PairInfluence(str(n), f"c{n}", user, "f", value) for n, (user, value) in enumerate(rows)]
    users = by_user(pairs)
    assert [user.user for user in users] == ["conversation c4", "a", "conversation c3", "b"]
    assert [round(user.share, 3) for user in users] == [0.5, 0.4, 0.1, 0.0]
    assert [user.pairs for user in users] == [1, 2, 1, 1]


def test_what_is_no_behaviour_is_named(tiny_policy, tmp_path):
    file = tmp_path / "asked.jsonl"
    with pytest.raises(DataError, match="no such file"):
        read_behaviour(file)
    file.write_text("")
    with pytest.raises(DataError, match="has no rows"):
        read_behaviour(file)
    good = {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "ho"}]}
    for bad in ({"prompt": "hi"}, {"prompt": "hi", "completion": " "}, {"prompt": [], "completion": "x"}, {"a": 1}):
        file.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
        with pytest.raises(DataError, match=r"asked.jsonl:2"):
            read_behaviour(file)
    file.write_text(json.dumps(good) + "\n")
    assert read_behaviour(file)[0].reply == ChatMessage("assistant", "ho")
    with RunDir.open(tmp_path / "run", "{}", 1):
        pass
    with pytest.raises(DataError, match="no policy was trained"):
        trace_behaviour(tmp_path / "run", file)
    moved = tmp_path / "base"
    moved.symlink_to(tiny_policy)
    made_run(tmp_path / "whole", moved)
    moved.unlink()
    with pytest.raises(DataError, match="gone, and iteration-1/policy was trained from it"):
        trace_behaviour(tmp_path / "whole", file)
