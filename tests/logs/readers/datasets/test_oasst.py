"""OpenAssistant: one message per row and one tree per row; ranks are scores, siblings are no regenerations."""

import pytest

Q, A, B, C = "What is 2+2?", "5", "4", "6"


def message(name, parent, text, role="assistant", rank=None, **more):
    return {
        "message_id": name, "parent_id": parent, "user_id": f"u{name}", "text": text, "role": role, "lang": "en",
        "created_date": f"2023-02-05T14:0{name}:00+00:00", "message_tree_id": "1", "rank": rank, **more,
    }  # fmt: skip


FLAT = [
    message("1", None, Q, "prompter"),
    message("2", "1", A, rank=2.0),
    message("3", "1", B, rank=0),
    message("4", "1", C, rank=1),
]


def replies(told):
    return {one.messages[-1].content: [r.value for r in one.ratings] for one in told.conversations}


@pytest.mark.parametrize("rows", [FLAT, FLAT[::-1]])
def test_messages_in_rows_are_put_together(read, rows):
    told = read(*rows)
    assert told.formats == ["oasst"]
    assert replies(told) == {A: [-1.0], B: [1.0], C: [0.0]}
    assert {(one.language, one.started_at, one.user_key) for one in told.conversations} == {
        ("en", "2023-02-05T14:01:00+00:00", "u1")
    }
    assert {r.kind for one in told.conversations for r in one.ratings} == {"score"}
    assert len({one.family for one in told.conversations}) == 1


def test_a_tree_in_one_row(read):
    more = {"message_id": "5", "text": "Thanks", "role": "prompter", "replies": []}
    best = {"message_id": "3", "text": B, "role": "assistant", "rank": 0, "replies": [more]}
    worst = {"message_id": "2", "text": A, "role": "assistant", "rank": 1}
    prompt = {"message_id": "1", "text": Q, "role": "prompter", "lang": "en", "replies": [worst, best]}
    told = read({"message_tree_id": "1", "tree_state": "ready_for_export", "prompt": prompt})
    found = {one.source_id: [m.content for m in one.messages] for one in told.conversations}
    assert (told.formats, found) == (["oasst"], {"1": [Q, A], "1/3": [Q, B, "Thanks"]})
    assert {one.source_id: [(r.reply_index, r.value) for r in one.ratings] for one in told.conversations} == {
        "1": [(1, -1.0)], "1/3": [(1, 1.0)],
    }  # fmt: skip


def test_replies_without_ranks_are_not_judged(read):
    told = read(FLAT[0], message("2", "1", A), message("3", "1", B))
    assert replies(told) == {A: [], B: []}


def test_deleted_messages_are_left_out(read):
    assert [m.content for m in read(FLAT[0], message("2", "1", A, deleted=True)).only.messages] == [Q]


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (message("1", None, 5, "prompter"), ["bad_content"]),
        (message("1", None, Q, "alien"), ["unknown_role"]),
        (message("2", "1", A), ["no_user_turn"]),
        ({**FLAT[0], "message_tree_id": None}, ["no_messages"]),
        ({"prompt": {"text": Q, "role": "prompter", "replies": [5]}}, ["not_an_object"]),
        ({"prompt": {"text": Q, "role": "prompter", "replies": 5}}, []),
        (message("1", "1", Q, "prompter"), []),
    ],
)
def test_bad_rows_have_a_named_outcome(read, row, reasons):
    assert read(row, format_name="oasst").reasons == reasons


def test_a_tree_a_thousand_messages_deep(read):
    rows = [message("1", None, Q, "prompter")]
    rows += [{**message("1", str(n), f"text {n}", "prompter" if n % 2 == 0 else "assistant"), "message_id": str(n + 1)}
             for n in range(1, 1000)]  # fmt: skip
    assert len(read(*rows).only.messages) == 1000
