"""Identity, splits and text of conversations."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.logs.draft import ConversationDraft, finish, messages_of, split_of, text_of, time_of
from drift.logs.files.rows import MAX_ROW_BYTES, Place, Unusable
from drift.records import Message, Reason


def draft(*texts: str, first: str = "user", **fields) -> ConversationDraft:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    messages = tuple(Message(roles[index % 2], text) for index, text in enumerate(texts))  # type: ignore[arg-type]
    return ConversationDraft(Place(1), messages, **fields)


def identity(found: ConversationDraft, source: str = "s") -> str:
    return finish(found, source, user_key=str.upper).conversation_id


def test_without_an_id_what_leads_to_the_first_reply_is_the_identity():
    assert identity(draft("q", "a")) == identity(draft("q", "a", "more", "b"))
    assert identity(draft("q", "a")) != identity(draft("q", "other"))
    assert identity(draft("q", "a")) != identity(draft("q", "a"), source="t")
    assert identity(draft("x", "q", "a", first="assistant")) == identity(draft("x", "q", "a", "r", first="assistant"))
    assert identity(draft("x", "q", "a", first="assistant")) != identity(draft("x", "q", "b", first="assistant"))


def test_without_an_id_the_user_is_part_of_the_identity():
    assert identity(draft("q", "a", user="ann")) == identity(draft("q", "a", "more", user="ann"))
    assert len({identity(draft("q", "a", user=user)) for user in ("ann", "bob", None)}) == 3
    assert identity(draft("q", source_id="1", user="ann")) == identity(draft("q", source_id="1", user="bob"))


def test_an_id_is_the_identity_whatever_is_said():
    assert identity(draft("q", "a", source_id="1")) == identity(draft("other", source_id="1"))


def test_a_conversation_too_large_is_refused():
    with pytest.raises(Unusable) as caught:
        identity(draft("x" * (MAX_ROW_BYTES + 1)))
    assert caught.value.reason is Reason.TOO_LARGE


def test_the_user_is_known_by_the_key_alone():
    assert finish(draft("q", user="ann"), "s", user_key=str.upper).user_key == "ANN"
    assert finish(draft("q"), "s", user_key=str.upper).user_key is None


def test_splits_have_their_shares_and_do_not_move():
    found = Counter(split_of(f"conversation-{number}") for number in range(20_000))
    shares = {"train": 0.80, "stop": 0.05, "validation": 0.05, "test": 0.10}
    assert {split: pytest.approx(found[split] / 20_000, abs=0.01) for split in shares} == shares
    assert split_of("conversation-0") == split_of("conversation-0")


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_every_text_can_be_written_as_utf8(text):
    clean = text_of(text, "message 0")
    assert clean.encode().decode() == clean
    assert [a for a in clean if a.isascii()] == [a for a in text if a.isascii()]


def test_half_characters_are_replaced_and_pairs_are_joined():
    assert text_of("a\ud800b", "x") == "a\ufffdb"
    assert text_of("\ud83d\ude00", "x") == "\U0001f600"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("yesterday", "yesterday"),
        (0, "1970-01-01T00:00:00+00:00"),
        (1_700_000_000, "2023-11-14T22:13:20+00:00"),
        (1_700_000_000_000, "2023-11-14T22:13:20+00:00"),
        (float("nan"), None),
        (-5, "1969-12-31T23:59:55+00:00"),
        (-62_000_000_000, "0005-04-19T09:46:40+00:00"),
        (1_700_000_000_000_000, "2023-11-14T22:13:20+00:00"),
        (1_700_000_000_000_000_000, "2023-11-14T22:13:20+00:00"),
        (-1_700_000_000_000_000_000, "1916-02-18T01:46:40+00:00"),
        (1e300, None),
        (True, None),
    ],
)
def test_times_in_seconds_and_milliseconds_become_iso(value, expected):
    assert time_of(value) == expected


@pytest.mark.parametrize("role", ["User", "HUMAN", "user"])
def test_roles_are_known_in_any_case(role):
    assert messages_of([{"role": role, "content": "x"}])[0].role == "user"
