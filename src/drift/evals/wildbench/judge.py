"""The judge of WildBench: a score of 1 to 10 for one reply, guided by the task's checklist."""

import re
from collections.abc import Sequence
from pathlib import Path

from drift.endpoint import ChatRequest, Reply
from drift.endpoint.fence import FENCE_RULE, FencedMessage, quoted
from drift.endpoint.json_text import json_field
from drift.evals.files import Template, filled, read_template
from drift.evals.wildbench.scores import CUT
from drift.records import ChatMessage
from drift.scoring.ask import Grade, JudgeQuestion, unreadable

OFFICIAL_JUDGE = "gpt-4o-2024-05-13"
TEMPERATURE, MAX_TOKENS, MAX_WORDS = 0.0, 1024, 1000
EMPTY = "[This model response is empty.]"
HISTORY, QUERY, CHECKLIST, OUTPUT = "{$history}", "{$user_query}", "{$checklist}", "{$model_output}"
PLACES = (HISTORY, QUERY, CHECKLIST, OUTPUT)
OWN_TEMPLATE = f"""Score the last reply of an assistant in the conversation below from 1 to 10. {FENCE_RULE}

<earlier_turns>
{{$history}}
</earlier_turns>

<last_request>
{{$user_query}}
</last_request>

<reply>
{{$model_output}}
</reply>

Answer these questions first, and look at whatever else matters:
<questions>
{{$checklist}}
</questions>

1-2: useless or nonsense. 3-4: does not solve the user's problem. 5-6: fair, with errors or gaps. 7-8: good, could be \
better. 9-10: nothing to improve.
Answer with one JSON object: {{"strengths": "...", "weaknesses": "...", "score": "..."}}"""
"""Our own words, with every text of strangers in the fence."""
_NUMBER = re.compile(r"\s*-?\d+(?:\.\d+)?")


def read_prompt(path: Path | None) -> Template:
    """The benchmark's template in `path`, else our own. Raises DataError if a placeholder is missing."""
    return read_template(path, OWN_TEMPLATE, PLACES)


def ask_score(
    item_id: str, conversation: Sequence[ChatMessage], checklist: Sequence[str], output: str, template: Template
) -> JudgeQuestion:
    values = (
        {**published_task(conversation, checklist), OUTPUT: shown_reply(output)}
        if template.official
        else {**fenced_task(conversation, checklist), OUTPUT: quoted(shown_reply(output))}
    )
    request = ChatRequest(
        (ChatMessage("user", filled(template.text, values)),), max_tokens=MAX_TOKENS, temperature=TEMPERATURE
    )
    return JudgeQuestion(item_id, "single", request)


def published_task(conversation: Sequence[ChatMessage], checklist: Sequence[str]) -> dict[str, str]:
    """What fills the places of the benchmark's own template, in its own form: no fence."""
    history = "".join(f"{message.role.upper()}: {message.content}\n\n" for message in conversation[:-1])
    questions = "".join(f"- {question}\n" for question in checklist)
    return {HISTORY: cut(history), QUERY: cut(conversation[-1].content), CHECKLIST: questions}


def fenced_task(conversation: Sequence[ChatMessage], checklist: Sequence[str]) -> dict[str, str]:
    """What fills the same places of a prompt in our own words: JSON strings, one object per earlier message."""
    history: list[str] = []
    words_left = MAX_WORDS
    for turn, message in enumerate(conversation[:-1]):
        if words_left < 0:
            break
        history.append(FencedMessage(turn, message.role, cut(message.content, words_left)).line())
        words_left -= len(message.content.split(" "))
    return {
        HISTORY: "\n".join(history),
        QUERY: quoted(cut(conversation[-1].content)),
        CHECKLIST: "\n".join(map(quoted, checklist)),
    }


def shown_reply(text: str) -> str:
    return cut(text) if text.strip() else EMPTY


def cut(text: str, max_words: int = MAX_WORDS) -> str:
    """The benchmark shows 1,000 words of the history, of the request and of each reply."""
    words = text.split(" ")
    return text if len(words) <= max_words else " ".join(words[:max_words]) + CUT


def read_score(question: JudgeQuestion, reply: Reply) -> Grade:
    """The score of the JSON object; an answer without one, or with one outside 1..10, is unscored."""
    match = _NUMBER.match(str(json_field(reply.answer, "score")))
    if match is None:
        return unreadable(reply)
    score = float(match[0])
    return Grade(score=score) if 1 <= score <= 10 else Grade(unscored_reason="score out of 1..10")
