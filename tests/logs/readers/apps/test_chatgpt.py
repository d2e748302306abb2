"""ChatGPT's export: paths of the tree, what the user did not see, thoughts, calls, media, and the file of thumbs."""

import pytest

CHAT = "chat-1"


def node(name, parent, children=(), role=None, content=None, **more) -> dict:
    """One node; without a role it holds no message."""
    message = None
    if role is not None:
        content = {"content_type": "text", "parts": [content]} if isinstance(content, str) else content
        author = {"role": role, "name": more.pop("tool", None), "metadata": {}}
        metadata = more.pop("metadata", {})
        message = {"id": name, "author": author, "create_time": more.pop("at", 1716212345.5), "content": content}
        message |= {"recipient": "all", "metadata": metadata, **more}
    return {"id": name, "message": message, "parent": parent, "children": list(children)}


def chat(*nodes, current=None, **more) -> dict:
    return {
        "title": "Plants",
        "create_time": 1716212300.0,
        "mapping": {entry["id"]: entry for entry in nodes},
        "current_node": current or nodes[-1]["id"],
        "conversation_id": CHAT,
        "default_model_slug": "gpt-4o",
        **more,
    }


def line(*turns) -> dict:
    """A chat without branches: (role, content, more) one under the other, below an empty root."""
    names = ["root", *(f"n{number}" for number in range(len(turns)))]
    nodes = [node("root", None, names[1:2])]
    for place, (role, content, more) in enumerate(turns, 1):
        nodes.append(node(names[place], names[place - 1], names[place + 1 : place + 2], role, content, **more))
    return chat(*nodes)


def test_branches_are_paths_and_a_reply_asked_for_again_is_disliked(read):
    told = read(
        chat(
            node("root", None, ["s"]),
            node("s", "root", ["u1"], "system", "", metadata={"is_visually_hidden_from_conversation": True}),
            node("u1", "s", ["a1", "a2"], "user", "Name a red fruit."),
            node("a1", "u1", [], "assistant", "Banana.", metadata={"model_slug": "gpt-4"}),
            node("a2", "u1", ["u2", "u2b"], "assistant", "Cherry.", metadata={"model_slug": "gpt-4o"}),
            node("u2", "a2", ["a3"], "user", "Another one?"),
            node("a3", "u2", [], "assistant", "Tomato.", metadata={"model_slug": "gpt-4o"}),
            node("u2b", "a2", ["a4"], "user", "And a yellow one?"),
            node("a4", "u2b", [], "assistant", "Lemon.", metadata={"model_slug": "o3"}),
            current="a4",
        )
    )
    assert told.formats == ["chatgpt"]
    assert told.rejects == []
    by_id = {one.source_id: one for one in told.conversations}
    assert {name: [message.content for message in one.messages] for name, one in by_id.items()} == {
        CHAT: ["Name a red fruit.", "Banana."],
        f"{CHAT}/a2": ["Name a red fruit.", "Cherry.", "Another one?", "Tomato."],
        f"{CHAT}/u2b": ["Name a red fruit.", "Cherry.", "And a yellow one?", "Lemon."],
    }
    assert [(r.reply_index, r.kind, r.value) for r in by_id[CHAT].ratings] == [(1, "regeneration", -1.0)]
    assert by_id[f"{CHAT}/a2"].ratings == by_id[f"{CHAT}/u2b"].ratings == ()
    assert {name: one.model for name, one in by_id.items()} == {
        CHAT: "gpt-4",
        f"{CHAT}/a2": "gpt-4o",
        f"{CHAT}/u2b": "o3",
    }
    assert len({one.family for one in by_id.values()}) == len({one.split for one in by_id.values()}) == 1
    assert by_id[CHAT].started_at == "2024-05-20T13:38:20+00:00"
    assert by_id[CHAT].messages[0].timestamp == "2024-05-20T13:39:05.500000+00:00"


def test_what_chatgpt_remembers_of_the_user_is_no_reply(read):
    memory = {"content_type": "model_editable_context", "model_set_context": "1. The user lives in Oslo."}
    chats = read(line(("assistant", memory, {}), ("user", "2+2?", {}), ("assistant", "5", {}), ("user", "No.", {})))
    assert chats.texts() == [
        ("system", "1. The user lives in Oslo."), ("user", "2+2?"), ("assistant", "5"), ("user", "No."),
    ]  # fmt: skip


