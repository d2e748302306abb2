"""Preference files: whatever a tool calls the two replies, one is disliked, and the other is its correction."""

import json

import pytest

from drift.logs.ingest import ingest
from drift.pairs.disliked import prompt_items
from drift.records import FeedbackLabel, PromptItem
from drift.store import Store

Q, GOOD, BAD = "Name a red fruit.", "Cherry.", "Banana."
USER, BETTER, WORSE = (
    {"role": "user", "content": Q},
    {"role": "assistant", "content": GOOD},
    {"role": "assistant", "content": BAD},
)
SHAREGPT = {"from": "human", "value": Q}
BETTER_GPT, WORSE_GPT = {"from": "gpt", "value": GOOD}, {"from": "gpt", "value": BAD}
PAIRS = {
    "TRL, explicit": {"prompt": [USER], "chosen": [BETTER], "rejected": [WORSE]},
    "TRL, implicit": {"chosen": [USER, BETTER], "rejected": [USER, WORSE]},
    "TRL, texts": {"prompt": Q, "chosen": GOOD, "rejected": BAD},
    "TRL, one message each": {"prompt": [USER], "chosen": BETTER, "rejected": WORSE},
    "the prompt repeated in both sides": {"prompt": Q, "chosen": [USER, BETTER], "rejected": [USER, WORSE]},
    "a system message only in the prompt": {"prompt": [USER], "chosen": [USER, BETTER], "rejected": [USER, WORSE]},
    "hh-rlhf": {
        "chosen": f"\n\nHuman: {Q}\n\nAssistant: {GOOD}",
        "rejected": f"\n\nHuman: {Q}\n\nAssistant: {BAD}",
    },
    "orca": {"question": Q, "chosen": GOOD, "rejected": BAD},
    "replies named otherwise": {"prompt": Q, "chosen_response": GOOD, "rejected_response": BAD},
    "ms-swift": {"messages": [USER, BETTER], "rejected_response": BAD},
    "ms-swift, messages": {"messages": [USER, BETTER], "rejected_messages": [USER, WORSE]},
    "ms-swift, one message": {"messages": [USER, BETTER], "rejected_messages": [WORSE]},
    "LLaMA-Factory": {"conversations": [SHAREGPT], "chosen": BETTER_GPT, "rejected": WORSE_GPT},
    "LLaMA-Factory, messages": {"messages": [USER], "chosen": BETTER, "rejected": WORSE},
    "LLaMA-Factory, alpaca": {"instruction": "Name a red", "input": "fruit.", "chosen": GOOD, "rejected": BAD},
    "OpenAI": {"input": {"messages": [USER]}, "preferred_output": [BETTER], "non_preferred_output": [WORSE]},
}  # fmt: skip


@pytest.mark.parametrize("shape", PAIRS)
def test_one_disliked_reply_with_its_preferred_one(read, shape):
    told = read(PAIRS[shape])
    assert told.formats == ["preference"]
    assert [text for _, text in told.texts()] == [Q.replace("red ", "red\n") if "alpaca" in shape else Q, BAD]
    assert [(r.reply_index, r.kind, r.value, r.preferred) for r in told.only.ratings] == [(1, "correction", -1.0, GOOD)]
    assert (told.only.source, told.only.tags) == ("preference", {})


KTO = {
    "TRL": {"prompt": [USER], "completion": [WORSE], "label": False},
    "TRL, texts": {"prompt": Q, "completion": BAD, "label": False},
    "TRL, a number": {"prompt": Q, "completion": BAD, "label": 0},
    "ms-swift": {"messages": [USER, WORSE], "label": False},
    "LLaMA-Factory": {"messages": [USER, WORSE], "label": False},
    "LLaMA-Factory, sharegpt": {"conversations": [SHAREGPT, WORSE_GPT], "kto_tag": False},
    "LLaMA-Factory, alpaca": {"instruction": Q, "input": "", "output": BAD, "kto_tag": False},
}


@pytest.mark.parametrize("shape", KTO)
@pytest.mark.parametrize("liked", [True, False])
def test_a_label_is_a_thumb_on_the_last_reply(read, shape, liked):
    row = {key: type(value)(liked) if key in ("label", "kto_tag") else value for key, value in KTO[shape].items()}
    told = read(row)
    assert told.formats == ["preference"]
    assert told.texts() == [("user", Q), ("assistant", BAD)]
    assert [(r.reply_index, r.kind, r.value) for r in told.only.ratings] == [(1, "thumb", 1.0 if liked else -1.0)]


