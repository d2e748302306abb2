"""The records that travel between the stages, and the protocols that the stages are written against.

Inside the program they are frozen dataclasses; at a file's border `read_jsonl` checks them with pydantic, so that a bad
row is named by file and line. Every id is a string. Message lists are tuples of `ChatMessage`, which is TRL's
conversational shape once written: `[{"role": ..., "content": ...}]`; what most messages do not have (tool calls,
reasoning) is written only where it is set.
"""

from drift.records.jsonl import (
    Counts,
    Record,
    json_of,
    read_jsonl,
    stable_hash,
    write_jsonl,
    write_kept,
)
from drift.records.logs import (
    Conversation,
    FeedbackLabel,
    Rating,
    ReadMark,
)
from drift.records.messages import (
    MESSAGE_EXTRAS,
    ChatMessage,
    FunctionCall,
    Message,
    ToolCall,
    tool_calls_of,
)
from drift.records.names import (
    BackendName,
    Finish,
    Guidance,
    LabelSource,
    LossName,
    MarginUnit,
    PersonalData,
    RatingKind,
    Reason,
    Role,
    ScorerName,
    Split,
    Thinking,
    Unfinished,
    Verdict,
)
from drift.records.pairs import (
    Completion,
    Drop,
    Judgement,
    PreferencePair,
    PromptItem,
    Score,
)
from drift.records.protocols import (
    BatchScorer,
    Labeller,
    ReplyToScore,
    Sampler,
    Scorer,
    Truth,
)

__all__ = [
    "MESSAGE_EXTRAS",
    "BackendName",
    "BatchScorer",
    "ChatMessage",
    "Completion",
    "Conversation",
    "Counts",
    "Drop",
    "FeedbackLabel",
    "Finish",
    "FunctionCall",
    "Guidance",
    "Judgement",
    "LabelSource",
    "Labeller",
    "LossName",
    "MarginUnit",
    "Message",
    "PersonalData",
    "PreferencePair",
    "PromptItem",
    "Rating",
    "RatingKind",
    "ReadMark",
    "Reason",
    "Record",
    "ReplyToScore",
    "Role",
    "Sampler",
    "Score",
    "Scorer",
    "ScorerName",
    "Split",
    "Thinking",
    "ToolCall",
    "Truth",
    "Unfinished",
    "Verdict",
    "json_of",
    "read_jsonl",
    "stable_hash",
    "tool_calls_of",
    "write_jsonl",
    "write_kept",
]
