"""Every format, in the shape its files really have."""

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drift.logs.ingest import ingest
from drift.pairs.disliked import prompt_items
from drift.records import Conversation, Drop, FeedbackLabel, FunctionCall, Rating, Reason, ToolCall
from drift.store import Store

CHAT = [
    {"role": "user", "content": "What is 2+2?"},
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "That is wrong."},
]
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def stored(tmp_path: Path, rows: list, name: str = "log.jsonl", **options) -> list[Conversation]:
    file = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif name.endswith(".jsonl"):
        file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    else:
        file.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    store = Store(tmp_path / "store")
    summary = ingest([file], store, **options)
    assert summary.adds_up
    return list(store.conversations())


def texts(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


@pytest.mark.parametrize("name", ["log.jsonl", "log.json", "log.parquet"])
def test_native_rows_keep_what_the_log_says(tmp_path, name):
    row = {"id": "a1", "user": "ann", "model": "m-1", "timestamp": "2024-05-01T10:00:00Z", "messages": CHAT}
    (conversation,) = stored(tmp_path, [row], name)
    assert texts(conversation) == [(m["role"], m["content"]) for m in CHAT]
    assert [m.source_index for m in conversation.messages] == [0, 1, 2]
    assert (conversation.source, conversation.source_id, conversation.model) == ("messages", "a1", "m-1")
    assert conversation.started_at == "2024-05-01T10:00:00Z"
    assert conversation.user_key not in (None, "ann")


def test_messages_may_stand_in_their_column_as_json(tmp_path):
    judged = [CHAT[0], {**CHAT[1], "feedback": -1}, CHAT[2]]
    (conversation,) = stored(tmp_path, [{"messages": orjson.dumps(judged).decode()}])
    assert texts(conversation) == [(m["role"], m["content"]) for m in CHAT]
    assert conversation.ratings == (Rating(1, "thumb", -1.0),)


def test_fine_tuning_rows_keep_tool_calls_and_join_text_parts(tmp_path):
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "in Rome?"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "22 C"},
        {"role": "assistant", "content": "22 degrees."},
    ]
    (conversation,) = stored(tmp_path, [{"messages": messages, "tools": []}])
    assert texts(conversation) == [
        ("system", "Be short."),
        ("user", "Weather\nin Rome?"),
        ("assistant", ""),
        ("tool", "22 C"),
        ("assistant", "22 degrees."),
    ]
    assert [m.source_index for m in conversation.messages] == [0, 1, 2, 3, 4]
    called, answered = conversation.messages[2:4]
    assert called.tool_calls == (ToolCall(FunctionCall("weather", '{"city": "Rome"}'), "c"),)
    assert (answered.tool_call_id, answered.name, conversation.tools) == ("c", None, None)


def test_calls_of_tools_in_parts_are_read_and_their_answers_are_a_tools_messages(tmp_path):
    used = [{"type": "tool_use", "id": id_, "name": "w", "input": {"day": id_}} for id_ in ("a", "b")]
    messages = [
        {"role": "user", "content": "Weather in Rome?"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, *used]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "22 C"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "dry"}]},
                {"type": "text", "text": "In German."},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "22 Grad."}], "feedback": -1},
    ]
    (conversation,) = stored(tmp_path, [{"messages": messages}])
    assert texts(conversation)[1:] == [
        ("assistant", ""),
        ("tool", "22 C"),
        ("tool", "dry"),
        ("user", "In German."),
        ("assistant", "22 Grad."),
    ]
    assert [m.source_index for m in conversation.messages] == [0, 1, 2, 2, 2, 3]
    assert conversation.messages[1].reasoning == "hm"
    assert conversation.messages[1].tool_calls == tuple(
        ToolCall(FunctionCall("w", f'{{"day":"{id_}"}}'), id_) for id_ in ("a", "b")
    )
    assert [m.tool_call_id for m in conversation.messages[2:4]] == ["a", "b"]
    assert conversation.ratings == (Rating(5, "thumb", -1.0),)


