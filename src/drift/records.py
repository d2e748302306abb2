"""The records that travel between the stages, and the protocols that the stages are written against.

Inside the program they are frozen dataclasses; at a file's border `read_jsonl` checks them with pydantic, so that a bad
row is named by file and line. Every id is a string. Message lists are tuples of `ChatMessage`, which is TRL's
conversational shape once written: `[{"role": ..., "content": ...}]`; what most messages do not have (tool calls,
reasoning) is written only where it is set.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args

import orjson

from drift.errors import DataError, first_problem

Role = Literal["system", "user", "assistant", "tool"]
Split = Literal["train", "stop", "validation", "test"]
Verdict = Literal["SAT", "DSAT", "NEUTRAL", "ABSTAIN"]
LabelSource = Literal["embedded", "judge", "rating", "review", "source"]
RatingKind = Literal["regeneration", "score", "thumb", "correction"]
"""The weakest first: `Rating.rank` relies on it. A regeneration is read out of what a user did, the rest was said."""
Finish = Literal["stop", "length", "error"]
LossName = Literal["sigmoid", "sigmoid_norm", "ipo", "robust", "apo_zero", "anchored", "sft"]
"""What `training.loss` allows; each has its function in training/loss.py."""
Unfinished = Literal["match", "drop"]
"""What `sampling.unfinished` allows for pairs with a reply that does not end."""
MarginUnit = Literal["sequence", "token"]
Thinking = Literal["off", "keep", "strip"]
"""What `policy.thinking` allows."""
BackendName = Literal["transformers", "vllm", "endpoint"]
"""What `sampling.backend` allows; each is a module of policy/samplers/."""
ScorerName = Literal["self", "hindsight", "feedback", "reward_model", "judge", "oracle", "noisy_oracle"]
"""What `recipe.scorer.name` allows; each has its entry in scoring/scorers.py."""
PersonalData = Literal[
    "email", "phone", "card", "iban", "ip", "national_id", "address", "api_key", "private_key", "password", "person"
]
"""What redaction tells apart; `person` needs a model."""
_RATING_KINDS: tuple[RatingKind, ...] = get_args(RatingKind)


class Reason(StrEnum):
    """Why a row is dropped. Every stage counts its drops under these names."""

    # a row of a log, quarantined
    BROKEN_JSON = "broken_json"
    BROKEN_CSV = "broken_csv"
    NOT_AN_OBJECT = "not_an_object"
    NO_MESSAGES = "no_messages"
    NO_CONVERSATION = "no_conversation"
    UNKNOWN_ROLE = "unknown_role"
    BAD_CONTENT = "bad_content"
    ROLES_OUT_OF_ORDER = "roles_out_of_order"
    NO_USER_TURN = "no_user_turn"
    TOO_LARGE = "too_large"
    DUPLICATE_KEYS = "duplicate_keys"
    DAMAGED_STREAM = "damaged_stream"
    CYCLIC_TREE = "cyclic_tree"
    ORPHAN_FEEDBACK = "orphan_feedback"
    # a row of a log that is not a conversation of its own, filtered
    NOT_A_CHAT = "not_a_chat"
    JOINED_AS_EVIDENCE = "joined_as_evidence"
    NO_VERDICT = "no_verdict"
    # a conversation of a log, filtered
    NO_CONSENT = "no_consent"
    FORGOTTEN = "forgotten"
    # a judged reply, not turned into a prompt or a pair
    NO_REQUEST = "no_request"
    EMPTY_REJECTED = "empty_rejected"
    SEEN_IN_TRAINING = "seen_in_training"
    DUPLICATE_PROMPT = "duplicate_prompt"
    USER_CAP = "user_cap"
    NEAR_DUPLICATE_CONVERSATION = "near_duplicate_conversation"
    REFUSAL_COMPLAINT = "refusal_complaint"
    ABUSE = "abuse"
    TOXIC = "toxic"
    IDENTICAL_REPLIES = "identical_replies"
    NEEDS_IMAGE = "needs_image"
    UNANSWERED_CALL = "unanswered_call"
    BROKEN_TOOL_CALL = "broken_tool_call"
    # a completion or a pair, not trained on
    EMPTY_CHOSEN = "empty_chosen"
    CHOSEN_IS_REJECTED = "chosen_is_rejected"
    TRUNCATED = "truncated"
    SAMPLING_ERROR = "sampling_error"
    PROMPT_TOO_LONG = "prompt_too_long"
    TEMPLATE_REFUSES = "template_refuses"
    TEMPLATE_HIDES = "template_hides"
    NO_REPLY_FORM = "no_reply_form"
    CUT_THOUGHT = "cut_thought"
    THOUGHT_ON_ONE_SIDE = "thought_on_one_side"
    MARK_ON_ONE_SIDE = "mark_on_one_side"
    CALL_ON_ONE_SIDE = "call_on_one_side"
    NEAR_DUPLICATE = "near_duplicate"
    CHOSEN_REFUSES = "chosen_refuses"
    CHOSEN_LOSES = "chosen_loses"
    OTHER_LENGTH = "other_length"
    UNSCORED = "unscored"
    TIED_SCORES = "tied_scores"
    UNLEARNED = "unlearned"


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """`arguments`: JSON text, as the model wrote it; it may be broken."""

    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asked for, in the shape of OpenAI's API and of TRL."""

    function: FunctionCall
    id: str | None = None
    type: Literal["function"] = "function"


