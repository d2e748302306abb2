"""The inputs that people have (data/cases): each is recognised as what it is, by no other reader, and read whole."""

from collections import Counter

import pytest

from drift.logs.files.sources import LogFile
from drift.logs.reading import recognise

SORT, WRONG = "Sort these words from a to z: moon eagle garden", "moon eagle garden"
NO, RIGHT = "That is wrong, you did not sort them at all.", "eagle garden moon"
ASKED, CHAT = (("user", SORT),), (("user", SORT), ("assistant", WRONG), ("user", NO), ("assistant", RIGHT))
BRIEF = ("system", "Be brief.")
FORMATS = {
    "aisdk_uimessages.jsonl": "ai_sdk",
    "aistudio_messages_parts.jsonl": "gemini",
    "alpaca_history.json": "alpaca",
    "anthropic_raw.jsonl": "anthropic",
    "anthropic_system_top.jsonl": "messages",
    "array_of_arrays.json": "messages",
    "bedrock_converse.jsonl": "bedrock",
    "braintrust.jsonl": "braintrust",
    "chatbox_session.json": "chatbox",
    "chatgpt_export.json": "chatgpt",
    "claude_export.json": "claude",
    "dify_messages.json": "dify",
    "dpo_strings.jsonl": "preference",
    "flowise_messages.json": "flowise",
    "gateway_openai_raw.jsonl": "openai",
    "gateway_response_beside.jsonl": "messages",
    "gemini_contents.jsonl": "gemini",
    "helicone.jsonl": "helicone",
    "kto2.jsonl": "preference",
    "langchain_history_table.jsonl": "langchain_table",
    "langchain_messages.jsonl": "langchain",
    "langfuse_observe_span.jsonl": "langfuse",
    "langfuse_trace_download.json": "langfuse",
    "langfuse_ui.csv": "langfuse",
    "langgraph_state.jsonl": "langchain",
    "librechat_export.json": "librechat",
    "llamafactory_dpo.json": "preference",
    "lmarena.jsonl": "lmarena",
    "messages_response_beside.jsonl": "messages",
    "mlflow_traces.jsonl": "mlflow",
    "multimodal.jsonl": "messages",
    "openai_batch_input.jsonl": "batch",
    "openai_batch_output.jsonl": "batch",
    "openai_ft_weight.jsonl": "messages",
    "openai_preference.jsonl": "preference",
    "openai_responses.jsonl": "openai_responses",
    "openai_tools.jsonl": "messages",
    "otel_openllmetry.jsonl": "otel",
    "otel_pydantic_ai.jsonl": "otel",
    "otel_vercel_ai.jsonl": "otel",
    "otel_vercel_ai_otlp.json": "otel",
    "owui_empty_reply.json": "openwebui",
    "owui_feedback.json": "openwebui",
    "owui_feedback_nosnapshot.json": "openwebui",
    "owui_reasoning.json": "openwebui",
    "reasoning_field.jsonl": "messages",
    "sharegpt_tools_system.json": "sharegpt",
    "swift_agent_roles.jsonl": "messages",
    "swift_dpo.jsonl": "preference",
    "swift_kto.jsonl": "preference",
    "tool_thumb.jsonl": "messages",
    "train_assistant_first.jsonl": "messages",
    "train_double_user.jsonl": "messages",
    "train_midsystem.jsonl": "messages",
    "train_plain.jsonl": "messages",
    "train_system.jsonl": "messages",
    "train_think.jsonl": "messages",
    "train_toolreply.jsonl": "messages",
    "train_tools.jsonl": "messages",
    "trl_dpo_implicit.jsonl": "preference",
    "trl_kto.jsonl": "preference",
    "vercel_v4_message.jsonl": "ai_sdk",
    "vertex_request_response.jsonl": "gemini",
    "weave_calls.jsonl": "weave",
}
CHATS = {
    "aisdk_uimessages.jsonl": [CHAT],
    "alpaca_history.json": [CHAT],
    "anthropic_raw.jsonl": [(BRIEF, *CHAT)],
    "anthropic_system_top.jsonl": [(BRIEF, *CHAT)],
    "array_of_arrays.json": [CHAT],
    "chatgpt_export.json": [(*ASKED, ("assistant", "Sorry, I cannot.")), CHAT],
    "claude_export.json": [CHAT],
    "gateway_openai_raw.jsonl": [(*CHAT[:3], CHAT[1])],
    "gateway_response_beside.jsonl": [CHAT[:2], CHAT],
    "langchain_history_table.jsonl": [CHAT],
    "langchain_messages.jsonl": [CHAT],
    "langgraph_state.jsonl": [CHAT],
    "openai_ft_weight.jsonl": [CHAT],
    "openai_responses.jsonl": [CHAT[:2]],
    "otel_vercel_ai.jsonl": [CHAT],
    "otel_vercel_ai_otlp.json": [CHAT],
    "vercel_v4_message.jsonl": [CHAT[:3]],
}
PAIRS = (
    "dpo_strings.jsonl",
    "llamafactory_dpo.json",
    "openai_preference.jsonl",
    "swift_dpo.jsonl",
    "trl_dpo_implicit.jsonl",
)
LABELS = {"kto2.jsonl": [-1.0], "swift_kto.jsonl": [-1.0, 1.0], "trl_kto.jsonl": [-1.0]}


