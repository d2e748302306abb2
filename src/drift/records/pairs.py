"""From a disliked reply to a pair: prompt items, fresh completions, preference pairs, scores and judgements."""

from dataclasses import dataclass
from typing import Literal

from drift.records.logs import OfConversation, writer_of
from drift.records.messages import ChatMessage, ToolCall
from drift.records.names import Finish, Guidance, Reason, Split


@dataclass(frozen=True, slots=True)
class PromptItem(OfConversation):
    """A request x, the reply to it that the user disliked (`rejected`, y-), and what they said (`complaint`).

    With the recipe random_turns, `rejected` is any reply; with follow_up and fresh_follow_up, it is any reply that a
    message follows, and `complaint` is that message. `preferred`: the reply that the user liked, also as the repair of
    `rejected`; `corrected`: the user wrote it. `no_repair`: why the next reply, though liked, is no example of a good
    one. `noise`: the probability that a fresh reply is not better. `weight`: of the pair's loss. `rejected_finish`:
    `length` if the log says that the reply was cut at a limit. `user_key`, `family`: of the conversation.
    """

    prompt_id: str
    conversation_id: str
    reply_index: int
    prompt: tuple[ChatMessage, ...]
    split: Split
    rejected: ChatMessage | None = None
    complaint: ChatMessage | None = None
    preferred: ChatMessage | None = None
    user_key: str | None = None
    p_dsat: float | None = None
    noise: float = 0.0
    weight: float = 1.0
    tools: str | None = None
    rejected_finish: Finish = "stop"
    corrected: bool = False
    no_repair: Reason | None = None
    family: str | None = None

    @property
    def writer(self) -> str:
        """As `Conversation.writer`."""
        return writer_of(self.user_key, self.family, self.conversation_id, self.prompt)


@dataclass(frozen=True, slots=True)
class Completion:
    """A fresh reply. `text`: the answer; `reasoning`: the thoughts before it; `tool_calls`: the calls in it, parsed.

    `token_ids`: everything that the policy wrote. `guidance`: the form of the guided prompt; None for an
    unguided one, and in files of earlier versions, whose form is `turn`.
    """

    prompt_id: str
    iteration: int
    sample: int
    guided: bool
    text: str
    finish: Finish
    seed: int
    policy_id: str
    sampler: str
    token_ids: tuple[int, ...] | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    guidance: Guidance | None = None

    @property
    def message(self) -> ChatMessage:
        return ChatMessage("assistant", self.text, tool_calls=self.tool_calls, reasoning=self.reasoning or None)


@dataclass(frozen=True, slots=True)
class PreferencePair(OfConversation):
    """A prompt with a better and a worse reply; or with one reply alone, for the losses `sft`, `kto` and
    `self_distillation`.

    `rejected` is empty where a liked reply stands alone, `chosen` where a disliked one does. `follow_up`, for
    `self_distillation`: what the user wrote after the reply of the logs.

    `finish`, `rejected_finish`: how the chosen and the rejected reply ended; `length` was cut at a limit. `margin`: by
    how much the scorer that `margin_source` names prefers the chosen, in its own unit (the setting training.margin is
    something else, a loss's target). `user_key`, `family`: of the conversation.
    """

    pair_id: str
    prompt_id: str
    conversation_id: str
    reply_index: int
    recipe: str
    iteration: int
    policy_id: str
    prompt: tuple[ChatMessage, ...]
    chosen: tuple[ChatMessage, ...]
    rejected: tuple[ChatMessage, ...]
    user_key: str | None = None
    chosen_token_ids: tuple[int, ...] | None = None
    finish: Finish = "stop"
    split: Split = "train"
    weight: float = 1.0
    noise: float = 0.0
    margin: float | None = None
    margin_source: str | None = None
    tools: str | None = None
    rejected_finish: Finish = "stop"
    follow_up: ChatMessage | None = None
    family: str | None = None

    @property
    def is_paired(self) -> bool:
        """True with two replies to compare; False for a reply alone."""
        return bool(self.chosen and self.rejected)

    @property
    def is_finished(self) -> bool:
        """True if both replies end. Otherwise neither side is trained on with its end token (`sampling.unfinished`)."""
        return self.finish == self.rejected_finish == "stop"


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer thinks of one completion, and of the prompt's disliked reply. None: no score."""

    prompt_id: str
    sample: int
    score: float | None
    scorer: str
    rejected_score: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said about one item. `order`: "ab" shows the replies as given, "ba" swapped, "single" shows one.

    `preference`: in [0, 1], 1 is for the second reply as given, whatever the order in which they were shown; or `score`
    of a single reply. Neither: `unscored_reason` says why, and the item is not a tie and not a low score.
    """

    item_id: str
    judge_id: str
    order: Literal["ab", "ba", "single"]
    question_id: str
    preference: float | None = None
    score: float | None = None
    unscored_reason: str | None = None
    raw: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that a stage left out: counted in the stage's manifest under its reason."""

    row_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class TrainedReply:
    """A judged reply that a generation was trained on. `request`: hash of its prompt; `content`: of the prompt with the
    reply of the logs, the disliked one, else the liked one. No text: what is forgotten in the store is not kept here.
    """

    prompt_id: str
    conversation_id: str
    request: str
    content: str
    generation: int
