"""The rules of turns, on small conversations: who judges what, what the prompt is, and what a refusal is."""

import pytest

from drift import turns
from drift.feedback.embedded.labeller import reactions
from drift.feedback.gold import gold_truth
from drift.feedback.judge.window import judging_turns
from drift.feedback.label import labels_from_ratings
from drift.records import ChatMessage, Conversation, FunctionCall, Message, Rating, Reason, Role, ToolCall
from drift.store import Store
from drift.turns import as_text, is_refusal, judged_reply, judging_turn, prompt_of, tool_traffic

ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
JUDGED = {  # roles in order, an upper-case letter is an empty message -> (user turn, the reply that it judges)
    "ua": [],
    "uau": [(2, 1)],
    "uauau": [(2, 1), (4, 3)],
    "suau": [(3, 2)],
    "au": [(1, 0)],  # shared chats are often cut: the reply has no request, but the user speaks about it
    "uauu": [(2, 1)],  # the second message adds to the first
    "uuau": [(3, 2)],
    "uaau": [(3, 2)],  # the last reply is the one that the user has just read
    "uatu": [],  # the assistant has not answered since the tool did
    "utau": [(3, 2)],
    "uatau": [(4, 3)],
    "uasu": [(3, 1)],  # the application adds instructions for each turn
    "uassusau": [(4, 1), (7, 6)],
    "uatsu": [],
    "uaU": [(2, 1)],  # an empty turn judges its reply, without saying how
    "uAu": [(2, 1)],
    "uaUu": [(2, 1)],
    "u": [],
}


def conversation(roles: str, ratings: tuple[Rating, ...] = ()) -> Conversation:
    messages = tuple(
        Message(ROLES[role.lower()], "" if role.isupper() else f"{role} {i}", source_index=10 + i)
        for i, role in enumerate(roles)
    )
    return Conversation("c", "test", "log-c", messages, "train", ratings=ratings)


@pytest.mark.parametrize(("roles", "judged"), JUDGED.items())
def test_a_user_turn_judges_the_reply_directly_before_it(roles, judged):
    messages = conversation(roles).messages
    replies = [(i, judged_reply(messages, i)) for i in range(len(messages))]
    assert [(turn, reply) for turn, reply in replies if reply is not None] == judged
    turns = [(judging_turn(messages, i), i) for i in range(len(messages))]
    assert [(turn, reply) for turn, reply in turns if turn is not None] == judged


@pytest.mark.parametrize(("roles", "judged"), JUDGED.items())
def test_every_labeller_and_the_gold_rows_follow_this_rule(tmp_path, roles, judged):
    replies = [i for i, role in enumerate(roles) if role in "aA"]
    chat = conversation(roles, tuple(Rating(i, "thumb", 1.0) for i in replies))
    assert [(turn.user_index, turn.reply_index) for turn in reactions(chat)] == judged
    assert judging_turns(chat) == [turn for turn, _ in judged if roles[turn] == "u"]  # nobody is asked about silence
    by_reply = {reply: turn for turn, reply in judged}
    assert [label.user_index for label in labels_from_ratings(chat)] == [by_reply.get(reply) for reply in replies]
    store, gold = Store(tmp_path / "store"), tmp_path / "gold.jsonl"
    store.add([chat])
    gold.write_text(
        "".join(f'{{"source_id": "log-c", "message_index": {10 + i}, "label": "SAT"}}\n' for i in range(len(roles)))
    )
    truth, left_out = gold_truth(store, gold)
    assert truth == {("c", reply): "SAT" for _, reply in judged}
    assert (left_out["not_after_a_reply"], left_out["not_in_store"]) == (len(roles) - len(judged), 0)


