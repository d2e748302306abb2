"""The native format: what a message of the assistant may say about itself."""

import pytest

from drift.errors import DataError

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
