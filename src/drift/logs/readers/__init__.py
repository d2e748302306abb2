"""One file per log format, in folders by family. Each recognises the rows of its format and turns them into drafts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drift.logs.draft import ConversationDraft
from drift.logs.files.rows import LogRow, Reject
from drift.logs.readers.apis import anthropic, batches, bedrock, gemini, openai_responses, openai_stored
from drift.logs.readers.apps import chatbox, chatgpt, claude, deepseek, dify, flowise, librechat, openwebui
from drift.logs.readers.datasets import drift_authors, lmarena, lmsys, oasst, ultrafeedback, wildchat, wildfeedback
from drift.logs.readers.frameworks import ai_sdk, langchain
from drift.logs.readers.tracing import braintrust, helicone, langfuse, langsmith, litellm, mlflow, otel, weave
from drift.logs.readers.training import alpaca, messages, preference, sharegpt
from drift.logs.unread import Keys


@dataclass(frozen=True, slots=True)
class Format:
    """How to recognise and read one format. `plain`: a shape so common that it counts only if no other format
    recognises the rows. `stitched`: the rows are single model calls and judgements of calls. `joined`: the rows are
    parts of conversations, see traces/threads.py; completes one, or raises Unusable if it cannot. `group_of`: the
    rows are single messages or exchanges, and this tells the conversation of each, see traces/gathering.py; `id_of`:
    the id of such a row's message. `judged_by`: rows, perhaps of other files, that judge replies of these chats, see
    judgements.py. `keys`: those that it reads; None: keys that it does not read are not counted. `unread_in`: those
    that it does not read in this row, though it knows them. `reads_deep`: nothing recursive goes into its trees.
    `apart`: what a row becomes depends on no other row of any file, so that several processes may read the logs.
    `by_file`: rows wait for others of their file, so that one process reads a file."""

    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Iterable[LogRow | Reject]], Iterator[Any]]
    """Yields ConversationDraft, Evidence, Reject; of a table, TableRow."""
    plain: bool = False
    apart: bool = False
    reads_deep: bool = False
    stitched: bool = False
    by_file: bool = False
    joined: Callable[[ConversationDraft], ConversationDraft] | None = None
    group_of: Callable[[Mapping[str, Any]], str | None] | None = None
    id_of: Callable[[Mapping[str, Any]], str | None] | None = None
    judged_by: Callable[[Mapping[str, Any]], bool] | None = None
    keys: Keys | None = None
    unread_in: Callable[[Mapping[str, Any]], Iterable[str]] | None = None


READERS: dict[str, Format] = {
    "wildfeedback": Format(wildfeedback.recognises, wildfeedback.read, keys=wildfeedback.KEYS),
    "drift": Format(drift_authors.recognises, drift_authors.read, apart=True, keys=drift_authors.KEYS),
    "ultrafeedback": Format(ultrafeedback.recognises, ultrafeedback.read, apart=True, keys=ultrafeedback.KEYS),
    "wildchat": Format(wildchat.recognises, wildchat.read, apart=True, keys=wildchat.KEYS),
    "openwebui": Format(
        openwebui.recognises, openwebui.read, apart=True, keys=openwebui.KEYS, unread_in=openwebui.unread_in
    ),
    "chatgpt": Format(chatgpt.recognises, chatgpt.read, judged_by=chatgpt.is_feedback, keys=chatgpt.KEYS),
    "claude": Format(claude.recognises, claude.read, apart=True, keys=claude.KEYS),
    "deepseek": Format(
        deepseek.recognises, deepseek.read, apart=True, keys=deepseek.KEYS, unread_in=deepseek.unread_in
    ),
    "dify": Format(
        dify.recognises, dify.read, group_of=dify.group_of, id_of=dify.id_of, keys=dify.KEYS, unread_in=dify.unread_in
    ),
    "flowise": Format(
        flowise.recognises, flowise.read, group_of=flowise.group_of, id_of=flowise.id_of, keys=flowise.KEYS
    ),
    "librechat": Format(
        librechat.recognises,
        librechat.read,
        reads_deep=True,
        group_of=librechat.group_of,
        id_of=librechat.id_of,
        keys=librechat.KEYS,
    ),
    "chatbox": Format(chatbox.recognises, chatbox.read, apart=True, keys=chatbox.KEYS),
    "oasst": Format(
        oasst.recognises, oasst.read, reads_deep=True, group_of=oasst.group_of, id_of=oasst.id_of, keys=oasst.KEYS
    ),
    "lmarena": Format(lmarena.recognises, lmarena.read, apart=True, keys=lmarena.KEYS),
    "preference": Format(preference.recognises, preference.read, apart=True, keys=preference.KEYS),
    "alpaca": Format(alpaca.recognises, alpaca.read, apart=True, keys=alpaca.KEYS),
    "langfuse": Format(langfuse.recognises, langfuse.read, stitched=True, keys=langfuse.KEYS),
    "otel": Format(otel.recognises_otel, otel.read, stitched=True, by_file=True, keys=otel.KEYS),
    "openinference": Format(otel.recognises_openinference, otel.read, stitched=True, by_file=True, keys=otel.KEYS),
    "litellm": Format(litellm.recognises, litellm.read, stitched=True, keys=litellm.KEYS),
    "langsmith": Format(langsmith.recognises, langsmith.read, stitched=True, keys=langsmith.KEYS),
    "openai": Format(openai_stored.recognises, openai_stored.read, stitched=True, keys=openai_stored.KEYS),
    "openai_responses": Format(
        openai_responses.recognises,
        openai_responses.read,
        stitched=True,
        keys=openai_responses.KEYS,
        unread_in=openai_responses.unread_in,
    ),
    "anthropic": Format(
        anthropic.recognises, anthropic.read, stitched=True, keys=anthropic.KEYS, unread_in=anthropic.unread_in
    ),
    "batch": Format(batches.recognises, batches.read, joined=batches.complete, keys=batches.KEYS),
    "langchain": Format(langchain.recognises, langchain.read, apart=True, keys=langchain.KEYS),
    "langchain_table": Format(
        langchain.recognises_table,
        langchain.read_table,
        group_of=langchain.session_of,
        id_of=langchain.id_of,
        keys=langchain.TABLE_KEYS,
    ),
    "ai_sdk": Format(ai_sdk.recognises, ai_sdk.read, apart=True, keys=ai_sdk.KEYS, unread_in=ai_sdk.unread_in),
    "ai_sdk_table": Format(
        ai_sdk.recognises_table,
        ai_sdk.read_table,
        joined=ai_sdk.whole,
        keys=ai_sdk.TABLE_KEYS,
        unread_in=ai_sdk.unread_in_row,
    ),
    "mlflow": Format(mlflow.recognises, mlflow.read, stitched=True, keys=mlflow.KEYS),
    "weave": Format(weave.recognises, weave.read, stitched=True, keys=weave.KEYS),
    "braintrust": Format(braintrust.recognises, braintrust.read, stitched=True, keys=braintrust.KEYS),
    "helicone": Format(helicone.recognises, helicone.read, stitched=True, keys=helicone.KEYS),
    "gemini": Format(gemini.recognises, gemini.read, stitched=True, keys=gemini.KEYS, unread_in=gemini.unread_in),
    "bedrock": Format(bedrock.recognises, bedrock.read, stitched=True, keys=bedrock.KEYS, unread_in=bedrock.unread_in),
    "lmsys": Format(lmsys.recognises, lmsys.read, plain=True, apart=True, keys=lmsys.KEYS),
    "sharegpt": Format(sharegpt.recognises, sharegpt.read, plain=True, apart=True, keys=sharegpt.KEYS),
    "messages": Format(
        messages.recognises, messages.read, plain=True, apart=True, keys=messages.KEYS, unread_in=messages.unread_in
    ),
}
