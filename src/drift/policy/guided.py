"""The guided prompt: the policy sees the complaint, and answers the same request again.

Only sampling uses it. The prompt of the training pair is the request alone, so the policy learns to give the improved
answer at once. Three forms (`recipe.guidance`): `turn`, the paper's, continues the chat with the disliked reply and the
complaint; `hint` and `rewrite` put what they show behind the request, in the request's own message, for models that
answer the complaint when it is a turn of its own. Do not change `INSTRUCTION` or `guided_turn`: the shipped checkpoints
were trained on this format.
"""

import re
from dataclasses import replace

from drift.errors import DataError
from drift.records import ChatMessage, Guidance, PreferencePair, PromptItem
from drift.turns import UNSEEN, as_text

INSTRUCTION = "Answer again so that this feedback is resolved. Give only the new answer."
HINT = "Take this feedback on an earlier answer as a hint. Give only the answer."
REWRITE = "Write a better answer to the request, in which this feedback is resolved. Give only the new answer."
HINDSIGHT = "This is what the user wrote after an earlier answer to this message. Answer the message with it in mind."

_BRACKETS = frozenset("<\u2039\u27e8\u3008\ufe64\uff1c")
"""An angle bracket and what looks like one."""


def _as_seen(word: str) -> str:
    """A pattern of the word, also in full-width letters, and with unseen characters between its letters."""
    return f"{UNSEEN.pattern}*".join(f"[{letter}{chr(ord(letter) + _TO_FULL_WIDTH)}]" for letter in word)


_TO_FULL_WIDTH = ord("\uff41") - ord("a")
_MARK = re.compile(rf"(?<!\W)(\W+)({_as_seen('feedback')}|({_as_seen('earlier_answer')}))\b", re.IGNORECASE)
"""A mark with all that stands between it and the word before. It begins where such a run begins, so that a complaint of
megabytes without a word is read once."""


def guided_turn(complaint: str) -> str:
    """The user message that asks for a better answer.

    The complaint is data, whatever it says: anything in it that looks like a mark of a fence, also with spaces, unseen
    characters or attributes, is broken up here; `chat.render` breaks up control tokens of the chat template.
    """
    return f"{_fenced('feedback', complaint)}\n{INSTRUCTION}"


def guided_messages(item: PromptItem, guidance: Guidance = "turn") -> tuple[ChatMessage, ...]:
    """The prompt that shows the complaint, in the form `guidance`; `hint` does not show the disliked reply.

    System messages and earlier turns stay as they are. Raises DataError if the reply or the complaint is missing.
    """
    if item.rejected is None or item.complaint is None:
        raise DataError(
            f"prompt {item.prompt_id}: it has no disliked reply or no complaint; sample it with recipe.guided_share=0."
        )
    complaint = item.complaint.content
    if guidance == "turn":
        return (*item.prompt, item.rejected, ChatMessage("user", guided_turn(complaint)))
    if guidance == "hint":
        shown = _behind_request(item.prompt, _fenced("feedback", complaint), HINT)
    else:
        reply = _fenced("earlier_answer", as_text(item.rejected))
        shown = _behind_request(item.prompt, reply, _fenced("feedback", complaint), REWRITE)
    if shown is None:
        raise DataError(f"prompt {item.prompt_id}: it has no message of a user; sample it with recipe.guided_share=0.")
    return shown


def informed_messages(pair: PreferencePair) -> tuple[ChatMessage, ...]:
    """The request, with what the user wrote after the reply to it; for self-distillation, which never samples from it.

    The words are ours; that the follow-up stands at the end of the request and the reply is left out is as in the
    authors' code (arXiv 2603.12273; lasgroup/user_interactions). Raises DataError without a follow-up or a request.
    """
    follow_up = pair.follow_up.content if pair.follow_up else ""
    shown = _behind_request(pair.prompt, _fenced("feedback", follow_up), HINDSIGHT) if follow_up else None
    if shown is None:
        raise DataError(f"pair {pair.pair_id}: it has no follow_up, or no message of a user in its prompt.")
    return shown


def guided_turns(guidance: Guidance) -> int:
    """Turns (a user message and what follows it) that a guided prompt needs, however long it is."""
    return 2 if guidance == "turn" else 1


def _fenced(mark: str, text: str) -> str:
    """The text between two marks, with everything in it broken up that looks like one."""
    return f"<{mark}>\n{_MARK.sub(_broken, text.strip())}\n</{mark}>"


def _broken(mark: re.Match[str]) -> str:
    """`</feedback` becomes `</ feed-back`; the word without a bracket before it stays."""
    if _BRACKETS.isdisjoint(mark[1]):
        return mark[0]
    return f"{mark[1]} {'earlier-answer' if mark[3] else 'feed-back'}"


def _behind_request(prompt: tuple[ChatMessage, ...], *parts: str) -> tuple[ChatMessage, ...] | None:
    """The prompt with `parts` behind the user's last message (calls of tools and their answers may follow that); None
    without such a message."""
    places = [place for place, message in enumerate(prompt) if message.role == "user"]
    if not places:
        return None
    request = prompt[places[-1]]
    asked = replace(request, content="\n".join((f"{request.content}\n", *parts)))
    return (*prompt[: places[-1]], asked, *prompt[places[-1] + 1 :])