def test_pictures_alone_keep_their_place_and_make_no_pair(tmp_path):
    picture = [{"type": "image_url", "image_url": {"url": "data:..."}}]
    messages = [
        {"role": "user", "content": picture},
        {"role": "assistant", "content": "A cat.", "feedback": -1},
        {"role": "user", "content": "Wrong. Draw a dog."},
        {"role": "assistant", "content": picture, "feedback": -1},
        {"role": "user", "content": "That is no dog."},
        {"role": "assistant", "content": None, "refusal": "I cannot."},
    ]
    (conversation,) = stored(tmp_path, [{"messages": messages}])
    assert [m.content for m in conversation.messages] == [
        "[image]",
        "A cat.",
        "Wrong. Draw a dog.",
        "[image]",
        "That is no dog.",
        "I cannot.",
    ]
    labels = [FeedbackLabel(conversation.conversation_id, i, None, "DSAT", "rating", "1") for i in (1, 3)]
    drops = [found for found in prompt_items([(conversation, labels)], 0.5) if isinstance(found, Drop)]
    assert [drop.reason for drop in drops] == [Reason.NEEDS_IMAGE] * 2


def test_notes_of_quarantine_name_short_words_and_never_what_somebody_wrote(tmp_path):
    rows = [
        {"messages": [{"role": "meh", "content": "x"}]},
        {"messages": [{"role": "my boss", "content": "x"}]},
        {"messages": [{"role": "x" * 31, "content": "x"}]},
        {"messages": [{"role": ["my boss"], "content": "x"}]},
    ]
    feedback = [{"messages": CHAT, "feedback": text} for text in ("my boss is awful", "meh")]
    stored(tmp_path, [{"messages": CHAT}, *rows, *feedback])
    details = [refused.detail for refused in Store(tmp_path / "store").quarantined()]
    assert not [detail for detail in details if "boss" in detail]
    told = ["'meh'", "a text of 7 characters", "a text of 31 characters", "a list of 1 entries"]
    assert all(expected in detail for expected, detail in zip(told, details, strict=True))
    assert ["chatgpt" in detail for detail in details] == [True] * 4


def test_two_people_who_begin_alike_have_two_chats(tmp_path):
    answers = [{"messages": [*CHAT, {"role": "assistant", "content": text}], "user": text} for text in ("4", "four")]
    assert len(stored(tmp_path, answers)) == 2


@pytest.mark.parametrize(("thumb", "value"), [(1, 1.0), (-1, -1.0), ("up", 1.0), ("thumbs_down", -1.0), (False, -1.0)])
def test_thumbs_on_messages_become_ratings(tmp_path, thumb, value):
    messages = [CHAT[0], {**CHAT[1], "feedback": {"thumb": thumb, "comment": "so-so"}}, CHAT[2]]
    (conversation,) = stored(tmp_path, [{"messages": messages}])
    assert conversation.ratings == (Rating(1, "thumb", value, "so-so"),)


def test_a_thumb_on_the_row_is_about_the_last_reply(tmp_path):
    messages = [*CHAT, {"role": "assistant", "content": "4"}, {"role": "user", "content": "ok"}]
    (conversation,) = stored(tmp_path, [{"messages": messages, "feedback": "up"}])
    assert conversation.ratings == (Rating(3, "thumb", 1.0),)


