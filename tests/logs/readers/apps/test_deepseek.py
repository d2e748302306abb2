"""DeepSeek's export: a tree as ChatGPT's, with fragments or with texts that name no role."""

import pytest

REQUEST, REPLY, COMPLAINT = "Sort: moon eagle", "moon eagle", "That is wrong."


def fragment(kind: str, content: str) -> dict:
    return {"type": kind, "content": content}


def chat(*messages: dict, **more: str) -> dict:
    """A chat whose messages follow each other below an empty root; `more`: the parent of a message by its number."""
    mapping = {"root": {"id": "root", "parent": None, "children": ["1"], "message": None}}
    for number, message in enumerate(messages, 1):
        parent = more.get(f"n{number}", str(number - 1) if number > 1 else "root")
        mapping[str(number)] = {"id": str(number), "parent": parent, "children": [], "message": message}
    return {"id": "c1", "title": "t", "inserted_at": "2025-01-30T06:00:00+00:00", "mapping": mapping}


def with_fragments(*fragments: dict, files=()) -> dict:
    return {"files": list(files), "model": "deepseek-chat", "inserted_at": None, "fragments": list(fragments)}


def with_text(text: str, thought: str | None = None) -> dict:
    return {"files": [], "model": "deepseek-chat", "content": text, "reasoning_content": thought}


NEW = [
    with_fragments(fragment("REQUEST", REQUEST)),
    with_fragments(fragment("SEARCH", "x"), fragment("THINK", "hm"), fragment("RESPONSE", REPLY)),
    with_fragments(fragment("REQUEST", COMPLAINT)),
]
OLD = [with_text(REQUEST), with_text(REPLY, "hm"), with_text(COMPLAINT)]


@pytest.mark.parametrize("messages", [NEW, OLD])
def test_requests_thoughts_and_replies(read, messages):
    told = read(chat(*messages))
    assert told.formats == ["deepseek"]
    assert told.texts() == [("user", REQUEST), ("assistant", REPLY), ("user", COMPLAINT)]
    assert told.only.messages[1].reasoning == "hm"
    assert (told.only.model, told.only.started_at) == ("deepseek-chat", "2025-01-30T06:00:00+00:00")


@pytest.mark.parametrize("messages", [NEW, OLD])
def test_a_reply_that_was_asked_for_again_is_disliked(read, messages):
    told = read(chat(*messages[:2], messages[1], n3="1"))
    assert sorted(len(one.ratings) for one in told.conversations) == [0, 1]


def test_an_attached_file_leaves_a_mark(read):
    told = read(chat(with_fragments(fragment("REQUEST", REQUEST), files=[{"file_name": "a.pdf"}]), NEW[1]))
    assert told.texts()[0] == ("user", f"{REQUEST}\n[file]")


def test_a_folder_with_the_exports_of_both_is_read(read, tmp_path):
    node = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Hi."]}}
    other = {"conversation_id": "c", "mapping": {"a": {"message": node, "parent": None, "children": []}}}
    told = read(ours=[chat(*NEW)], theirs=[other])
    assert told.formats == ["deepseek", "chatgpt"]
    assert len(told.conversations) == 2


def test_an_empty_chat_has_a_name(read):
    told = read(chat(with_fragments()), chat(*NEW))
    assert told.reasons == ["no_messages"]
