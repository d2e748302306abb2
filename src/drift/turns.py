"""Rules about the turns of a conversation that several packages follow.

Which user message judges which reply, what the prompt of a reply is, which messages a complaint involves, and whether a
reply declines to help.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

import orjson

from drift.records import ChatMessage, Conversation, FeedbackLabel, Message, Reason, ToolCall

MOST_PROMPT_MESSAGES, MOST_PROMPT_CHARACTERS = 1000, 1_000_000
"""What a prompt keeps of a conversation before the request, the newest turns first. More fits into no model's context,
and a chat of 10,000 turns in which each reply is disliked would fill gigabytes with its beginning."""
LONGEST_SHOWN = 20_000
"""Characters of one message on a page: a pasted log must not make it unusable."""
LANGUAGE_CHARACTERS = 40
"""The language of a shorter text is a guess."""
REFUSAL_CHARACTERS = 400
"""A reply that declines to help says so within this many characters."""
UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point: no reader sees these characters."""
# Kana, Han, Thai, Lao, Burmese and Khmer have no spaces between words, and each emoji says something.
SIGNS = (
    r"\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003ffff"
    r"\u2190-\u24ff\u25a0-\u2bff\U0001f000-\U0001faff"  # without the lines of tables and trees
)
"""For a class of a regular expression: signs of scripts that are compared sign by sign."""
_BETWEEN_SPACES = re.compile(rf"[{SIGNS}]|[^\s{SIGNS}]+")
_UNABLE = r"(?:can(?:not|['\u2019]t)|could not|won['\u2019]t|will not|(?: am|['\u2019]m) (?:not able|unable) to)"
_HELP = r"(?:help|assist|provide|comply|fulfil|engage|create|generate|write|do th(?:at|is)|support|discuss|answer)"
_SEARCHED = r"(?:find|see|locate|spot|identify|think|recall|verify|confirm)"  # "I could not find any support for ..."
_AS_ASKED = (
    r"[^.!?\n]{0,80}, as (?:you )?(?:asked|requested|instructed|wished)\s*(?:[.!?:;\n]|$)"  # "I won't rhyme, as ..."
)
_RULES = r"(?:guidelines|polic(?:y|ies)|programming)"
_REFUSAL = re.compile(
    rf"\bI(?: really| also)? ?(?!(?:won['\u2019]t|will not)\b{_AS_ASKED}){_UNABLE}"
    rf"(?! {_SEARCHED}\b(?![^.!?\n]{{0,40}} or {_HELP}))(?: \w+){{0,3}}? ?"
    rf"{_HELP}(?! but\b)|\bunable to (?:\w+ or )?{_HELP}"
    rf"|\bagainst my (?:\w+ )?{_RULES}|\bviolates? (?:my|our) {_RULES}"
    rf"|(?:^\W*(?:it|\w+ing)|\bthat|\bthis)\b[^.!?\n]{{0,40}}\bagainst our (?:\w+ )?{_RULES}"
    rf"|(?:\bI ?{_UNABLE}|\bsorry\b|\bapologi[sz]e\b"
    r"|\b(?:this|that|your|such)(?: an?)? (?:request|prompt|question|topic)s?\b)"
    rf"[^.!?\n]{{0,120}}\b(?:against (?:our|the) (?:\w+ )?|violates? (?:\w+ ){{0,3}}){_RULES}"
    rf"|\bviolates? (?:my|our|the|openai['\u2019]s) (?:\w+ )?(?:content|usage|use|safety|community|ethical) {_RULES}"
    rf"|\bagainst (?:our|the) (?:\w+ )?{_RULES} for me to\b|\b(?:not|never) (?:appropriate|ethical|legal) for me to\b"
    r"|\b(?:not|never) (?:appropriate|ethical|legal) to\b(?![^\n]{0,200}\bhere(?:['\u2019]s| is| are)\b)",
    re.IGNORECASE,
)
_REFUSAL_ABROAD = re.compile(
    r"我(?:无法|不能|不可以)(?:提供|帮助|协助|满足|回答|生成|讨论)|作为(?:一个|一名)?(?:AI|人工智能)[^。]{0,20}(?:无法|不能)"
    r"|(?:お手伝い|お答え|提供|対応|回答|作成)(?:することは|は)?でき(?:ません|かねます)"
    r"|(?:도와드릴|제공할|답변할|도울|작성할) 수 (?:없|가 없)"
    r"|\bя не могу (?:помочь|предоставить|выполнить|ответить|обсуждать|создать|написать)"
    r"|\bje ne peux (?:pas|malheureusement pas) (?:vous |t')?(?:aider|fournir|répondre|créer|écrire)"
    r"|\bno (?:puedo|me es posible) (?:ayudar|proporcionar|responder|crear|escribir|cumplir)"
    r"|\bnão (?:posso|consigo) (?:ajudar|fornecer|responder|criar|escrever|atender)"
    r"|\bich kann (?:dir |ihnen |euch |dabei |damit |hierbei |leider |das )*nicht "
    r"(?:helfen|bereitstellen|beantworten|erstellen|schreiben|dienen)"
    r"|\bnon posso (?:aiutar|fornir|rispondere|creare|scrivere|soddisfare)"
    r"|لا (?:أستطيع|يمكنني) (?:مساعدت|تقديم|المساعدة|الإجابة|كتابة|إنشاء)"
    r"|(?:yardımcı olamam|yardım edemem|sağlayamam|yanıt veremem|yazamam)"
    r"|\btôi không thể (?:giúp|hỗ trợ|cung cấp|trả lời|tạo|viết)",
    re.IGNORECASE,
)
"""The same in the languages of the embedded labeller."""
_REFUSAL_ABROAD_IN_ASCII = ("je ne peux ", "no puedo ", "no me es posible ", "ich kann ", "non posso ", "amam", "emem")
"""One of these is in every text of plain ASCII that _REFUSAL_ABROAD finds, and most replies of most logs are English:
to look for these takes a twentieth of the time. (The last two are Turkish: with IGNORECASE, a dotless i is an i.)"""


