"""Logs of applications, clouds and tracing tools that people have (data/cases): one reader reads each."""

from collections import Counter

import pytest

from drift.logs.files.sources import LogFile
from drift.logs.readers import READERS

SORT = "Sort these words from a to z: moon eagle garden"
FIRST, WRONG, SECOND = "moon eagle garden", "That is wrong, you did not sort them at all.", "eagle garden moon"
ONE = [("user", SORT), ("assistant", FIRST)]
TWO = [*ONE, ("user", WRONG), ("assistant", SECOND)]
DISLIKE = [(1, "thumb", -1.0)]

# file: format, texts, ratings, user, model, beginning of the id
CASES = {
    "dify_messages.json": ("dify", TWO, DISLIKE, False, None, "d1"),
    "flowise_messages.json": ("flowise", TWO, [], False, None, "c"),
    "librechat_export.json": ("librechat", TWO, DISLIKE, False, "gpt-4o", "c"),
    "chatbox_session.json": ("chatbox", TWO, [], False, None, "s"),
    "aistudio_messages_parts.jsonl": ("gemini", ONE, [], False, None, ""),
    "gemini_contents.jsonl": ("gemini", TWO, [], False, None, ""),
    "vertex_request_response.jsonl": ("gemini", ONE, [], False, "1", ""),
    "bedrock_converse.jsonl": ("bedrock", TWO, [], False, "anthropic.claude-3-haiku-20240307-v1:0", ""),
    "helicone.jsonl": ("helicone", ONE, DISLIKE, True, "gpt-4o", "s/"),
    "braintrust.jsonl": ("braintrust", ONE, DISLIKE, False, "gpt-4o", ""),
    "mlflow_traces.jsonl": ("mlflow", ONE, DISLIKE, True, "gpt-4o-mini", "s/"),
    "weave_calls.jsonl": ("weave", ONE, DISLIKE, False, "gpt-4o-mini", ""),
    "otel_pydantic_ai.jsonl": ("otel", TWO, [], False, None, ""),
    "otel_openllmetry.jsonl": ("otel", TWO, [], True, "gpt-4o", "sess1/"),
    "langfuse_observe_span.jsonl": ("langfuse", ONE, DISLIKE, True, None, "s/"),
    "langfuse_trace_download.json": ("langfuse", ONE, [], True, "gpt-4o", "s/"),
    "langfuse_ui.csv": ("langfuse", ONE, [], True, None, "s/"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_becomes_what_it_must_become(test_data, read_files, name):
    format_name, texts, ratings, has_user, model, identity = CASES[name]
    told = read_files(test_data / "cases" / name)
    assert (told.formats, told.texts()) == ([format_name], texts)
    only = told.only
    assert [(rating.reply_index, rating.kind, rating.value) for rating in only.ratings] == ratings
    assert (only.user_key is not None, only.model) == (has_user, model)
    assert (only.source_id or "").startswith(identity)


@pytest.mark.parametrize("name", [*CASES, "lmarena.jsonl"])
def test_no_other_reader_claims_a_file(test_data, name):
    rows = [row.value for row in LogFile(test_data / "cases" / name).rows(lambda done: None, Counter())]
    claims = {known for known, reader in READERS.items() if not reader.plain and any(map(reader.recognises, rows))}
    assert claims == {CASES[name][0] if name in CASES else "lmarena"}


def test_two_sides_of_an_arena_are_two_conversations_with_a_vote_each(test_data, read_files):
    told = read_files(test_data / "cases" / "lmarena.jsonl")
    found = {
        one.model: ([m.content for m in one.messages], [r.value for r in one.ratings]) for one in told.conversations
    }
    assert (told.formats, found) == (["lmarena"], {"x": ([SORT, FIRST], [-1.0]), "y": ([SORT, SECOND], [1.0])})
    assert len({one.family for one in told.conversations}) == 1


def test_the_marks_of_open_webui_are_thoughts_and_calls(test_data, read_files):
    told = read_files(test_data / "cases" / "owui_reasoning.json")
    assert told.texts() == [
        ("user", SORT), ("assistant", ""), ("tool", FIRST), ("assistant", FIRST), ("user", WRONG),
        ("assistant", SECOND), ("user", "Thanks, great!"),
    ]  # fmt: skip
    called, reply = told.only.messages[1], told.only.messages[5]
    assert [call.function.name for call in called.tool_calls] == ["sort_words"]
    assert called.reasoning == reply.reasoning == "The user wants a sorted list. Maybe I keep the order."


def test_feedback_of_open_webui_is_a_thumb_and_needs_its_chat(test_data, read_files):
    told = read_files(test_data / "cases" / "owui_feedback.json")
    assert told.texts() == ONE
    assert [(r.value, r.comment) for r in told.only.ratings] == [(-1.0, "not_factually_correct: not sorted")]
    assert read_files(test_data / "cases" / "owui_feedback_nosnapshot.json").reasons == ["orphan_feedback"]
    assert [text for _, text in read_files(test_data / "cases" / "owui_empty_reply.json").texts()] == [SORT, "", WRONG]