def test_sharegpt_names_its_speakers_otherwise(tmp_path):
    turns = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "hi"},
        {"from": "gpt", "value": "hello"},
        {"from": "user", "value": "who?"},
        {"from": "bing", "value": "me"},
        {"from": "tool", "value": "{}"},
        {"from": "chatgpt", "value": "yes"},
    ]
    (conversation,) = stored(tmp_path, [{"id": "x_0", "conversations": turns}], "log.json")
    roles = ["system", "user", "assistant", "user", "assistant", "tool", "assistant"]
    assert [m.role for m in conversation.messages] == roles
    assert (conversation.source, conversation.source_id) == ("sharegpt", "x_0")


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
def test_wildchat_users_are_known_by_a_salted_hash(tmp_path, name):
    when = datetime(2023, 4, 9, 0, 2, 53, tzinfo=UTC)
    turn = {"language": "English", "redacted": False, "toxic": False, "turn_identifier": 1, "country": "Russia"}
    row = {
        "conversation_hash": "c9ec",
        "model": "gpt-3.5-turbo-0301",
        "timestamp": when,
        "conversation": [
            {"role": "user", "content": "hi", "hashed_ip": "22fd87", "timestamp": None, **turn},
            {"role": "assistant", "content": "hello", "hashed_ip": None, "timestamp": when, **turn},
        ],
        "turn": 1,
        "language": "English",
        "openai_moderation": [{"flagged": False}],
        "toxic": True,
        "redacted": False,
        "hashed_ip": "22fd87",
        "header": {"accept-language": "en", "user-agent": "x"},
    }
    (conversation,) = stored(tmp_path, [row], name)
    assert (conversation.source, conversation.source_id, conversation.language) == ("wildchat", "c9ec", "English")
    assert conversation.started_at == "2023-04-09T00:02:53+00:00"
    assert conversation.messages[1].timestamp == "2023-04-09T00:02:53+00:00"
    assert conversation.tags == {"toxic": "true"}
    assert conversation.user_key is not None
    assert "22fd87" not in conversation.user_key


def test_wildchat_turns_may_be_json_text_and_say_who_and_what_is_toxic(tmp_path):
    turns = [{**CHAT[0], "hashed_ip": "22fd87"}, {**CHAT[1], "toxic": True}]
    (conversation,) = stored(tmp_path, [{"conversation_hash": "c9ec", "conversation": orjson.dumps(turns).decode()}])
    assert conversation.user_key is not None
    assert conversation.tags == {"toxic_turns": "1"}


def test_lmsys_rows(tmp_path):
    row = {"conversation_id": "d0d7", "model": "vicuna-13b", "conversation": CHAT, "turn": 2, "language": "English"}
    (conversation,) = stored(tmp_path, [{**row, "openai_moderation": [], "redacted": True}])
    assert (conversation.source, conversation.source_id, conversation.model) == ("lmsys", "d0d7", "vicuna-13b")
    assert conversation.tags == {"redacted": "true"}
    assert conversation.user_key is None


def utterance(number: int, role: str, content: str, sat: bool = False, dsat: bool = False) -> dict:
    return {
        "UtterranceId": number,
        "TurnId": number // 2 + 1,
        "Role": role,
        "Content": content,
        "Preceeding": "YES",
        "Satisfaction": sat,
        "Satisfaction-Justificiation": "thanked" if sat else "",
        "Disatisfaction": dsat,
        "Dissatisfaction-Justificiation": "corrected" if dsat else "",
    }


def test_wildfeedback_user_rows_judge_the_agent_row_before(tmp_path):
    rows = [
        utterance(0, "User", "sum?", sat=True),  # nothing precedes: about no reply
        utterance(1, "Agent", "5", dsat=True),  # an agent judges nobody
        utterance(2, "User", "no, 4", dsat=True),
        utterance(3, "Agent", "4"),
        utterance(4, "User", "thanks", sat=True),
        utterance(0, "User", "next"),
        utterance(1, "Agent", "done"),
        utterance(2, "User", "good, but wrong", sat=True, dsat=True),
    ]
    first, second = sorted(stored(tmp_path, rows, "sat_dsat_annotation.json"), key=lambda c: -len(c.messages))
    assert [m.content for m in first.messages] == ["sum?", "5", "no, 4", "4", "thanks"]
    assert first.ratings == (Rating(1, "score", -1.0, "corrected"), Rating(3, "score", 1.0, "thanked"))
    assert first.source == "wildfeedback"
    assert second.ratings == ()


def test_wildfeedback_utterances_behind_a_gap_are_one_refusal(tmp_path):
    rows = [
        utterance(0, "User", "a"),
        utterance(1, "Agent", "b"),
        utterance(3, "Agent", "d"),
        utterance(4, "User", "e"),
        utterance(0, "User", "next"),
        utterance(1, "Agent", "reply"),
    ]
    found = stored(tmp_path, rows, "sat_dsat_annotation.json")
    assert sorted(len(c.messages) for c in found) == [2, 2]
    (refused,) = Store(tmp_path / "store").quarantined()
    assert (refused.reason, refused.element) == (Reason.ROLES_OUT_OF_ORDER, 3)


