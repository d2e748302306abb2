"""A thumb on a turn that ends with a tool's answer (an image, a chart) is about the reply that called the tool."""

import json

import pytest

from drift.records import Reason

CALL = {"id": "k", "type": "function", "function": {"name": "chart", "arguments": "{}"}}
ANSWERED = [{"role": "assistant", "content": "Here:", "tool_calls": [CALL]}, {"role": "tool", "content": "drawn"}]
CHART = {"type": "tool-chart", "toolCallId": "k", "state": "output-available", "input": {}, "output": "drawn"}
ASKED = {"role": "user", "parts": [{"type": "text", "text": "A chart?"}]}
REPLIED = {"id": "r", "role": "assistant", "parts": [{"type": "text", "text": "Here:"}, CHART]}
DISLIKED = {**REPLIED, "metadata": {"feedback": "thumbs_down"}}


def open_webui(**reply) -> dict:
    asked = {"id": "q", "parentId": None, "role": "user", "content": "A chart?"}
    entries = {"q": asked, "r": {"id": "r", "parentId": "q", "role": "assistant", **reply}}
    return {"id": "c", "chat": {"history": {"currentId": "r", "messages": entries}}}


def items(text: str) -> list[dict]:
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    call = {"type": "function_call", "call_id": "k", "name": "chart", "arguments": "{}"}
    return [message, call, {"type": "function_call_output", "call_id": "k", "output": "drawn"}]


def libre(name: str, of_user: bool, **more) -> dict:
    same = {"conversationId": "c", "createdAt": f"2024-05-01T10:00:0{name}Z"}
    return {"messageId": name, "isCreatedByUser": of_user, **same, **more}


def flowise(name: str, role: str, text: str, **more) -> dict:
    return {
        "id": name,
        "role": role,
        "chatId": "c",
        "content": text,
        "createdDate": f"2024-05-01T10:0{name}:00Z",
        **more,
    }


LIBRE_CALL = {"type": "tool_call", "tool_call": {"id": "k", "name": "chart", "args": "{}", "output": "drawn"}}
LOGS = {
    "open webui": [open_webui(output=items("Here:"), content="", annotation={"rating": -1})],
    "librechat": [
        libre("1", True, text="A chart?"),
        libre(
            "2",
            False,
            text="",
            parentMessageId="1",
            content=[{"type": "text", "text": "Here:"}, LIBRE_CALL],
            feedback={"rating": "thumbsDown"},
        ),
    ],
    "flowise": [
        flowise("1", "userMessage", "A chart?"),
        flowise(
            "2",
            "apiMessage",
            "",
            usedTools=[{"tool": "chart", "toolInput": {}, "toolOutput": "drawn"}],
            feedback={"rating": "THUMBS_DOWN"},
        ),
    ],
    "ai sdk": [{"id": "c", "messages": [{"id": "q", **ASKED}, DISLIKED]}],
    "ai sdk, then a message of the application": [
        {"id": "c", "messages": [{"id": "q", **ASKED}, DISLIKED, {"id": "d", "role": "data", "parts": []}]}
    ],
    "ai sdk, text alone, then a message of the application": [
        {
            "id": "c",
            "messages": [
                {"id": "q", **ASKED},
                {**DISLIKED, "parts": REPLIED["parts"][:1]},
                {"id": "d", "role": "data", "parts": []},
            ],
        }
    ],
    "ai sdk's tables": [
        {"id": "q", "chatId": "c", "createdAt": "2024-05-01T10:00:00Z", **ASKED},
        {"chatId": "c", "createdAt": "2024-05-01T10:01:00Z", **REPLIED},
        {"chatId": "c", "messageId": "r", "isUpvoted": False},
    ],
    "native rows": [{"id": "c", "messages": [{"role": "user", "content": "A chart?"}, *ANSWERED], "feedback": "down"}],
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_a_thumb_is_about_the_last_reply_of_the_turn(read, log):
    done = read(*log)
    (rating,) = done.only.ratings
    judged = done.only.messages[rating.reply_index]
    assert (rating.kind, rating.value, judged.role) == ("thumb", -1.0, "assistant")
    assert rating.reply_index == 1
    assert set(done.reasons) <= {Reason.JOINED_AS_EVIDENCE}


def test_a_thumb_on_the_image_of_chatgpt_is_about_the_call_of_its_tool(tmp_path, read_files):
    def node(name, parent, child, role, content, **more) -> dict:
        message = {"id": name, "author": {"role": role}, "content": content, "recipient": "all", **more}
        return {"id": name, "parent": parent, "children": child, "message": message}

    image = {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}]}
    nodes = [
        node("q", None, ["c"], "user", {"content_type": "text", "parts": ["Draw!"]}),
        node("c", "q", ["t"], "assistant", {"content_type": "code", "text": "{}"}, recipient="dalle.text2im"),
        node("t", "c", ["u"], "tool", image),
        node("u", "t", [], "user", {"content_type": "text", "parts": ["Thanks."]}),
    ]
    chat = {"conversation_id": "c", "current_node": "u", "mapping": {entry["id"]: entry for entry in nodes}}
    thumbs = [{"id": name, "conversation_id": "c", "rating": "thumbs_down", "content": "{}"} for name in ("t", "u")]
    (tmp_path / "conversations.json").write_text(json.dumps([chat]), encoding="utf-8")
    (tmp_path / "message_feedback.json").write_text(json.dumps(thumbs), encoding="utf-8")
    done = read_files(tmp_path / "message_feedback.json", tmp_path / "conversations.json")
    (rating,) = done.only.ratings
    assert (rating.kind, done.only.messages[rating.reply_index].tool_calls[0].function.name) == (
        "thumb",
        "dalle.text2im",
    )
    assert sorted(done.reasons) == [Reason.JOINED_AS_EVIDENCE, Reason.ORPHAN_FEEDBACK]  # no reply is the user's message