EXCLUDED_SUBTYPES = {
    reason.value: reason for reason in (Reason.REFUSAL_COMPLAINT, Reason.USER_MISTAKEN, Reason.ABUSE, Reason.TOXIC)
}
"""Subtypes of complaints that give pairs only if `labels.include` names them.

DEVIATION: the paper trains on every disliked reply. A complaint about a refusal, abuse or a toxic exchange would teach
the policy to comply with what it should refuse; one of a user who is wrong, to give up what is right.
"""


def judged_reply(messages: Sequence[Message], index: int) -> int | None:
    """Index of the reply that `messages[index]` judges, or None if it judges none.

    A user message judges the assistant message before it, and nothing else: the second of two user messages adds to
    the first, and after a tool message the assistant has not answered yet. Instructions between the two (many
    applications add the context of each turn) speak to the model, not to the user. An empty message judges its reply
    too; it only does not say how.
    """
    before = spoken_before(messages, index) if messages[index].role == "user" else None
    return before if before is not None and messages[before].role == "assistant" else None


def judging_turn(messages: Sequence[Message], reply_index: int) -> int | None:
    """Index of the user message that judges `messages[reply_index]`: the inverse of `judged_reply`."""
    after = spoken_after(messages, reply_index)
    return after if after is not None and judged_reply(messages, after) == reply_index else None


def spoken_before(messages: Sequence[Message], index: int) -> int | None:
    """Index of the message before `messages[index]` that is no system message; None if there is none."""
    return next((place for place in range(index - 1, -1, -1) if messages[place].role != "system"), None)


def spoken_after(messages: Sequence[Message], index: int) -> int | None:
    """The same of the message after it."""
    return next((place for place in range(index + 1, len(messages)) if messages[place].role != "system"), None)