def test_wildfeedback_pairs_rate_both_replies(tmp_path):
    row = {
        "conversations": [{"from": "human", "value": "a poem"}],
        "chosen": {"from": "gpt", "value": "a good poem"},
        "rejected": {"from": "gpt", "value": "a bad poem"},
    }
    (conversation,) = stored(tmp_path, [row], "wildfeedback.json", format="wildfeedback")
    assert [m.content for m in conversation.messages] == ["a poem", "a bad poem", "a good poem"]
    assert conversation.ratings == (Rating(1, "score", -1.0), Rating(2, "score", 1.0))


def test_wildfeedback_preferences_become_a_tag(tmp_path):
    row = {"conversations": [{"from": "human", "value": "q"}], "user_preference": ["short", "polite"]}
    (conversation,) = stored(tmp_path, [row], "user_preference.json")
    assert conversation.tags == {"licence": "ODC-BY-1.0", "preference": "short\npolite"}


def test_drift_rows_become_one_conversation(tmp_path):
    row = {
        "prompt": [{"role": "user", "content": "sum?"}],
        "rejected": [{"role": "assistant", "content": "5"}],
        "user_preference": {"role": "user", "content": "no, 4"},
        "chosen": [{"role": "assistant", "content": "4"}],
    }
    (conversation,) = stored(tmp_path, [row])
    assert texts(conversation) == [("user", "sum?"), ("assistant", "5"), ("user", "no, 4"), ("assistant", "4")]
    assert [m.source_index for m in conversation.messages] == [0, 1, 2, 3]
    assert conversation.ratings == (Rating(1, "score", -1.0), Rating(3, "score", 1.0))
    assert conversation.source == "drift"


def test_two_judged_replies_of_one_chat_stay_two(tmp_path):
    early = {"prompt": CHAT[:1], "rejected": [CHAT[1]], "user_preference": CHAT[2]}
    late = {"prompt": CHAT, "rejected": [{"role": "assistant", "content": "6"}], "user_preference": CHAT[2]}
    assert len(stored(tmp_path, [early, late])) == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": CHAT[:2], "rejected": [CHAT[1]]}, Reason.ROLES_OUT_OF_ORDER),
        ({"prompt": CHAT[:1], "rejected": [CHAT[0]]}, Reason.ROLES_OUT_OF_ORDER),
        ({"prompt": CHAT[:1], "rejected": []}, Reason.NO_MESSAGES),
        ({"messages": CHAT[:1], "feedback": "up"}, Reason.ROLES_OUT_OF_ORDER),
        ({"messages": []}, Reason.NO_MESSAGES),
        ({"messages": "hi"}, Reason.NO_MESSAGES),
        ({"messages": ["hi"]}, Reason.NOT_AN_OBJECT),
        ({"messages": [{"role": "narrator", "content": "x"}]}, Reason.UNKNOWN_ROLE),
        ({"messages": [{"role": "user", "content": [{"type": "widget"}]}]}, Reason.BAD_CONTENT),
        ({"messages": [{"role": "user", "content": None}]}, Reason.BAD_CONTENT),
        ({"messages": [CHAT[1]]}, Reason.NO_USER_TURN),
    ],
)
def test_rows_that_cannot_be_used_are_quarantined_with_their_line(tmp_path, row, reason):
    good = {"messages": CHAT, "id": "good"} if "messages" in row else {"prompt": CHAT[:1], "rejected": [CHAT[1]]}
    assert len(stored(tmp_path, [good, row])) == 1
    (refused,) = Store(tmp_path / "store").quarantined()
    assert (refused.line, refused.reason) == (2, reason)


def test_the_order_of_speakers_is_kept_as_it_is(tmp_path):
    roles = ["assistant", "user", "user", "assistant", "assistant", "system", "user"]
    messages = [{"role": role, "content": str(index)} for index, role in enumerate(roles)]
    (conversation,) = stored(tmp_path, [{"messages": messages}])
    assert [m.role for m in conversation.messages] == roles
