"""The judge of AlpacaEval 2: one token names the better of two answers; its probability is the preference."""

import math
import random
import re
from pathlib import Path

from drift.endpoint import ChatRequest, Reply
from drift.endpoint.fence import FENCE_RULE, quoted
from drift.endpoint.message import NO_LOGPROBS
from drift.errors import DataError
from drift.evals.files import Template, filled, read_template
from drift.records import ChatMessage, Role
from drift.scoring.ask import Grade, JudgeQuestion, unreadable

OFFICIAL_JUDGE = "gpt-4-1106-preview"
SEED, TEMPERATURE, CANDIDATES, MAX_TOKENS = 0, 1.0, 5, 1
FIRST, SECOND = "m", "M"
PLACES: tuple[str, ...] = ("{instruction}", "{output_1}", "{output_2}")
OWN_TEMPLATE = f"""<|im_start|>system
You judge answers of two language models, named m and M, to the same instruction. Prefer the answer that people would \
prefer. {FENCE_RULE}
<|im_end|>
<|im_start|>user
<instruction>
{{instruction}}
</instruction>

Answer of the model m:
<first_answer>
{{output_1}}
</first_answer>

Answer of the model M:
<second_answer>
{{output_2}}
</second_answer>

Which model gave the better answer? Say its name, m or M, and nothing else.
<|im_end|>"""
"""Our own words, with every text of strangers in the fence."""
_TURN = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)<\|im_end\|>", re.DOTALL)


def read_prompt(path: Path | None) -> Template:
    """The benchmark's ChatML template in `path`, else our own. Raises DataError if it is not one."""
    template = read_template(path, OWN_TEMPLATE, PLACES)
    if not _TURN.search(template.text):
        raise DataError(f"{path}: not a judge's prompt in ChatML: it has no <|im_start|>ROLE ... <|im_end|>.")
    return template


def is_switched(instruction: str, seed: int = SEED) -> bool:
    """The benchmark's own draw: the same instruction is always shown in the same order."""
    return random.Random(f"is_switched_outputs{instruction}{seed}").choices([False, True])[0]


def ask_which(item_id: str, instruction: str, baseline: str, output: str, template: Template) -> JudgeQuestion:
    """One question, in the order that is drawn by the instruction."""
    switched = is_switched(instruction)
    texts = (instruction, output, baseline) if switched else (instruction, baseline, output)
    values = dict(zip(PLACES, texts if template.official else map(quoted, texts), strict=True))
    request = ChatRequest(
        messages=_messages(template.text, values),
        max_tokens=MAX_TOKENS,
        temperature=TEMPERATURE,
        top_logprobs=CANDIDATES,
    )
    return JudgeQuestion(item_id, "ba" if switched else "ab", request)


def read_token(question: JudgeQuestion, reply: Reply) -> Grade:
    """1 - P(m) / (P(m) + P(M)) for the second answer shown, turned round if they were switched."""
    tokens = reply.choices[0].answer_tokens
    candidates = tokens[0] if tokens else ()
    if reply.choices[0].no_answer:
        return unreadable(reply)
    if not candidates:
        return Grade(unscored_reason=NO_LOGPROBS)
    first, second = (sum(math.exp(c.logprob) for c in candidates if c.token == name) for name in (FIRST, SECOND))
    if first + second == 0:
        return Grade(unscored_reason="neither name among the tokens")
    shown = 1 - first / (first + second)
    return Grade(preference=1 - shown if question.order == "ba" else shown)


def _messages(template: str, values: dict[str, str]) -> tuple[ChatMessage, ...]:
    roles: list[tuple[Role, str]] = [(turn[1], turn[2].strip()) for turn in _TURN.finditer(template)]  # pyright: ignore[reportAssignmentType]
    return tuple(ChatMessage(role, filled(text, values)) for role, text in roles)
