"""One file per log format, in folders by family. Each recognises the rows of its format and turns them into drafts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drift.logs.draft import ConversationDraft, Evidence
from drift.logs.files.rows import LogRow, Reject
from drift.logs.readers.apis import openai_stored
from drift.logs.readers.apps import chatgpt, claude, openwebui
from drift.logs.readers.datasets import drift_authors, lmsys, ultrafeedback, wildchat, wildfeedback
from drift.logs.readers.tracing import langfuse, langsmith, litellm, otel
from drift.logs.readers.training import alpaca, messages, preference, sharegpt


@dataclass(frozen=True, slots=True)
class Format:
    """How to recognise and read one format. `plain`: a shape so common that it counts only if no other format
    recognises the rows. `stitched`: the rows are single model calls and judgements of calls."""

    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Iterable[LogRow | Reject]], Iterator[ConversationDraft | Evidence | Reject]]
    plain: bool = False
    stitched: bool = False


READERS: dict[str, Format] = {
    "wildfeedback": Format(wildfeedback.recognises, wildfeedback.read),
    "drift": Format(drift_authors.recognises, drift_authors.read),
    "ultrafeedback": Format(ultrafeedback.recognises, ultrafeedback.read),
    "wildchat": Format(wildchat.recognises, wildchat.read),
    "openwebui": Format(openwebui.recognises, openwebui.read),
    "chatgpt": Format(chatgpt.recognises, chatgpt.read),
    "claude": Format(claude.recognises, claude.read),
    "preference": Format(preference.recognises, preference.read),
    "alpaca": Format(alpaca.recognises, alpaca.read),
    "langfuse": Format(langfuse.recognises, langfuse.read, stitched=True),
    "otel": Format(otel.recognises_otel, otel.read, stitched=True),
    "openinference": Format(otel.recognises_openinference, otel.read, stitched=True),
    "litellm": Format(litellm.recognises, litellm.read, stitched=True),
    "langsmith": Format(langsmith.recognises, langsmith.read, stitched=True),
    "openai": Format(openai_stored.recognises, openai_stored.read, stitched=True),
    "lmsys": Format(lmsys.recognises, lmsys.read, plain=True),
    "sharegpt": Format(sharegpt.recognises, sharegpt.read, plain=True),
    "messages": Format(messages.recognises, messages.read, plain=True),
}