def test_two_replies_offered_at_once_are_no_regeneration(read):
    offered = {"paragen_variants_info": {"type": "num_variants_in_stream", "num_variants_in_stream": 2}}
    told = read(
        chat(
            node("u", None, ["a", "b"], "user", "Hi"),
            node("a", "u", [], "assistant", "Hello.", metadata=offered),
            node("b", "u", [], "assistant", "Hey.", metadata=offered),
        )
    )
    assert [one.ratings for one in told.conversations] == [(), ()]


def test_custom_instructions_are_a_system_message_and_hidden_replies_are_left_out(read):
    context = {
        "content_type": "user_editable_context",
        "user_profile": "I grow roses.",
        "user_instructions": "Be brief.",
    }
    hidden = {"metadata": {"is_visually_hidden_from_conversation": True}}
    told = read(
        line(
            ("system", "", hidden),
            ("user", context, hidden),
            ("assistant", {"content_type": "model_editable_context", "model_set_context": ""}, {}),
            ("user", "When do I cut them?", {}),
            ("assistant", "(a draft that was never shown)", hidden),
            ("assistant", "In March.", {}),
        )
    )
    assert told.texts() == [
        ("system", "I grow roses.\nBe brief."),
        ("user", "When do I cut them?"),
        ("assistant", "In March."),
    ]


def test_media_leave_a_mark_and_spoken_words_are_text(read):
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1", "width": 1}
    photo = {"content_type": "multimodal_text", "parts": [picture, "Which flower is this?"]}
    spoken = [
        {"content_type": "audio_transcription", "text": "And this one?", "direction": "in"},
        {"content_type": "real_time_user_audio_video_asset_pointer", "audio_asset_pointer": {}},
    ]
    told = read(
        line(
            ("user", photo, {}),
            ("assistant", "A rose.", {}),
            ("user", {"content_type": "multimodal_text", "parts": spoken}, {}),
            ("assistant", "A tulip.", {}),
        )
    )
    assert [text for _, text in told.texts()] == [
        "[image]\nWhich flower is this?", "A rose.", "And this one?", "A tulip.",
    ]  # fmt: skip
    assert told.only.has_media(0)
    assert not told.only.has_media(1, 2, 3)


def test_thoughts_and_calls_belong_to_the_reply_and_tools_answer(read):
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Sum", "content": "I add them."}]}
    code = {"content_type": "code", "language": "unknown", "text": "2+2"}
    told = read(
        line(
            ("user", "2+2?", {}),
            ("assistant", thoughts, {}),
            ("assistant", {"content_type": "reasoning_recap", "content": "Thought for 5s"}, {}),
            ("assistant", code, {"recipient": "python"}),
            ("tool", {"content_type": "execution_output", "text": "4"}, {"tool": "python"}),
            ("assistant", "It is 4.", {}),
        )
    )
    user, call, answer, reply = told.only.messages
    assert user.content == "2+2?"
    assert (call.content, call.reasoning) == ("", "I add them.")
    assert [(one.id, one.function.name, one.function.arguments) for one in call.tool_calls] == [
        ("n3", "python", '{"input":"2+2"}')
    ]
    assert (answer.role, answer.content, answer.name, answer.tool_call_id) == ("tool", "4", "python", "n3")
    assert (reply.role, reply.content, reply.reasoning) == ("assistant", "It is 4.", None)


def test_a_thumb_on_a_reply_after_thoughts_points_at_the_reply(read):
    thoughts = {"content_type": "thoughts", "thoughts": [{"content": "hm"}]}
    chat_of_three = line(("user", "2+2?", {}), ("assistant", thoughts, {}), ("assistant", "5", {}))
    told = read(conversations=[chat_of_three], message_feedback=[{**FEEDBACK, "id": "n2"}])
    assert [(message.content, message.reasoning) for message in told.only.messages] == [("2+2?", None), ("5", "hm")]
    assert [(rating.reply_index, rating.value) for rating in told.only.ratings] == [(1, -1.0)]


def test_an_edited_question_keeps_both_versions(read):
    told = read(
        chat(
            node("root", None, ["u", "v"]),
            node("u", "root", ["a"], "user", "Wat?"),
            node("a", "u", [], "assistant", "What?"),
            node("v", "root", ["b"], "user", "What?"),
            node("b", "v", [], "assistant", "Yes?"),
        )
    )
    assert [[message.content for message in one.messages] for one in told.conversations] == [
        ["Wat?", "What?"],
        ["What?", "Yes?"],
    ]
    assert [one.source_id for one in told.conversations] == [CHAT, f"{CHAT}/v"]


FEEDBACK = {"id": "n1", "conversation_id": CHAT, "user_id": "user-1", "rating": "thumbs_down", "content": "{}"}
ANSWERED = line(("user", "2+2?", {}), ("assistant", "5", {}))