@pytest.mark.parametrize(
    ("roles", "reply", "expected"),
    [
        ("ua", 1, 1),
        ("suaua", 4, 4),
        ("uua", 2, 2),
        ("a", 0, Reason.NO_REQUEST),
        ("sa", 1, Reason.NO_REQUEST),
        ("uaa", 2, Reason.NO_REQUEST),
        ("uata", 3, 3),
        ("utta", 3, 3),
        ("ta", 1, Reason.NO_REQUEST),
        ("uaata", 4, Reason.NO_REQUEST),
        ("usa", 2, 2),
        ("uasua", 4, 4),
        ("usatsa", 5, 5),
        ("uasa", 3, Reason.NO_REQUEST),
        ("Ua", 1, Reason.NO_REQUEST),
        ("uUa", 2, Reason.NO_REQUEST),
        ("uA", 1, Reason.EMPTY_REJECTED),
        ("UA", 1, Reason.NO_REQUEST),
    ],
)
def test_a_prompt_is_all_before_a_reply_and_ends_with_a_request(roles, reply, expected):
    messages = conversation(roles).messages
    prompt = prompt_of(messages, reply)
    if isinstance(expected, Reason):
        assert prompt == expected
    else:
        assert prompt == tuple(ChatMessage(m.role, m.content) for m in messages[:expected])


def test_an_empty_reply_is_named_by_its_side_of_the_pair():
    assert prompt_of(conversation("uA").messages, 1, if_empty=Reason.EMPTY_CHOSEN) == Reason.EMPTY_CHOSEN


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "As an AI language model, I cannot provide instructions for that.",
        "I am not able to assist you with making weapons.",
        "Sorry, this goes against my guidelines.",
        "I won't write that, it violates our content policy.",
        "Unfortunately I cannot and will not help you here.",
        "I'm sorry, but this request violates our content policy.",
        "I can't make that picture, because it goes against the guidelines.",
        "That would violate OpenAI's usage policies.",
        "I cannot in good conscience write this.",
        "I won't write that as you asked, because it could hurt people.",
        "It is not appropriate to make jokes about this.",
        "很抱歉，我无法提供这方面的信息。",
        "申し訳ありませんが、そのような内容を作成することはできません。",
        "죄송하지만 그 요청은 도와드릴 수 없습니다.",
        "Извините, но я не могу помочь с этим.",
        "Désolé, je ne peux pas vous aider avec cela.",
        "Lo siento, no puedo ayudarte con eso.",
        "Desculpe, não posso ajudar com isso.",
        "Es tut mir leid, ich kann dir dabei nicht helfen.",
        "Mi dispiace, non posso aiutarti.",
        "عذرا، لا أستطيع مساعدتك في ذلك.",
        "Üzgünüm, bu konuda yardımcı olamam.",
        "Xin lỗi, tôi không thể giúp việc này.",
        "It is not appropriate for me to write this. Here are some other ideas.",
        "I won't write that, as you asked for hateful content.",
        "I will not create this image, as requested, because it is harmful.",
        "It would be against the guidelines for me to do that.",
        "I can't verify or provide personal addresses.",
        "I'm unable to find or provide private information about individuals.",
        "I can't identify people or help with that.",
        "I cannot confirm or discuss that.",
        "That violates our policies.",
        "It goes against our policy to share this.",
        "Creating such images is against our usage guidelines.",
    ],
)
def test_refusals(reply):
    assert is_refusal(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry for the mistake, here is the corrected list.",
        "You cannot provide two arguments here; remove one.",
        "Here is a function that can help you generate numbers.",
        "The policy of the school is as follows.",
        "I can't help but notice how lovely the sea is. Here is your poem:",
        "I could not find any support for that claim, but here is a summary.",
        "I won't write it in rhyme, as you asked: The sea is blue.",
        "It violates the style guidelines: line 3 is too long.",
        "Sure! The refund is against our policy, the customer wrote. Draft:",
        "It is not appropriate to use Comic Sans; here is the slide.",
        "Ich kann dir helfen: hier ist die Liste.",
        "我可以帮助你，这是列表。",
        "x" * 1000 + " I cannot help with that.",
    ],
)
def test_other_replies_are_not_refusals(reply):
    assert not is_refusal(reply)


CALL = ToolCall(FunctionCall("sort", '{"n": 1}'), "k")


