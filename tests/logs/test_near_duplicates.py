"""Near-duplicates: noted, never lost, and no pair is made of them twice."""

import random

import pytest

from drift.errors import DataError
from drift.logs.near_duplicates import find_near_duplicates, signature
from drift.pairs.disliked import prompt_items
from drift.pairs.liked import liked_items
from drift.pairs.unjudged import follow_up_items
from drift.records import Conversation, Drop, FeedbackLabel, Message, PromptItem, Reason, Split
from drift.store import Store

WORDS = [f"w{number}" for number in range(400)]


def talk(name: str, words: list[str]) -> Conversation:
    said = (Message("user", " ".join(words[:100])), Message("assistant", " ".join(words[100:])), Message("user", "no"))
    return Conversation(name, "test", None, said, "train")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def test_what_nearly_repeats_an_earlier_one_is_noted_and_kept(store):
    rng = random.Random(0)
    texts = [rng.choices(WORDS, k=300) for _ in range(20)]
    store.add([talk(f"{n:02}", text) for n, text in enumerate(texts)])
    store.add(
        [
            talk("50", [*texts[3], "thanks"]),
            talk("51", ["well", *texts[3]]),
            talk("52", texts[3][:150] + texts[4][150:]),
        ]
    )
    before = store.fingerprint()
    assert find_near_duplicates(store).near_duplicates == 2
    assert {(r.conversation_id, r.of) for r in store.repeats()} == {("50", "03"), ("51", "03")}
    assert all(repeat.alike >= 0.8 for repeat in store.repeats())
    assert store.counts().conversations == 23
    assert store.fingerprint() != before
    store.forget(conversation="51")
    assert [repeat.conversation_id for repeat in store.repeats()] == ["50"]


def test_unseen_characters_and_missing_spaces_hide_no_repeat(store):
    spaceless = (
        "\u6211\u60f3\u77e5\u9053\u8fd9\u4e2a\u95ee\u9898\u7684\u7b54\u6848" * 3
        + "\u5929\u5730\u4eba\u548c\u65e5\u6708\u661f\u8fb0\u5c71\u6c34\u98ce\u4e91"
    )
    text = " ".join(WORDS)
    texts = {
        "a": text,
        "b": text.replace("w1", "w\u200b1"),
        "c": text.upper(),
        "d": spaceless,
        "e": spaceless + "\u4e86",
    }
    store.add([Conversation(name, "test", None, (Message("user", each),), "train") for name, each in texts.items()])
    assert find_near_duplicates(store).near_duplicates == 3
    assert {(r.conversation_id, r.of) for r in store.repeats()} == {("b", "a"), ("c", "a"), ("e", "d")}


def test_nothing_is_left_behind_by_a_command_that_is_killed(store, monkeypatch):
    store.add([talk("a", WORDS)])
    entries = sorted(store.path.iterdir())

    def looked(conversation):
        assert sorted(store.path.iterdir()) == entries
        return signature(conversation)

    monkeypatch.setattr("drift.logs.near_duplicates.signature", looked)
    assert find_near_duplicates(store).conversations == 1


def test_pairs_are_made_of_the_first_alone():
    told = [(talk(name, WORDS), [FeedbackLabel(name, 1, 2, "DSAT", "rating", "1")]) for name in ("a", "b")]
    first, repeat = prompt_items(told, 0.5, repeats=frozenset({"b"}))
    assert isinstance(first, PromptItem)
    assert isinstance(repeat, Drop)
    assert repeat.reason == Reason.NEAR_DUPLICATE_CONVERSATION


def test_a_repeat_is_counted_as_one_whatever_else_speaks_against_its_reply():
    """So that the funnel counts a row alike, whether its reply is disliked, liked or followed by a message."""
    empty = talk("b", WORDS[:100])
    labels = {verdict: [FeedbackLabel("b", 1, 2, verdict, "rating", "1")] for verdict in ("DSAT", "SAT")}
    repeats = frozenset({"b"})
    for rows in (
        prompt_items([(empty, labels["DSAT"])], 0.5, repeats=repeats),
        liked_items([(empty, labels["SAT"])], repeats=repeats),
        follow_up_items([(empty, [])], repeats),
    ):
        (row,) = rows
        assert isinstance(row, Drop)
        assert row.reason == Reason.NEAR_DUPLICATE_CONVERSATION


def path(name: str, *texts: str, family: str | None = None, split: Split = "train") -> Conversation:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[place % 2], text) for place, text in enumerate(texts))
    return Conversation(name, "test", None, messages, split, family=family)


def repeated(store: Store) -> set[tuple[str, str]]:
    find_near_duplicates(store)
    return {(repeat.conversation_id, repeat.of) for repeat in store.repeats()}


TURNS = [" ".join(random.Random(turn).choices(WORDS, k=40)) for turn in range(20)]


def test_paths_of_one_chat_repeat_each_other_never_and_other_chats_as_ever(store):
    last = [*TURNS[:-1], "Sorry, it is 5."]
    store.add(
        [
            path("a", *TURNS, family="f"),
            path("b", *last, family="g"),  # another chat with nearly the same texts
            path("c", *last, family="f"),
            path("d", "Well: " + TURNS[0], *TURNS[1:], family="f"),  # another chat of the session: it begins anew
            path("e", *last),
        ]
    )
    assert repeated(store) == {("b", "a"), ("d", "a"), ("e", "a")}


def test_a_chat_that_was_logged_as_it_grew_repeats_nothing(store):
    store.add(
        [
            path("a", *TURNS[:18]),
            path("b", *TURNS[:16]),
            path("c", *TURNS),
            path("d", *TURNS),  # the same once more
            path("e", *TURNS[:18], split="test"),  # a turn less must not bring a chat of the training split back
        ]
    )
    assert repeated(store) == {("d", "c"), ("e", "c")}


def test_short_and_empty_conversations_have_a_signature_too(store):
    with pytest.raises(DataError, match="holds no conversations"):
        find_near_duplicates(store)
    store.add(
        [Conversation(name, "test", None, (Message("user", text),), "train") for name, text in (("a", ""), ("b", "hi"))]
    )
    assert find_near_duplicates(store).near_duplicates == 0