def test_thumbs_in_a_file_of_their_own_judge_the_reply(read):
    other = {
        "message_id": "n9", "conversation_id": "gone", "user_id": "u", "rating": "thumbsUp",
        "content": '{"text": "nice", "tags": []}',
    }  # fmt: skip
    said = {**FEEDBACK, "content": '{"text": "It is 4.", "tags": ["incorrect"]}'}
    told = read(conversations=[ANSWERED], message_feedback=[said, other])
    assert [(r.reply_index, r.kind, r.value, r.comment) for r in told.only.ratings] == [
        (1, "thumb", -1.0, "incorrect: It is 4.")
    ]
    assert told.formats == ["chatgpt", "chatgpt"]
    assert sorted(told.reasons) == ["joined_as_evidence", "orphan_feedback"]


def test_thumbs_are_read_before_the_chats_whatever_the_order_of_the_files(read):
    told = read(conversations=[ANSWERED], message_feedback=[FEEDBACK])
    assert [rating.value for rating in told.only.ratings] == [-1.0]


@pytest.mark.parametrize("name", ["feedback", "thumbs_of_2024", "zz"])
def test_thumbs_are_recognised_by_their_rows_not_by_the_name_of_their_file(read, name):
    chats = read(
        conversations_0=[ANSWERED], conversations_1=[{**ANSWERED, "conversation_id": "c2"}], **{name: [FEEDBACK]}
    )
    assert chats.reasons == ["joined_as_evidence"]
    assert [rating.value for rating in chats.conversations[0].ratings] == [-1.0]


def test_thumbs_without_their_chats_are_named(read):
    told = read(message_feedback=[FEEDBACK])
    assert told.reasons == ["orphan_feedback"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mapping": {}}, "no_messages"),
        ({"mapping": None}, "no_messages"),
        ({"mapping": []}, "no_messages"),
        ({"mapping": {"a": None}}, "not_an_object"),
        ({"mapping": {"a": {"message": 5, "parent": None}}}, "not_an_object"),
        ({"mapping": {"a": node("a", None)}}, "no_messages"),
        ({"mapping": {"a": node("a", None, [], "assistant", "Hello.")}}, "no_user_turn"),
        ({"mapping": {"a": node("a", None, [], "critic", "Hello.")}}, "unknown_role"),
        ({"mapping": {"a": node("a", None, [], "user", {"content_type": "text", "parts": [7]})}}, "bad_content"),
        ({"mapping": {"a": {"message": {"author": {"role": "user"}, "content": 5}, "parent": None}}}, "bad_content"),
        (
            {"mapping": {"a": node("a", "b", ["b"], "user", "x"), "b": node("b", "a", ["a"], "user", "y")}},
            "cyclic_tree",
        ),
    ],
)
def test_what_is_no_chat_has_a_name(read, change, reason):
    assert read({**ANSWERED, **change}, format_name="chatgpt").reasons == [reason]


def test_five_megabytes_and_a_thousand_turns_are_read(read):
    big = read(line(("user", "x" * 5_000_000, {}), ("assistant", "long", {})))
    assert len(big.only.messages[0].content) == 5_000_000
    deep = read(line(*((role, "x", {}) for _ in range(1000) for role in ("user", "assistant"))))
    assert len(deep.only.messages) == 2000


PDF = {"id": "file-1", "name": "report.pdf", "mimeType": "application/pdf"}
PHOTO = {"id": "file-2", "name": "a.png", "mime_type": "image/png"}
POINTER = {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file-2"}


@pytest.mark.parametrize(
    ("attachments", "parts", "text"),
    [
        ([PDF], ["Sum it up."], "Sum it up.\n[file]"),
        ([PDF, PDF], [""], "[file]\n[file]"),
        ([PDF, PHOTO], [POINTER, "Sum it up."], "[image]\nSum it up.\n[file]"),
        ([PHOTO], ["Sum it up."], "Sum it up.\n[image]"),
        ([{"name": "a.docx"}], ["Sum it up."], "Sum it up.\n[file]"),
        ([], ["Sum it up."], "Sum it up."),
        ("?", ["Sum it up."], "Sum it up."),
    ],
)
def test_an_attached_file_leaves_a_mark(read, attachments, parts, text):
    content = {"content_type": "multimodal_text", "parts": parts}
    told = read(line(("user", content, {"metadata": {"attachments": attachments}}), ("assistant", "It is short.", {})))
    assert told.texts() == [("user", text), ("assistant", "It is short.")]
    assert ("media_turns" in told.only.tags) == ("[" in text)
