"""LMArena, MT-Bench and the log of FastChat: two sides, one vote."""

import orjson
import pytest

from chats import WRONG, A, B, Q, bot, user


def pair(winner, **more):
    return {
        "question_id": "1", "model_a": "x", "model_b": "y", "winner": winner, "judge": "ann", "turn": 1,
        "conversation_a": [user(Q), bot(A)], "conversation_b": [user(Q), bot(B)], "language": "English",
        "tstamp": 1735689600.0, **more,
    }  # fmt: skip


def votes(told):
    return {one.model: [(r.reply_index, r.kind, r.value) for r in one.ratings] for one in told.conversations}


UP, DOWN = [(1, "thumb", 1.0)], [(1, "thumb", -1.0)]


@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        ("model_b", {"x": DOWN, "y": UP}),
        ("model_a", {"x": UP, "y": DOWN}),
        ("tie", {"x": [], "y": []}),
        ("tie (bothbad)", {"x": DOWN, "y": DOWN}),
        ("both_bad", {"x": DOWN, "y": DOWN}),
    ],
)
def test_a_vote_is_a_thumb_on_each_side(read, winner, expected):
    told = read(pair(winner))
    assert (told.formats, votes(told)) == (["lmarena"], expected)
    first, second = told.conversations
    assert (first.user_key, first.language, first.started_at) == ("ann", "English", "2025-01-01T00:00:00+00:00")
    assert first.family == second.family
    assert "ann" not in str(first.source_id)


def test_votes_of_two_judges_on_one_question_are_two_conversations(read):
    told = read(pair("model_b"), pair("model_a", judge="ben"))
    assert len({one.conversation_id for one in told.conversations}) == 4
    assert len({one.split for one in told.conversations}) == 1


def test_prompts_and_replies_in_lists(read):
    row = {
        "id": 7, "model_a": "x", "model_b": "y", "prompt": orjson.dumps([Q, WRONG]).decode(),
        "response_a": orjson.dumps([A, "6"]).decode(), "response_b": [B, None],
        "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
    }  # fmt: skip
    told = read(row)
    assert [text for _, text in told.texts(0)] == [Q, A, WRONG, "6"]
    assert [text for _, text in told.texts(1)] == [Q, B, WRONG]
    assert votes(told) == {"x": [(3, "thumb", -1.0)], "y": [(1, "thumb", 1.0)]}


def test_contents_in_parts(read):
    told = read(pair("model_a", conversation_a=[{"role": "user", "content": [{"type": "text", "text": Q}]}, bot(A)]))
    assert told.texts(0) == [("user", Q), ("assistant", A)]


def test_the_log_of_a_server(read):
    def state(model, reply):
        return {"model_name": model, "offset": 1, "messages": [["USER", "example"], ["USER", Q], ["ASSISTANT", reply]]}

    row = {"tstamp": 1735689600.0, "type": "leftvote", "models": ["", ""], "states": [state("x", A), state("y", B)]}
    told = read({**row, "ip": "ann"})
    assert (told.formats, votes(told)) == (["lmarena"], {"x": UP, "y": DOWN})
    assert told.texts(0) == [("user", Q), ("assistant", A)]
    one = {"tstamp": 1735689600.0, "type": "downvote", "model": "x", "state": state("x", A)}
    assert votes(read(one)) == {"x": DOWN}
    assert read({**one, "type": "chat"}).reasons == ["not_a_chat"]


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (pair("nobody"), ["bad_content"]),
        (pair("model_a", conversation_a=[]), ["no_messages"]),
        (pair("model_a", conversation_a=None), ["no_messages"]),
        (pair("model_a", conversation_a=7), ["no_messages"]),
        (pair("model_a", conversation_a=[bot(A)]), ["no_user_turn"]),
        ({"states": None, "tstamp": 1, "type": "tievote"}, ["no_messages"]),
    ],
)
def test_bad_rows_have_a_named_outcome(read, row, reasons):
    assert read(row, format_name="lmarena").reasons == reasons
