"""Dify: messages of its APIs and tables, in any order and from several files; trees, thumbs, annotations, agents."""

import pytest

from chats import WRONG, A, B, Q
from drift.logs.readers.apps.dify import unread_in
from drift.records import Rating

CHAT = [("user", Q), ("assistant", A), ("user", WRONG), ("assistant", B)]


def message(name, query, answer, at=0, chat="d1", **more):
    return {
        "id": name, "conversation_id": chat, "inputs": {}, "query": query, "answer": answer, "message_files": [],
        "feedback": None, "created_at": 1716212345 + at, **more,
    }  # fmt: skip


FIRST, SECOND = message("m1", Q, A), message("m2", WRONG, B, 5)


@pytest.mark.parametrize(
    "rows", [[FIRST, SECOND], [SECOND, FIRST], [FIRST, message("x", "hi", "hello", 1, "d2"), SECOND]]
)
def test_messages_of_a_conversation_are_in_the_order_of_time(read, rows):
    told = read(*rows)
    place = next(place for place, one in enumerate(told.conversations) if one.source_id == "d1")
    assert (told.formats, told.texts(place)) == (["dify"], CHAT)
    assert told.conversations[place].started_at == "2024-05-20T13:39:05+00:00"


def test_pages_in_several_files_are_one_conversation(read):
    told = read(page_1=[FIRST], page_2=[SECOND])
    assert (told.texts(), told.reasons) == (CHAT, [])


def test_a_page_of_the_api_is_read(read_files, tmp_path):
    import orjson

    page = {"limit": 20, "has_more": False, "data": [FIRST, SECOND]}
    log = tmp_path / "page.json"
    for option in (0, orjson.OPT_INDENT_2):
        log.write_bytes(orjson.dumps(page, option=option))
        assert read_files(log).texts() == CHAT


@pytest.mark.parametrize(
    ("more", "ratings"),
    [
        ({"feedback": {"rating": "dislike"}}, [Rating(1, "thumb", -1.0)]),
        ({"feedback": {"rating": "like", "content": "good"}}, [Rating(1, "thumb", 1.0, "good")]),
        ({"feedbacks": [{"rating": "dislike", "from_source": "admin"}]}, [Rating(1, "score", -1.0)]),
        ({"annotation": {"content": "4"}}, [Rating(1, "correction", -1.0, preferred="4")]),
        ({"annotation": {"content": A}}, []),
        ({"feedback": {"rating": None}}, []),
    ],
)
def test_likes_and_annotations_are_ratings(read, more, ratings):
    assert list(read({**FIRST, **more}).only.ratings) == ratings


def test_thumbs_in_a_table_of_their_own_are_joined(read):
    told = read(messages=[FIRST], feedbacks=[{"message_id": "m1", "conversation_id": "d1", "rating": "dislike"}])
    assert told.only.ratings == (Rating(1, "thumb", -1.0),)
    assert told.reasons == ["joined_as_evidence"]
    assert read({"message_id": "m9", "conversation_id": "d1", "rating": "like"}).reasons == ["orphan_feedback"]


def test_an_export_of_feedback(read):
    told = read(
        {
            "feedback_id": "f", "conversation_id": "d1", "message_id": "m1", "user_query": Q, "ai_response": A,
            "feedback_rating": "👎", "feedback_rating_raw": "dislike", "feedback_comment": "no",
            "feedback_source": "User Feedback", "message_date": "2024-05-20T13:39:05Z",
        }
    )  # fmt: skip
    assert (told.texts(), told.only.ratings) == (CHAT[:2], (Rating(1, "thumb", -1.0, "no"),))


def test_an_answer_that_was_asked_for_again_is_a_branch(read):
    told = read(
        FIRST,
        message("m2", WRONG, "6", 5, parent_message_id="m1"),
        message("m3", WRONG, B, 9, parent_message_id="m1"),
    )
    found = {one.source_id: [m.content for m in one.messages] for one in told.conversations}
    assert found == {"d1": [Q, A, WRONG, "6"], "d1/m3": [Q, A, WRONG, B]}
    ratings = {one.source_id: [(r.reply_index, r.kind) for r in one.ratings] for one in told.conversations}
    assert ratings == {"d1": [(3, "regeneration")], "d1/m3": []}
    assert len({one.family for one in told.conversations}) == 1