def test_the_pair_that_is_made_of_it(read):
    conversation = read(PAIRS["TRL, explicit"]).only
    label = FeedbackLabel(conversation.conversation_id, 1, None, "DSAT", "rating", "1")
    (item,) = prompt_items([(conversation, [label])], 0.5)
    assert isinstance(item, PromptItem)
    assert item.rejected is not None
    assert item.preferred is not None
    assert (item.prompt[0].content, item.rejected.content, item.preferred.content) == (Q, BAD, GOOD)


def test_a_longer_chat_with_history_and_system(read):
    row = {
        "system": "Be brief.", "instruction": "And a yellow one?", "input": "",
        "history": [["Name a red fruit.", "Cherry."]], "chosen": "Lemon.", "rejected": "Plum.", "license": "MIT",
    }  # fmt: skip
    told = read(row)
    assert told.texts() == [
        ("system", "Be brief."), ("user", "Name a red fruit."), ("assistant", "Cherry."),
        ("user", "And a yellow one?"), ("assistant", "Plum."),
    ]  # fmt: skip
    assert [(r.reply_index, r.preferred) for r in told.only.ratings] == [(4, "Lemon.")]
    assert told.only.tags == {"license": "MIT"}


CALLED = {"role": "assistant", "content": ""}
SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be brief.", "tools": [SEARCH], **PAIRS["orca"]},
        {"system": "Be brief.", "tools": [SEARCH], **KTO["ms-swift"]},
        {
            **PAIRS["OpenAI"],
            "input": {"messages": [{"role": "system", "content": "Be brief."}, USER], "tools": [SEARCH]},
        },
    ],
)
def test_the_system_message_and_the_tools_beside_the_replies_are_kept(read, row):
    told = read(row)
    assert told.texts() == [("system", "Be brief."), ("user", Q), ("assistant", BAD)]
    assert [(rating.reply_index, rating.value) for rating in told.only.ratings] == [(2, -1.0)]
    assert json.loads(told.only.tools or "") == [SEARCH]


def test_several_rejected_replies_are_several_conversations(read):
    told = read({"messages": [USER, BETTER], "rejected_response": ["Banana.", "Plum."]})
    assert [[text for _, text in told.texts(place)] for place in (0, 1)] == [[Q, "Banana."], [Q, "Plum."]]
    assert len({one.conversation_id for one in told.conversations}) == 2


ONE_ID = {
    "one row": [{"id": "x", "prompt": Q, "chosen": GOOD, "rejected": [BAD, "Plum."]}],
    "two rows": [{"id": 7, "prompt": Q, "chosen": GOOD, "rejected": reply} for reply in (BAD, "Plum.")],
    "labels": [{"id": "x", "prompt": Q, "completion": reply, "label": False} for reply in (BAD, "Plum.")],
    "calls": [
        {"id": "x", "prompt": Q, "chosen": GOOD, "rejected": [{**CALLED, "tool_calls": [{"function": {"name": name}}]}]}
        for name in ("a", "b")
    ],
}  # fmt: skip


@pytest.mark.parametrize("rows", ONE_ID)
def test_replies_to_a_request_with_an_id_are_conversations_of_one_split(tmp_path, rows):
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_text("".join(json.dumps(row) + "\n" for row in ONE_ID[rows]))
    for accepted in (2, 0):
        assert ingest([log], store).accepted == accepted
    assert len({conversation.split for conversation in store.conversations()}) == 1


def test_two_rows_about_one_request_stay_two(read):
    told = read(
        *(
            {"prompt": [USER, BETTER, USER], "chosen": [BETTER], "rejected": [row]}
            for row in (WORSE, {**WORSE, "content": "Plum."})
        )
    )
    assert len({one.conversation_id for one in told.conversations}) == 2


def test_sides_that_part_early_are_judged_where_they_part(read):
    then = {"role": "user", "content": "And a yellow one?"}
    told = read({"chosen": [USER, BETTER, then, BETTER], "rejected": [USER, WORSE, then, WORSE]})
    assert [text for _, text in told.texts()] == [Q, BAD, "And a yellow one?", BAD]
    assert [(r.reply_index, r.preferred) for r in told.only.ratings] == [(1, GOOD)]


def test_a_class_of_texts_is_no_label_and_scored_replies_stay_ultrafeedback(read):
    assert read({"messages": [USER, BETTER], "label": "fruit"}).formats == ["messages"]
    row = {"prompt": Q, "chosen": [USER, BETTER], "rejected": [USER, WORSE], "score_chosen": 9, "score_rejected": 2}
    assert read(row).formats == ["ultrafeedback"]


