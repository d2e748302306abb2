"""The native format: what a row and a message of the assistant may say about themselves."""

import orjson
import pytest

from drift.errors import DataError
from drift.records import Rating

ASK, GO_ON = {"role": "user", "content": "Tell me of whales."}, {"role": "user", "content": "Go on."}


def reply(**more):
    return {"role": "assistant", "content": "Whales are large.", **more}


@pytest.mark.parametrize("reason", ["length", "max_tokens", "content_filter"])
def test_a_reply_that_was_cut_at_a_limit_is_known_as_unfinished(read, reason):
    messages = [ASK, reply(finish_reason=reason), GO_ON, reply(finish_reason="stop"), GO_ON, reply()]
    conversation = read({"id": "c", "messages": messages}).only
    assert [conversation.finish_of(place) for place in (1, 3, 5)] == ["length", "stop", "stop"]


@pytest.mark.parametrize("reason", [None, "", "stop", "end_turn", 5, ["length"], {"a": 1}])
def test_other_reasons_do_not_make_a_reply_unfinished(read, reason):
    conversation = read({"id": "c", "messages": [ASK, reply(finish_reason=reason)]}).only
    assert (conversation.finish_of(1), conversation.tags) == ("stop", {})


def test_a_list_as_python_prints_it_is_named(read):
    """pandas writes lists so into CSV."""
    told = read({"messages": str([ASK, reply()])}, format_name="messages")
    assert told.conversations == []
    assert "as Python prints it, not JSON" in told.rejects[0].detail
    with pytest.raises(DataError, match="keys messages; 'messages' is a list as Python prints it, not JSON"):
        read({"messages": str([ASK, reply()])})


def test_a_message_that_was_left_out_does_not_shift_it(read):
    messages = [ASK, {"role": "tool", "content": ""}, reply(finish_reason="length"), GO_ON]
    conversation = read({"id": "c", "messages": messages}).only
    cut = [m.content for i, m in enumerate(conversation.messages) if conversation.finish_of(i) == "length"]
    assert cut == ["Whales are large."]


def test_tags_are_kept_by_name(read):
    tags = {"variant": "short", "version": 2, "beta": True, "nested": {"a": 1}, "cut_turns": "1"}
    told = read({"id": "c", "messages": [ASK, reply()], "tags": tags})
    assert told.only.tags == {"variant": "short", "version": "2", "beta": "true"}


@pytest.mark.parametrize("tags", [None, {}, [], ["beta"], "beta", 5, "{"])
def test_tags_that_are_no_object_are_not_kept(read, tags):
    assert read({"id": "c", "messages": [ASK, reply()], "tags": tags}).only.tags == {}


THUMBS = [
    *((word, 1.0) for word in (1, "1", "like", "good", "👍", "Thumbs Up", {"rating": "up"}, True)),
    *((word, -1.0) for word in (-1, "-1", "dislike", "👎🏽", "thumbs_down", {"value": -1}, False, '{"thumb": "down"}')),
]
UNRATED = [None, "", " ", {}, [], {"thumb": None}, {"thumb": "", "comment": ""}, {"thumb": None, "comment": None}]
NO_VERDICTS = ["meh", 0, "0", 4, {"thumb": "so-so"}, {"comment": "why?"}, "1/5", [1]]


@pytest.mark.parametrize("name", ["feedback", "user_feedback", "thumb"])
@pytest.mark.parametrize(("feedback", "value"), THUMBS)
def test_feedback_is_any_word_or_thumb(read, name, feedback, value):
    judged = Rating(1, "thumb", value)
    assert read({"messages": [ASK, reply()], name: feedback}).only.ratings == (judged,)
    assert read({"messages": [ASK, reply(**{name: feedback})]}).only.ratings == (judged,)


@pytest.mark.parametrize("feedback", UNRATED)
def test_unrated_is_no_rating(read, feedback):
    for row in ({"messages": [ASK, reply()], "feedback": feedback}, {"messages": [ASK, reply(feedback=feedback)]}):
        told = read(row)
        assert (told.only.ratings, told.reasons) == ((), [])
    assert read({"messages": [ASK], "feedback": feedback}).reasons == []


@pytest.mark.parametrize("feedback", NO_VERDICTS)
def test_what_says_neither_good_nor_bad_costs_the_rating_and_not_the_chat(read, feedback):
    told = read({"messages": [ASK, reply(feedback=feedback), GO_ON, reply()], "feedback": "up"})
    assert told.only.ratings == (Rating(3, "thumb", 1.0),)
    assert told.reasons == ["no_verdict"]


JUDGED = [
    ({"rating": "thumbs_down"}, ("score", -1.0)),
    ({"rating": -1}, ("score", -1.0)),
    ({"rating": "4/5"}, ("score", 0.5)),
    ({"rating": "★★☆☆☆"}, ("score", -0.5)),
    ({"user_rating": "👎"}, ("thumb", -1.0)),
    ({"user_rating": -1}, ("thumb", -1.0)),
    ({"score": False}, ("score", -1.0)),
    ({"rating": 1}, None),  # a thumb, or one star
    ({"score": 0.2}, None),
    ({"score": -1}, None),  # perhaps of a reward model
]


@pytest.mark.parametrize(("judgement", "expected"), JUDGED)
def test_a_judgement_beside_a_request_and_its_response_is_a_rating(read, judgement, expected):
    told = read({"messages": [ASK], "response": "Whales are large.", **judgement})
    assert [(r.reply_index, r.kind, r.value) for r in told.only.ratings] == ([(1, *expected)] if expected else [])
    assert told.reasons == ([] if expected else ["no_verdict"])


def test_feedback_in_a_table_is_text(read_files, tmp_path):
    file = tmp_path / "log.csv"
    messages = orjson.dumps([ASK, reply()]).decode().replace('"', '""')
    file.write_text("".join(("id,messages,feedback\n", *(f'{n},"{messages}",{n}\n' for n in (-1, 1, "")))))
    told = read_files(file)
    assert [[rating.value for rating in one.ratings] for one in told.conversations] == [[-1.0], [1.0], []]