def test_a_call_is_a_line_of_its_own_for_readers():
    assert as_text(ChatMessage("assistant", "I look.", tool_calls=(CALL,))) == 'I look.\n[call sort({"n": 1})]'
    assert as_text(ChatMessage("assistant", "", tool_calls=(CALL, CALL))).count("[call sort(") == 2
    assert as_text(ChatMessage("assistant", "yes", reasoning="hm")) == "yes"


def test_a_call_is_a_reply_and_not_an_empty_one():
    messages = [Message("user", "?"), Message("assistant", "", tool_calls=(CALL,))]
    assert prompt_of(messages, 1) == (ChatMessage("user", "?"),)
    broken = ToolCall(FunctionCall("sort", "{cut"), "k")
    assert prompt_of([messages[0], Message("assistant", "x", tool_calls=(broken,))], 1) == Reason.BROKEN_TOOL_CALL
    assert prompt_of([*messages, Message("assistant", "x")], 2) == Reason.UNANSWERED_CALL


@pytest.mark.parametrize(
    ("ids", "answers", "expected"),
    [
        (["a", "b"], ["b", "a"], {"calls": 2}),
        ([None, None], [None, None], {"calls": 2}),
        (["a"], [None], {"calls": 1}),
        ([None], ["a"], {"calls": 1}),
        (["a"], ["b"], {"calls": 1, "calls_without_answer": 1, "answers_without_call": 1}),
        (["a"], ["a", "a"], {"calls": 1, "second_answers": 1}),
        ([], ["a"], {"answers_without_call": 1}),
        (["a", "b"], ["a"], {"calls": 2, "calls_without_answer": 1}),
    ],
)
def test_calls_and_answers_are_matched(ids, answers, expected):
    calls = tuple(ToolCall(CALL.function, name) for name in ids)
    asked = [ChatMessage("user", "?"), ChatMessage("assistant", "", tool_calls=calls)]
    answered = [ChatMessage("tool", "x", tool_call_id=name) for name in answers]
    assert tool_traffic([*asked, *answered, ChatMessage("user", "more")]) == expected


def test_a_prompt_keeps_the_newest_turns_of_a_chat_without_end(monkeypatch):
    monkeypatch.setattr(turns, "MOST_PROMPT_MESSAGES", 4)
    messages = conversation("suauauaua").messages
    assert prompt_of(messages, 2) == tuple(m.chat() for m in messages[:2])
    assert prompt_of(messages, 4) == tuple(m.chat() for m in messages[:4])
    assert prompt_of(messages, 8) == (messages[0].chat(), *(m.chat() for m in messages[5:8]))  # begins with a request
    monkeypatch.setattr(turns, "MOST_PROMPT_CHARACTERS", 7)  # "u 5" and "a 6" have three each
    assert prompt_of(messages, 8) == (messages[0].chat(), *(m.chat() for m in messages[5:8]))
    monkeypatch.setattr(turns, "MOST_PROMPT_CHARACTERS", 2)
    assert prompt_of(messages, 8) == (messages[0].chat(), messages[7].chat())  # the request stays, however long
    called = conversation("uauata").messages
    assert prompt_of(called, 5) == tuple(m.chat() for m in called[2:5])  # with the calls behind it


@pytest.mark.parametrize(
    "reply",
    [  # in plain ASCII, which is looked through for a few words before the long search
        "Je ne peux pas vous aider avec cela.",
        "Lo siento, no puedo ayudar con eso.",
        "NO ME ES POSIBLE RESPONDER a eso.",
        "Das geht nicht: ich kann dabei leider nicht helfen.",
        "Mi dispiace, non posso aiutarti.",
        "Bu konuda yardimci olamam.",
        "Yardim edemem.",
        "Buna yanit veremem.",
        "Bunu yazamam.",
    ],
)
def test_a_refusal_in_another_language_may_be_plain_ascii(reply: str):
    assert is_refusal(reply)
    assert is_refusal(f"{reply} \N{EM DASH}")  # as it does with the long search alone