def test_a_weight_of_nought_is_no_dislike(read):
    told = read(
        {"messages": [USER, {**WORSE, "weight": 0}, {"role": "user", "content": "No."}, {**BETTER, "weight": 1}]}
    )
    assert told.formats == ["messages"]
    assert told.only.ratings == ()
    assert len(told.only.messages) == 4


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": [], "chosen": [BETTER], "rejected": [WORSE]}, "no_messages"),
        ({"prompt": None, "chosen": [BETTER], "rejected": [WORSE]}, "roles_out_of_order"),
        ({"prompt": 5, "chosen": GOOD, "rejected": BAD}, "no_messages"),
        ({"prompt": Q, "chosen": GOOD, "rejected": None}, "no_messages"),
        ({"prompt": Q, "chosen": [], "rejected": BAD}, "no_messages"),
        ({"prompt": Q, "chosen": 5, "rejected": BAD}, "no_messages"),
        ({"prompt": [USER, BETTER], "chosen": [BETTER], "rejected": [WORSE]}, "roles_out_of_order"),
        ({"chosen": GOOD, "rejected": BAD}, "roles_out_of_order"),
        ({"chosen": [USER], "rejected": [USER]}, "roles_out_of_order"),
        ({"messages": [USER], "rejected_response": BAD}, "roles_out_of_order"),
        ({"messages": [USER], "label": False}, "roles_out_of_order"),
        ({"messages": [], "label": False}, "no_messages"),
        ({"prompt": Q, "completion": None, "label": True}, "no_messages"),
        ({"prompt": Q, "completion": BAD, "label": 7}, "bad_content"),
        ({"prompt": Q, "chosen": str([BETTER]), "rejected": str([WORSE])}, "bad_content"),  # as pandas writes lists
        ({"instruction": Q, "output": BAD, "history": [["a"]], "kto_tag": True}, "bad_content"),
        ({"instruction": Q, "output": BAD, "history": 5, "kto_tag": True}, "bad_content"),
        ({"instruction": 5, "output": BAD, "kto_tag": True}, "bad_content"),
    ],
)
def test_what_is_no_pair_has_a_name(read, row, reason):
    assert read(row, format_name="preference").reasons == [reason]


def test_a_preferred_reply_without_text_is_only_a_dislike(read):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    told = read({"prompt": Q, "chosen": "", "rejected": BAD}, {"prompt": Q, "chosen": [call], "rejected": "Plum."})
    assert [[(r.kind, r.value, r.preferred) for r in one.ratings] for one in told.conversations] == [
        [("score", -1.0, None)]
    ] * 2


def test_five_megabytes_are_read(read):
    assert len(read({"prompt": Q, "chosen": GOOD, "rejected": "x" * 5_000_000}).only.messages[1].content) == 5_000_000


def test_alpaca_with_history(read):
    row = {"instruction": "No.", "input": "Really.", "output": GOOD, "history": [[Q, BAD]], "system": "Be brief."}
    told = read(row)
    assert told.formats == ["alpaca"]
    assert told.texts() == [
        ("system", "Be brief."), ("user", Q), ("assistant", BAD), ("user", "No.\nReally."), ("assistant", GOOD),
    ]  # fmt: skip
    assert told.only.ratings == ()
    assert read({"query": Q, "response": GOOD}).texts() == [("user", Q), ("assistant", GOOD)]


def test_chats_that_are_lists_of_messages(tmp_path, read_files):
    one, other = (
        '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
        '[{"role": "user", "content": "c"}]',
    )
    shapes = {
        "array.json": f"[{one},\n {other}]",
        "lines.jsonl": f"{one}\n{other}\n",
        "whole.json": one.replace(", {", ",\n {"),
        "table.jsonl": '[{"role": "user", "content": "a", "chat": 1}]',
    }
    found = {}
    for name, text in shapes.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        if name != "table.jsonl":
            told = read_files(tmp_path / name)
            found[name] = [[message.content for message in chat.messages] for chat in told.conversations]
    assert found == {"array.json": [["a", "b"], ["c"]], "lines.jsonl": [["a", "b"], ["c"]], "whole.json": [["a", "b"]]}
    with pytest.raises(Exception, match="unknown log format"):
        read_files(tmp_path / "table.jsonl")


def test_an_image_is_of_its_message_alone(read):
    seen = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url"}]}
    row = {"prompt": [seen, {"role": "assistant", "content": "A cat."}, USER], "chosen": [BETTER], "rejected": [WORSE]}
    only = read(row).only
    assert [only.has_media(place) for place in range(4)] == [True, False, False, False]