def prompt_of(
    messages: Sequence[Message], reply_index: int, if_empty: Reason = Reason.EMPTY_REJECTED
) -> tuple[ChatMessage, ...] | Reason:
    """The messages before a reply, as its prompt; or the reason why the two make no training example.

    Of a very long conversation, the system messages and the newest turns (`first_kept`).
    NO_REQUEST: no user's request with a text comes before the reply (directly, or before calls of tools and their
    answers). `if_empty`: the reply is empty and calls no tool. UNANSWERED_CALL: the message before the reply is a call
    that no tool answered. BROKEN_TOOL_CALL: a call in the prompt or the reply is broken (see `is_broken`).
    """
    request = request_index(messages, reply_index)
    if request is None:
        before = spoken_before(messages, reply_index)
        called = before is not None and bool(messages[before].tool_calls)
        return Reason.UNANSWERED_CALL if called else Reason.NO_REQUEST
    if not messages[request].content.strip():
        return Reason.NO_REQUEST
    if not messages[reply_index].content.strip() and not messages[reply_index].tool_calls:
        return if_empty
    first = first_kept(messages, request, reply_index)
    system = messages[: next((i for i, m in enumerate(messages[:first]) if m.role != "system"), first)]
    kept = (*system, *messages[first:reply_index])
    if any(is_broken(call) for message in (*kept, messages[reply_index]) for call in message.tool_calls):
        return Reason.BROKEN_TOOL_CALL
    return tuple(message.chat() for message in kept)


def first_kept(messages: Sequence[Message], request: int, reply_index: int) -> int:
    """Index of the user's message with which a prompt begins behind its system messages; 0 if nothing is left out.

    What comes after the request stays, however long it is.
    """
    first, characters = request, 0
    for place in range(request - 1, -1, -1):
        characters += messages[place].size
        if reply_index - place > MOST_PROMPT_MESSAGES or characters > MOST_PROMPT_CHARACTERS:
            return first
        if messages[place].role == "user":
            first = place
    return 0


def request_index(messages: Sequence[Message], reply_index: int) -> int | None:
    """Index of the user's message that `messages[reply_index]` replies to, directly or after calls of tools and their
    answers; None if there is no such message. System messages may stand between."""
    after, index = reply_index, spoken_before(messages, reply_index)
    while index is not None and messages[index].role in ("tool", "assistant"):
        if messages[index].role == "assistant" and messages[after].role != "tool":
            return None
        after, index = index, spoken_before(messages, index)
    return index


def is_broken(call: ToolCall) -> bool:
    """Can the call not be shown as one: it names no function, or its arguments are no JSON object?"""
    return not call.function.name or not isinstance(_parsed(call.function.arguments), dict)


def needs_media(conversation: Conversation, reply_index: int) -> bool:
    """Does the last exchange, from the user's request to the reply, hold an image, a file or sound?

    Media of earlier exchanges do not count: most later requests are about something else.
    """
    request = request_index(conversation.messages, reply_index)
    return conversation.has_media(*range(reply_index if request is None else request, reply_index + 1))


def tool_traffic(messages: Sequence[ChatMessage]) -> Counter[str]:
    """How often tools are called, and what is odd about it: `calls`, `broken_calls`, `calls_without_answer`,
    `answers_without_call`, `second_answers`. Calls and answers belong together by their id, else by their order."""
    counts: Counter[str] = Counter()
    waiting: list[str | None] = []
    answered: list[str | None] = []
    for message in messages:
        if message.role == "user":
            counts["calls_without_answer"] += len(waiting)
            waiting, answered = [], []
        counts["calls"] += len(message.tool_calls)
        counts["broken_calls"] += sum(map(is_broken, message.tool_calls))
        waiting += [call.id for call in message.tool_calls]
        if message.role == "tool":
            given = message.tool_call_id
            called = given if given in waiting else next((name for name in waiting if not (name and given)), "")
            if called in waiting:
                waiting.remove(called)
                answered.append(called)
            else:
                is_second = given in answered if given else bool(answered)
                counts["second_answers" if is_second else "answers_without_call"] += 1
    counts["calls_without_answer"] += len(waiting)
    return +counts


def as_text(message: ChatMessage) -> str:
    """What a message says to a reader: its content, then each tool call on a line of its own."""
    if not message.tool_calls:
        return message.content
    calls = [f"[call {call.function.name}({call.function.arguments})]" for call in message.tool_calls]
    return "\n".join((*filter(None, (message.content,)), *calls))


def words_of(text: str) -> list[str]:
    """What stands between spaces, and each sign of a script that writes without them by itself."""
    return _BETWEEN_SPACES.findall(text)


def readable(text: str) -> str:
    """The text for comparisons, as a reader sees it: in small letters, with plain letters for full-width and other
    compatibility forms (NFKC), without characters that nobody sees and without marks above and below that are no part
    of a letter. What is written in them hides no word."""
    return (
        text if text.isascii() else _marks().sub("", unicodedata.normalize("NFKC", UNSEEN.sub("", text)))
    ).casefold()