def test_a_whole_conversation_in_one_row(read):
    about = {"id": "d1", "from_end_user_id": "ann", "model_config": {"model": {"name": "x"}, "model_id": "gpt"}}
    inner = [{"id": "m1", "query": Q, "answer": A}, {"id": "m2", "query": WRONG, "answer": B}]
    told = read({"conversation": about, "messages": inner})
    assert (told.texts(), told.only.source_id) == (CHAT, "d1")
    assert (told.only.user_key, told.only.model) == ("ann", "gpt")


def test_files_and_steps_of_an_agent(read):
    step = {"id": "t", "position": 1, "tool": "add", "tool_input": '{"add": {"a": 2}}', "observation": '{"add": "4"}'}
    files = [{"type": "image", "belongs_to": "user"}, {"type": "document", "belongs_to": "assistant"}]
    told = read({**FIRST, "message_files": files, "agent_thoughts": [step, {"position": 2, "tool": ""}]})
    asked, called, answered, reply = told.only.messages
    assert (asked.content, told.only.has_media(0)) == (f"{Q}\n[image]", True)
    assert [(c.function.name, c.function.arguments) for c in called.tool_calls] == [("add", '{"a":2}')]
    assert (answered.role, answered.content, answered.tool_call_id) == ("tool", "4", called.tool_calls[0].id)
    assert reply.content == A


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([{**FIRST, "conversation_id": None}], ["no_messages"]),
        ([{**FIRST, "query": "", "answer": A}], ["no_user_turn"]),
        ([{**FIRST, "query": 7}], ["bad_content"]),
        ([{**FIRST, "answer": [A]}, SECOND], ["bad_content"]),
        ([{**FIRST, "query": None, "answer": None}], ["no_messages"]),
        ([{"messages": []}], ["no_messages"]),
        ([{"conversation_id": "d1", "messages": [{"query": Q, "answer": A}, 5]}], []),
        ([message("m1", Q, A, parent_message_id="m2"), message("m2", Q, A, parent_message_id="m1")], ["cyclic_tree"]),
    ],
)
def test_bad_rows_have_a_named_outcome(read, rows, reasons):
    assert read(*rows, format_name="dify").reasons == reasons


def test_an_answer_that_failed_leaves_the_question(read):
    assert read({**FIRST, "answer": "", "status": "error"}).texts() == CHAT[:1]


@pytest.mark.parametrize(("word", "value"), [("dislike", -1.0), ("like", 1.0), ("👎", -1.0), ("Thumbs Up", 1.0)])
def test_feedback_as_a_word_where_tables_were_joined(read, word, value):
    told = read({**FIRST, "feedback": word, "feedback_comment": "so"})
    assert told.only.ratings == (Rating(1, "thumb", value, "so"),)


def test_a_judgement_that_is_no_word_for_good_or_bad_is_unread():
    unread = [name for feedback in ("meh", 5, None, "", {"rating": None}) for name in unread_in({"feedback": feedback})]
    assert unread == ["feedback", "feedback"]
    assert list(unread_in({"conversation_id": "d1", "messages": [{**FIRST, "rating": "meh"}]})) == ["messages.rating"]


def test_a_parent_of_zeros_is_the_message_before(read):
    """Dify's API writes it for each message; its page then names a parent, and none for a first message asked anew."""
    nil = "00000000-0000-0000-0000-000000000000"
    sent = [
        message("m1", Q, "5", 0, parent_message_id=nil),
        message("m2", WRONG, "6", 5, parent_message_id=nil),
        message("m3", WRONG, B, 9, parent_message_id="m2"),
        message("m4", Q, A, 12, parent_message_id=None),
    ]
    done = read(*sent)
    assert sorted([text for _, text in done.texts(place)] for place in range(len(done.conversations))) == sorted(
        [[Q, "5", WRONG, "6", WRONG, B], [Q, A]]
    )
    assert read(*sent[:2]).texts() == [("user", Q), ("assistant", "5"), ("user", WRONG), ("assistant", "6")]