@pytest.mark.parametrize("name", FORMATS)
def test_each_file_is_recognised_by_one_reader(test_data, name):
    file = LogFile(test_data / "cases" / name)
    assert recognise(name, file.rows(lambda done: None, Counter())).name == FORMATS[name]


def test_no_file_is_left_out(test_data):
    files = {file.name for file in (test_data / "cases").iterdir() if file.suffix != ".md"}
    assert files - FORMATS.keys() <= {"flat_rows.jsonl"}, "which any --map reads"


@pytest.mark.parametrize("name", CHATS)
def test_chats_have_all_their_texts(test_data, read_files, name):
    told = read_files(test_data / "cases" / name)
    assert [tuple(told.texts(place)) for place in range(len(told.conversations))] == CHATS[name]
    assert told.rejects == []
    assert all(one.ratings == () for one in told.conversations)


@pytest.mark.parametrize("name", PAIRS)
def test_preference_files_are_one_disliked_reply_with_its_preferred_one(test_data, read_files, name):
    told = read_files(test_data / "cases" / name)
    assert told.texts() == list(CHAT[:2])
    assert [(r.reply_index, r.kind, r.value, r.preferred) for r in told.only.ratings] == [
        (1, "correction", -1.0, RIGHT)
    ]
    assert (told.only.source, told.only.tags) == ("preference", {})


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_thumbs(test_data, read_files, name):
    told = read_files(test_data / "cases" / name)
    assert [[(r.reply_index, r.kind, r.value) for r in one.ratings] for one in told.conversations] == [
        [(1, "thumb", value)] for value in LABELS[name]
    ]


def test_a_reply_beside_the_messages_is_the_last_one_and_its_thumb_is_a_rating(test_data, read_files):
    told = read_files(test_data / "cases" / "messages_response_beside.jsonl")
    assert [told.texts(place) for place in range(5)] == [
        [("system", "Sort."), ("user", f"{SORT} {number}"), ("assistant", WRONG)] for number in range(5)
    ]
    assert [[(r.reply_index, r.kind, r.value) for r in one.ratings] for one in told.conversations] == [
        [(2, "thumb", -1.0)]
    ] * 5


def test_the_files_of_a_batch_are_read_together(test_data, read_files):
    requests, replies = (test_data / "cases" / f"openai_batch_{side}.jsonl" for side in ("input", "output"))
    assert read_files(requests).reasons == ["not_a_chat"]
    assert read_files(replies).reasons == ["no_user_turn"]
    assert read_files(requests, replies).texts() == list(CHAT[:2])


def test_what_else_the_files_hold(test_data, read_files):
    def only(name):
        return read_files(test_data / "cases" / name).only

    assert only("otel_vercel_ai.jsonl").user_key == "u"
    assert only("otel_vercel_ai.jsonl").model == "gpt-4o"
    assert [message.reasoning for message in only("aisdk_uimessages.jsonl").messages] == [None, "hm", None, "hm"]
    assert only("aisdk_uimessages.jsonl").messages[0].timestamp == "2024-05-20T13:39:05+00:00"
    assert only("langchain_messages.jsonl").source_id == only("langgraph_state.jsonl").source_id == "t1"
    claude = only("claude_export.json")
    assert (claude.source_id, claude.user_key, claude.started_at) == ("c1", "acc", "2025-06-01T10:00:00.000000Z")
    assert claude.messages[1].reasoning == "hm"
    responses = only("openai_responses.jsonl")
    assert (responses.model, responses.started_at) == ("gpt-4o", "2024-05-20T13:39:05+00:00")
