"""What a run was trained on is not held out, however the run split its store."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drift.cli import app
from drift.evals.pairwise.heldout import heldout_requests
from drift.experiments.explore import ExploreSettings, estimate_exploration
from drift.gate.guards import GUARDS
from drift.gate.plan import GateSettings, plan_gate
from drift.pairs.candidates import item_of_turn
from drift.records import ChatMessage, Conversation, FeedbackLabel, Message, PromptItem, write_jsonl
from drift.run import read_mark
from drift.rundir import RunDir, layout, load_run
from drift.store import Store

HELD_OUT_BY_HASH = (1, 2, 3, 4, 20)
JUDGE = "http://127.0.0.1:9/v1#judge"


def fill(path: Path, days: Iterable[int]) -> Store:
    """One write with a chat of each day; each has a disliked reply."""
    store = Store(path)
    store.add(disliked(day) for day in days)
    store.add_labels(FeedbackLabel(f"c{day:02d}", 1, 2, "DSAT", "embedded", "1", subtype="wrong") for day in days)
    return store


def disliked(day: int) -> Conversation:
    messages = (Message("user", f"day {day}"), Message("assistant", "logged"), Message("user", "No, wrong."))
    split = "test" if day in HELD_OUT_BY_HASH else "train"
    return Conversation(f"c{day:02d}", "s", None, messages, split, started_at=f"2024-01-{day:02d}T12:00:00+00:00")


def make_run(path: Path, store: Store, split: str, parent: Path | None = None) -> Path:
    """A run that has read the store, and a policy of it."""
    earlier = load_run(parent).state.read if parent else ()
    with RunDir.open(path, f"store: {store.path}\nevaluation: {{split: {split}}}\n", 0) as run:
        opened = Store(store.path, "time" if split == "time" else "hash", earlier)
        run.pin_reading(len(earlier) + 1, store.store_id(), (*earlier, read_mark(opened, 20)))
    (path / layout.POLICY).mkdir()
    return path


def days_in(requests: Iterable[tuple[ChatMessage, ...]]) -> set[int]:
    return {int(messages[-1].content.removeprefix("day ")) for messages in requests}


def days_asked(store: Store, *models: Path | str) -> set[int]:
    items = heldout_requests(list(map(str, models)), store.path, "disliked", 100).items
    return days_in(item.request.messages for item in items)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fill(tmp_path / "store", range(1, 21))


def test_a_run_in_time_order_is_asked_the_latest_requests(tmp_path, store):
    run, hashed = make_run(tmp_path / "run", store, "time"), make_run(tmp_path / "hashed", store, "hash")
    for models in ((run, "logs"), (run / layout.POLICY, "embedded"), ("replies.jsonl", run)):
        assert days_asked(store, *models) == {18, 19, 20}
    assert days_asked(store, hashed, "logs") == days_asked(store, "embedded", "logs") == set(HELD_OUT_BY_HASH)


def test_what_either_of_two_runs_was_trained_on_is_left_out(tmp_path, store):
    run, hashed = make_run(tmp_path / "run", store, "time"), make_run(tmp_path / "hashed", store, "hash")
    assert days_asked(store, run, hashed) == days_asked(store, hashed, run) == {20}
    assert heldout_requests([str(hashed), str(run)], store.path, "all", 100).seen_in_training == 4


def test_a_runs_own_requests_leave_out_what_the_other_run_was_trained_on(tmp_path, store):
    """Without --store: of the days that the first run held out, the other was trained on all but one."""
    run, hashed = make_run(tmp_path / "run", store, "time"), make_run(tmp_path / "hashed", store, "hash")
    (run / "data").mkdir()
    write_jsonl(
        run / layout.HELDOUT,
        (PromptItem(f"p{n}", f"c{n}", 1, (ChatMessage("user", f"day {n}"),), "test") for n in (18, 19, 20)),
    )
    alone, both = (heldout_requests([str(run), other], None, "disliked", 100) for other in ("logs", str(hashed)))
    assert days_in(item.request.messages for item in alone.items) == {18, 19, 20}
    assert days_in(item.request.messages for item in both.items) == {20}
    assert both.seen_in_training == 2


def test_whose_a_request_is_comes_with_it(tmp_path):
    """Of a store and of a run alike: the user, else what continues one chat, else the conversation."""
    kept = [
        ("a", "u", "f", "u", "f"),
        ("b", None, "f", "f", "f"),
        ("c", None, None, "c", "c"),
        ("d", "u", None, "u", "d"),
    ]
    store = Store(tmp_path / "store")
    messages = (Message("user", "request"), Message("assistant", "logged"), Message("user", "No, wrong."))
    chats = [
        Conversation(name, "s", None, (Message("user", name), *messages[1:]), "test", user_key=user, family=family)
        for name, user, family, *_ in kept
    ]
    store.add(chats)
    store.add_labels(FeedbackLabel(name, 1, 2, "DSAT", "embedded", "1") for name, *_ in kept)
    run = make_run(tmp_path / "run", store, "hash")
    (run / "data").mkdir()
    candidates = (item_of_turn(chat, 1, liked=False) for chat in chats)
    write_jsonl(run / layout.HELDOUT, candidates)
    for source in (store.path, None):
        items = heldout_requests([str(run), "logs"], source, "disliked", 100).items
        assert {(item.conversation_id, item.user, item.chat) for item in items} == {
            (name, user, chat) for name, _, _, user, chat in kept
        }
    ordinary = GateSettings(
        "embedded", "embedded", tmp_path / "out", store.path, judge=JUDGE, without=(*GUARDS,), max_prompts=100
    )
    lines = plan_gate(ordinary, None).lines(ordinary)
    assert "target: judge on 4 requests of 3 users, each of which counts once" in lines


def test_generations_of_a_chain_share_what_is_held_out(tmp_path, store):
    """Also after the store has grown: the first generation was not trained on what came after it."""
    first = make_run(tmp_path / "1", store, "time")
    fill(store.path, range(21, 26))
    second = make_run(tmp_path / "2", store, "time", first)
    held_out = days_asked(store, second)
    assert {18, 19, 20, 25} <= held_out
    fill(store.path, range(26, 31))
    assert days_asked(store, second, first) == days_asked(store, second) > held_out


def test_in_another_store_a_run_is_asked_what_is_later_than_its_training(tmp_path, store):
    """Its writes are numbered otherwise. Day 24 came first here, and the days of the training last."""
    run = make_run(tmp_path / "run", store, "time")
    for days in ([24], range(16, 20), range(1, 8)):
        other = fill(tmp_path / "other", days)
    assert days_asked(other, run) == {18, 19, 24}


def test_the_commands_ask_by_the_runs_own_split(tmp_path, store):
    run = make_run(tmp_path / "run", store, "time")
    options = ["--store", str(store.path), "--judge", JUDGE, "--out", str(tmp_path / "out"), "--dry-run", "--json"]
    compared = CliRunner().invoke(app, ["eval", "pairwise", str(run), *options])
    assert compared.exit_code == 0, compared.output
    assert json.loads(compared.stdout[compared.stdout.index("{") :])["prompts"] == 3
    settings = ExploreSettings(JUDGE, store=store.path, prompts=100, samples=2)
    assert estimate_exploration(["embedded", str(run)], settings, tmp_path / "map").questions == 2 * 2 * 3 * 2
    for models in ((str(run), "embedded"), ("embedded", str(run))):
        gate = GateSettings(*models, tmp_path / "gate", store.path, judge=JUDGE, without=tuple(GUARDS))
        plan = plan_gate(gate, None)
        assert days_in(complaint.request.messages for complaint in plan.complaints) == {18, 19, 20}