@cache
def _marks() -> re.Pattern[str]:
    """Unicode's combining marks: an accent without a letter of its own, vowel signs of Hindi, points of Hebrew, ..."""
    marks = (chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(f"[{''.join(marks)}]+")


def called(message: ChatMessage) -> list[tuple[str, object]]:
    """The tools that a message calls, with the parsed arguments: white space in JSON does not count."""
    return [(call.function.name, _parsed(call.function.arguments)) for call in message.tool_calls]


def _parsed(arguments: str) -> object:
    """The value of JSON text; a text that is no JSON as it is."""
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments


def is_toxic_complaint(conversation: Conversation, label: FeedbackLabel) -> bool:
    """Did the log's own moderation flag the request, the reply, or what the user wrote about the reply?"""
    request = request_index(conversation.messages, label.reply_index)
    first = label.reply_index - 1 if request is None else request
    involved = (*range(first, label.reply_index + 1), label.user_index)
    return conversation.is_toxic(*(index for index in involved if index is not None and index >= 0))


def is_disliked(label: FeedbackLabel, min_p_dsat: float) -> bool:
    """True for a DSAT label that is probable enough. A label without a probability comes from a person and counts."""
    return label.label == "DSAT" and (label.p_dsat is None or label.p_dsat >= min_p_dsat)


def is_liked(label: FeedbackLabel, min_p_sat: float) -> bool:
    """The same for a SAT label."""
    return label.label == "SAT" and (label.p_sat is None or label.p_sat >= min_p_sat)


def complaint_of(conversation: Conversation, label: FeedbackLabel) -> ChatMessage | None:
    """The comment of the user's own dislike, else what they wrote next unless that does not explain a bare thumb.

    The comment of a rating that praises the reply is no complaint, and neither is an annotator's.
    """
    dislikes = [
        rating
        for rating in conversation.ratings
        if rating.reply_index == label.reply_index and rating.kind != "score" and rating.value < 0
    ]
    comments = [rating.comment for rating in dislikes if rating.comment]
    if comments and label.labeller == "rating":
        return ChatMessage("user", comments[-1])
    if label.user_index is None:
        return None
    turn = conversation.messages[label.user_index].chat()
    thumbed = label.labeller == "rating" and all(rating.kind != "correction" for rating in dislikes)
    bare = thumbed and (not label.evidence or label.evidence not in turn.content)
    return None if bare else turn


def exclusion_reason(conversation: Conversation, label: FeedbackLabel, include: frozenset[str]) -> Reason | None:
    """Why a complaint makes no pair, whatever the reply to it; None if nothing speaks against it."""
    if "toxic" not in include and is_toxic_complaint(conversation, label):
        return Reason.TOXIC
    return None if label.subtype in include else EXCLUDED_SUBTYPES.get(label.subtype or "")


def liked_exclusion_reason(
    conversation: Conversation, label: FeedbackLabel, labels: Sequence[FeedbackLabel], include: frozenset[str]
) -> Reason | None:
    """Why a liked reply must not teach; None if nothing speaks against it. `labels`: all of the conversation.

    It is flagged as toxic, or it is the next reply to a user who was wrong, and gave in.
    """
    if "toxic" not in include and is_toxic_complaint(conversation, label):
        return Reason.TOXIC
    gave_in = Reason.USER_MISTAKEN not in include and any(
        other.label == "DSAT"
        and other.subtype == Reason.USER_MISTAKEN
        and (turn := judging_turn(conversation.messages, other.reply_index)) is not None
        and turn == request_index(conversation.messages, label.reply_index)
        for other in labels
    )
    return Reason.USER_MISTAKEN if gave_in else None


def is_refusal(reply: str) -> bool:
    """Does the reply begin by declining to help? An apology for a mistake is not a refusal."""
    opening = reply[:REFUSAL_CHARACTERS]
    if _REFUSAL.search(opening):
        return True
    if opening.isascii():
        small = opening.lower()
        if not any(part in small for part in _REFUSAL_ABROAD_IN_ASCII):
            return False
    return _REFUSAL_ABROAD.search(opening) is not None