def tool_calls_of(rows: Iterable[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    """Tool calls out of their JSON, as DRIFT wrote it."""
    return tuple(ToolCall(FunctionCall(**row["function"]), row["id"]) for row in rows)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message. `tool_calls`: of an assistant's; `tool_call_id`, `name`: of a tool's answer, the call and the tool.

    `reasoning`: the thoughts that come before the content, without the template's marks around them.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = field(default=(), kw_only=True)
    tool_call_id: str | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    reasoning: str | None = field(default=None, kw_only=True)

    @property
    def size(self) -> int:
        """The number of characters, with those of tool calls and thoughts."""
        calls = sum([len(call.function.name) + len(call.function.arguments) for call in self.tool_calls])
        return len(self.content) + calls + len(self.reasoning or "")

    def extras(self) -> dict[str, Any]:
        """The optional fields that are set, by name."""
        if not (self.tool_calls or self.tool_call_id or self.name or self.reasoning):
            return {}
        return {name: value for name in MESSAGE_EXTRAS if (value := getattr(self, name))}


MESSAGE_EXTRAS = ("tool_calls", "tool_call_id", "name", "reasoning")
"""The optional fields of a ChatMessage."""


@dataclass(frozen=True, slots=True, init=False)
class Message(ChatMessage):
    """One message of a log. `source_index` is its place in the log's own list, which may hold entries we leave out.

    `has_media`: set while a log is read; a conversation keeps it as its tag `media_turns`.
    """

    timestamp: str | None = None
    source_index: int | None = None
    has_media: bool = field(default=False, kw_only=True)

    def __init__(
        self,
        role: Role,
        content: str,
        timestamp: str | None = None,
        source_index: int | None = None,
        *,
        tool_calls: tuple[ToolCall, ...] = (),
        tool_call_id: str | None = None,
        name: str | None = None,
        reasoning: str | None = None,
        has_media: bool = False,
    ) -> None:
        # As `dataclass` writes it, but by each slot's own setter, in half the time: logs have millions of messages.
        _set_role(self, role)
        _set_content(self, content)
        _set_timestamp(self, timestamp)
        _set_source_index(self, source_index)
        _set_tool_calls(self, tool_calls)
        _set_tool_call_id(self, tool_call_id)
        _set_name(self, name)
        _set_reasoning(self, reasoning)
        _set_has_media(self, has_media)

    def chat(self) -> ChatMessage:
        return ChatMessage(self.role, self.content, **self.extras())


_set_role, _set_content = (getattr(ChatMessage, own).__set__ for own in ("role", "content"))
_set_tool_calls, _set_tool_call_id, _set_name, _set_reasoning = (
    getattr(ChatMessage, extra).__set__ for extra in MESSAGE_EXTRAS
)
_set_timestamp, _set_source_index, _set_has_media = (
    getattr(Message, own).__set__ for own in ("timestamp", "source_index", "has_media")
)


@dataclass(frozen=True, slots=True)
class Rating:
    """An explicit judgement in the log. `value`: above 0 is approval, below 0 is disapproval.

    `preferred`: of a correction, the reply that the user wrote.
    """

    reply_index: int
    kind: RatingKind
    value: float
    comment: str | None = None
    preferred: str | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """Ratings stand in this order, and of one reply's the last counts."""
        return self.reply_index, _RATING_KINDS.index(self.kind)


@dataclass(frozen=True, slots=True)
class Conversation:
    """`family`: what the paths of one tree, or the conversations of one session, have in common: one id for all.

    `tools`: the schemas of the tools that the assistant could call, as a JSON list.
    """

    conversation_id: str
    source: str
    source_id: str | None
    messages: tuple[Message, ...]
    split: Split
    user_key: str | None = None
    model: str | None = None
    language: str | None = None
    started_at: str | None = None
    ratings: tuple[Rating, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    family: str | None = None
    tools: str | None = None

    def is_toxic(self, *places: int) -> bool:
        """Did the log's own moderation flag one of these messages (or, where it names none, the conversation)?"""
        if "toxic_turns" not in self.tags:
            return self.tags.get("toxic") == "true"
        return self._is_flagged("toxic_turns", places)

    def has_media(self, *places: int) -> bool:
        """Did one of these messages hold an image, a file or sound, of which only a mark is left?"""
        return "media_turns" in self.tags and self._is_flagged("media_turns", places)

    def _is_flagged(self, tag: str, places: Iterable[int]) -> bool:
        flagged = set(self.tags[tag].split(","))
        return any(str(self.messages[place].source_index) in flagged for place in places)

    def finish_of(self, place: int) -> Finish:
        """`length` if the log says that this message was cut at a limit (the tag `cut_turns`, as `toxic_turns`)."""
        cut = self.tags.get("cut_turns", "").split(",")
        return "length" if str(self.messages[place].source_index) in cut else "stop"


@dataclass(frozen=True, slots=True)
class FeedbackLabel:
    """What the user said about `messages[reply_index]`; `messages[user_index]` is where they said it.

    `rubric`: of a judge, the items that hold of the turn, each with its impact (1 to 10).
    """

    conversation_id: str
    reply_index: int
    user_index: int | None
    label: Verdict
    labeller: LabelSource
    labeller_version: str
    subtype: str | None = None
    p_dsat: float | None = None
    p_sat: float | None = None
    evidence: str | None = None
    abstain_reason: str | None = None
    rubric: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A request x, the reply to it that the user disliked (`rejected`, y-), and what they said (`complaint`).

    `rejected_finish`: `length` if the log says that the reply was cut at a limit.
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


@dataclass(frozen=True, slots=True)
class Completion:
    """A fresh reply. `text`: the answer; `reasoning`: the thoughts before it; `tool_calls`: the calls in it, parsed.

    `token_ids`: everything that the policy wrote.
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


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A prompt with a better and a worse reply. `rejected` is empty for a liked reply alone, for the loss `sft`.

    `finish`, `rejected_finish`: how the chosen and the rejected reply ended; `length` was cut at a limit. `margin`: by
    how much the scorer that `margin_source` names prefers the chosen, in its own unit (the setting training.margin is
    something else, a loss's target).
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
    stage: str
    reason: Reason


class Labeller(Protocol):
    """Conversations in, one label per user turn that follows a reply out (about THAT reply)."""

    version: str

    def label(self, conversations: Iterable[Conversation]) -> Iterator[FeedbackLabel]: ...


class Sampler(Protocol):
    """Prompts in, completions out, in the order of the prompts."""

    def sample(self, prompts: Sequence[PromptItem], iteration: int) -> list[Completion]: ...


class Scorer(Protocol):
    """How good is this completion of this prompt? It may decide which pairs there are; it never enters the loss.

    `finish`: `length` if the completion was cut at the token limit, which a truth may count as wrong.
    """

    def score(self, prompt: Sequence[ChatMessage], completion: str, finish: Finish = "stop") -> float: ...


@dataclass(frozen=True, slots=True)
class ReplyToScore:
    """`finish`: a truncated reply has no end token to score. `against`: the disliked reply; `complaint`: what the user
    said about it."""

    prompt: tuple[ChatMessage, ...]
    text: str
    finish: Finish = "stop"
    against: str | None = None
    tools: str | None = None
    complaint: str | None = None


class BatchScorer(Protocol):
    """Scores replies in their order, higher is better; None for a reply that it cannot score."""

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]: ...


@dataclass(frozen=True, slots=True)
class Truth:
    """Held-out prompts and the world's verdict on any reply to them. Only evaluation and the oracle scorers see it."""

    prompts: tuple[tuple[ChatMessage, ...], ...]
    scorer: Scorer
    world: str

    def fingerprint(self) -> str:
        return stable_hash(self.world, self.prompts)


Record = TypeVar("Record")
Counts = dict[str, int | float]
"""What a stage counted, by name, as its manifest stores it."""


def stable_hash(*parts: object) -> str:
    """16 hex digits of sha256 over the parts' JSON; the same on every machine and in every session."""
    return hashlib.sha256(json_of(parts)).hexdigest()[:16]


def json_of(value: object, option: int = 0) -> bytes:
    """JSON of records, and of lists and mappings of them. Messages are written without the extras that are unset, so
    that a plain message is `{role, content}`; what JSON does not know is written as its `str`."""
    return orjson.dumps(value, default=_plain, option=option | orjson.OPT_PASSTHROUGH_DATACLASS)


def _plain(value: object) -> object:
    if not is_dataclass(value):
        return str(value)
    named = {name: getattr(value, name) for name in _field_names(type(value))}
    return {**named, **value.extras()} if isinstance(value, ChatMessage) else named


@cache
def _field_names(record: type) -> tuple[str, ...]:
    """The fields to write of every row; those of MESSAGE_EXTRAS are written where they are set."""
    optional = (*MESSAGE_EXTRAS, "has_media") if issubclass(record, ChatMessage) else ()
    return tuple(field.name for field in fields(record) if field.name not in optional)


@cache
def _adapter(record: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(record)


def read_jsonl(path: Path, record: type[Record]) -> Iterator[Record]:
    """Rows of a file that DRIFT wrote (or a user edited).

    Raises DataError with file:line if a row is invalid.
    """
    from pydantic import ValidationError

    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _adapter(record).validate_json(line)
            except ValidationError as error:
                raise DataError(f"{path}:{number}: invalid {record.__name__}: {first_problem(error, 'row')}") from None


def write_kept(path: Path, rows: Iterable[object]) -> Counts:
    """Write the rows that are not drops; returns `rows` and, by reason, `dropped.REASON`."""
    drops: Counter[str] = Counter()

    def kept() -> Iterator[object]:
        for row in rows:
            if isinstance(row, Drop):
                drops[f"dropped.{row.reason}"] += 1
            else:
                yield row

    return {"rows": write_jsonl(path, kept()), **drops}


def write_jsonl(path: Path, rows: Iterable[object]) -> int:
    """Write one JSON object per line; returns how many."""
    count = 0
    with path.open("wb") as out:
        for row in rows:
            out.write(json_of(row, orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count
