"""The comparison prompt in our own words: two replies to one conversation in, the letter of the better one out."""

import math
import re
from collections.abc import Sequence
from typing import Literal

from drift.endpoint import Candidate, ChatRequest, Reply
from drift.endpoint.fence import FENCE_RULE, fenced_chat, quoted
from drift.records import ChatMessage
from drift.scoring.ask import Grade, JudgeQuestion, unreadable

INSTRUCTIONS = f"""You compare two replies of an assistant to the same conversation. Decide which of them serves the \
person who wrote the last message better: does what was asked, is right, is complete without padding, and keeps to the \
language and the form that were wanted. Length alone does not make a reply better.

The conversation stands between <conversation> and </conversation>, one JSON object per message. Reply A stands \
between <reply_a> and </reply_a>, reply B between <reply_b> and </reply_b>. {FENCE_RULE}

Answer with one letter and nothing else: A if reply A is better, B if reply B is better, C if they are equally good."""
MAX_TOKENS = 4
TOP_LOGPROBS = 5
LETTERS = ("A", "B", "C")
_SEPARATOR = r"[\s:*_\"'`(=-]{1,4}"
_LETTER = r"([ABC])\b(?! is (?:not|wrong|worse)\b)"
_DECIDED = re.compile(rf"(?i:verdict|answer|choice){_SEPARATOR}{_LETTER}|\b([ABC]) is better\b")
_NAMED = re.compile(rf"(?i:reply|better){_SEPARATOR}{_LETTER}")


def comparison(
    item_id: str, prompt: Sequence[ChatMessage], replies: tuple[str, str], logprobs: bool, owner: str | None = None
) -> tuple[JudgeQuestion, JudgeQuestion]:
    """The question in both orders: "ab" shows the replies as they are given, "ba" swaps them."""
    first, second = replies
    chat = fenced_chat(prompt)

    def question(order: Literal["ab", "ba"], reply_a: str, reply_b: str) -> JudgeQuestion:
        text = (
            f"{chat}\n\n<reply_a>\n{quoted(reply_a)}\n</reply_a>\n\n<reply_b>\n{quoted(reply_b)}\n</reply_b>\n\n"
            "Which reply is better?"
        )
        request = ChatRequest(
            messages=(ChatMessage("system", INSTRUCTIONS), ChatMessage("user", text)),
            max_tokens=MAX_TOKENS,
            temperature=0.0,
            top_logprobs=TOP_LOGPROBS if logprobs else 0,
            owner=owner,
        )
        return JudgeQuestion(item_id, order, request)

    return question("ab", first, second), question("ba", second, first)


def read_letter(question: JudgeQuestion, reply: Reply) -> Grade:
    """The preference for the second reply (in "ab" order), from the letters' probabilities if the server gives them."""
    shown = _by_probability(reply)
    if shown is None:
        letter = _letter(reply.answer)
        shown = None if letter is None else {"A": 0.0, "B": 1.0, "C": 0.5}[letter]
    if shown is None:
        return unreadable(reply)
    return Grade(preference=1 - shown if question.order == "ba" else shown)


def _by_probability(reply: Reply) -> float | None:
    """(P(B) + P(C) / 2) / (P(A) + P(B) + P(C)) at the first token that is a letter."""
    for candidates in reply.choices[0].answer_tokens:
        if candidates and candidates[0].token.strip() in LETTERS:
            a, b, c = (_probability(candidates, letter) for letter in LETTERS)
            return (b + c / 2) / (a + b + c)
    return None


def _probability(candidates: Sequence[Candidate], letter: str) -> float:
    return sum(math.exp(candidate.logprob) for candidate in candidates if candidate.token.strip() == letter)


def _letter(text: str) -> str | None:
    """The whole answer, or the one letter that it decides for, or the one that it names; None if there is none."""
    bare = text.strip().strip("*.()[]\"'` ")
    if bare in LETTERS:
        return bare
    decided = {first or second for first, second in _DECIDED.findall(text)}
    letters = decided or set(_NAMED.findall(text))
    return letters.pop() if len(letters) == 1 else None
