"""WB-Reward from a judge: our reply beside a reference model's, in both orders, in our own words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drift.endpoint import ChatRequest, Reply
from drift.endpoint.fence import FENCE_RULE, quoted
from drift.endpoint.json_text import json_field
from drift.errors import ConfigError
from drift.evals.files import filled
from drift.evals.replies import Replies
from drift.evals.wildbench.judge import MAX_TOKENS, TEMPERATURE, fenced_task, shown_reply
from drift.evals.wildbench.reward import JudgedPair
from drift.records import ChatMessage, Judgement
from drift.scoring.ask import Grade, JudgeQuestion, unreadable

REPLY_A, REPLY_B = "{$reply_a}", "{$reply_b}"
PROMPT = f"""Compare two replies of assistants, A and B, to the last request of the conversation below. {FENCE_RULE}

<earlier_turns>
{{$history}}
</earlier_turns>

<last_request>
{{$user_query}}
</last_request>

<reply_a>
{{$reply_a}}
</reply_a>

<reply_b>
{{$reply_b}}
</reply_b>

Answer these questions for both replies first, and look at whatever else matters:
<questions>
{{$checklist}}
</questions>

Length alone does not make a reply better. Choose A++ if A is much better, A+ if A is slightly better, A=B if they \
are equally good, B+ if B is slightly better, B++ if B is much better.
Answer with one JSON object: {{"strengths of A": "...", "strengths of B": "...", "choice": "..."}}"""
"""Our own words, with every text of strangers in the fence."""
PREFERENCES = {"A++": 0.0, "A+": 0.25, "A=B": 0.5, "B+": 0.75, "B++": 1.0}
"""For the reply that is shown second."""


@dataclass(frozen=True, slots=True)
class Versus:
    """A reference model's replies and ours to the same tasks."""

    reference: Replies
    model: Replies

    def __post_init__(self) -> None:
        if self.reference.name == self.model.name:
            raise ConfigError(
                f"--against {self.reference.name}: is the evaluated model itself; name a reference model's replies."
            )

    def texts(self, item_id: str) -> tuple[str, str] | None:
        """The reference's reply and ours; None if one of them is missing."""
        first, second = self.reference.text(item_id), self.model.text(item_id)
        return None if first is None or second is None else (first, second)


def ask_better(
    item_id: str, conversation: Sequence[ChatMessage], checklist: Sequence[str], texts: tuple[str, str]
) -> tuple[JudgeQuestion, JudgeQuestion]:
    """Both orders; in the first, the reference's reply is A."""
    task = fenced_task(conversation, checklist)

    def question(order: Literal["ab", "ba"], reply_a: str, reply_b: str) -> JudgeQuestion:
        values = {**task, REPLY_A: quoted(shown_reply(reply_a)), REPLY_B: quoted(shown_reply(reply_b))}
        message = ChatMessage("user", filled(PROMPT, values))
        return JudgeQuestion(item_id, order, ChatRequest((message,), max_tokens=MAX_TOKENS, temperature=TEMPERATURE))

    reference, ours = texts
    return question("ab", reference, ours), question("ba", ours, reference)


def read_choice(question: JudgeQuestion, reply: Reply) -> Grade:
    """The preference for our reply in steps of a quarter: 1 much better, 0.75 slightly better, 0.5 a tie."""
    choice = "".join(str(json_field(reply.answer, "choice")).split())
    if choice not in PREFERENCES:
        return unreadable(reply)
    for_second = PREFERENCES[choice]
    return Grade(preference=1 - for_second if question.order == "ba" else for_second)


def judged_pair(judgement: Judgement, versus: Versus) -> JudgedPair | None:
    """In the public format; None for a judgement without a verdict."""
    texts = versus.texts(judgement.item_id)
    if judgement.preference is None or texts is None:
        return None
    outputs = dict(zip((versus.reference.name, versus.model.name), texts, strict=True))
    if judgement.preference == PREFERENCES["A=B"]:
        return JudgedPair(winner="tie", model_outputs=outputs)
    winner = versus.model.name if judgement.preference > PREFERENCES["A=B"] else versus.reference.name
    is_much = judgement.preference in (PREFERENCES["A++"], PREFERENCES["B++"])
    return JudgedPair(winner=winner, extent=2 if is_much else 1, model_outputs=outputs)
