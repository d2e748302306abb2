"""The request and the reply of one model call, in the many shapes in which tracing tools write them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from drift.logs.draft import (
    ROLES,
    Call,
    ConversationDraft,
    as_cut,
    has,
    has_any,
    messages_of,
    name_of,
    replies_of,
    structured,
    time_of,
    tool_text,
)
from drift.logs.files.rows import Place, Reject, Unusable
from drift.logs.parts import thought_text, tools_of
from drift.logs.traces.clouds import (
    bedrock_messages,
    gemini_messages,
    gemini_reply,
    gemini_request,
    is_bedrock,
    is_gemini,
    schemas,
)
from drift.logs.traces.endings import asks_to_go_on, ended_early, goes_on, with_prefill
from drift.logs.traces.streams import whole_reply
from drift.records import Message, Reason

_LANGCHAIN = {
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "tool",
}
_ITEMS_WITHOUT_MESSAGE = (
    "item_reference", "compaction", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response",
)  # fmt: skip
_PICTURE = "image_generation_call"
_ARGUMENTS = ("arguments", "code", "action", "operation", "queries", "input")
_WRAPPERS = ("messages", "message", "input", "inputs", "output", "outputs", "choices", "generations", "kwargs", "args")
_TEXTS = (
    "content", "text", "question", "query", "prompt", "user_input", "user_message", "answer", "response", "completion",
    "result",
)  # fmt: skip
_LISTS = ("messages", "contents", "choices", "candidates", "generations", "output", "outputs")
_IN_MESSAGES = (
    "role", "from", "content", "message", "messages", "delta", "text", "type", "parts", "data", "kwargs",
    "finish_reason",
)  # fmt: skip
_OF_REQUESTS = (
    "model", "temperature", "max_tokens", "max_new_tokens", "top_p", "stop", "stream", "tools", "options", "parameters",
    "system", "instructions",
)  # fmt: skip
_OF_REPLIES = (
    "usage", "stop_reason", "finish_reason", "finishReason", "done", "response_metadata", "usage_metadata",
    "llm_output", "additional_kwargs", "logprobs",
)  # fmt: skip
_OF_MESSAGES = frozenset((
    "content", "role", "id", "type", "refusal", "tool_calls", "function_call", "annotations", "audio",
    "reasoning_content", "reasoning", "example", "invalid_tool_calls", *_OF_REPLIES,
))  # fmt: skip
PARTS = (
    "text", "input_text", "output_text", "image", "image_url", "input_image", "audio", "input_audio", "video",
    "video_url", "file", "input_file", "document", "thinking", "redacted_thinking", "tool_use", "tool_result",
)  # fmt: skip
SESSIONS = (
    "session_id", "sessionId", "conversation_id", "conversationId", "thread_id", "threadId", "chat_id", "chatId",
)  # fmt: skip
USERS = ("user_id", "userId", "user", "end_user", "endUser", "end_user_id", "customer_id")
"""Names under which people who log calls put the conversation and the user into metadata and labels."""
_CALLS = ("tool_calls", "function_call")
_MAX_DEPTH = 8  # of wrappers in wrappers
_A_STEP = 9  # `Call.spare` of tools, searches and the like: the records around them come first


def call_draft(
    at: Place, request: Any, reply: Any, call: Call, endings: Any = (), settings: Any = (), **fields: Any
) -> ConversationDraft:
    """The draft of one model call. A call that failed has no reply. Raises Unusable if there is no readable text.

    `endings`: a tuple of places besides the reply that may say why it ended; `settings`: of places besides the request
    that may hold its settings.
    """
    reply = whole_reply(reply)
    if call.spare:  # what a function got and returned; a text of JSON holds its arguments
        request, reply = structured(request), structured(reply)
    plain = plain_messages(request, "user")
    replies = plain_messages(reply, "assistant")
    history, said = list(messages_of(plain)), reply_messages(replies, len(plain))
    is_begun = goes_on(reply) or asks_to_go_on(plain[-1] if plain else None, request, *settings)
    history = with_prefill(history, said) if is_begun else [*history, *said]
    ended = bool(replies) and any(map(ended_early, (reply, *endings)))
    if not history:
        raise Unusable(Reason.NO_MESSAGES, "no text in the request or the reply")
    history = as_cut(history) if ended else history
    return ConversationDraft(at=at, messages=tuple(history), call=call, **{"tools": _tools(request), **fields})


def reply_messages(plain: Sequence[dict[str, Any]], place: int) -> list[Message]:
    """The messages of a reply at `place`, out of those of `plain_messages`; [] if the model failed. Raises Unusable."""
    last = max((index for index, entry in enumerate(plain) if _role_of(entry) == "user"), default=-1)
    # The states of agents repeat the chat before the reply; OpenAI's responses may repeat their instructions.
    new = [entry for entry in plain[last + 1 :] if _role_of(entry) != "system"]
    if any(entry.get("role") == "tool" for entry in new):  # a tool that the agent or the model's server ran itself
        return [replace(message, source_index=place) for message in messages_of(new)]
    # OpenAI's Responses API returns several items, with searches between them. Elsewhere, several are choices.
    items = [entry for entry in new if entry.get("type") == "message"]
    return replies_of(items if any("id" in entry for entry in items) else new[:1], place)


def _role_of(entry: Mapping[str, Any]) -> str | None:
    role = entry["role"] if has(entry, "role") else entry.get("from")
    return ROLES.get(role.lower()) if isinstance(role, str) else None


def tools_beside(*places: Any) -> dict[str, str]:
    """The field `tools` of a draft, from the first place beside the request that holds schemas; else {}."""
    found = (
        tools_of(place.get("tools") or place.get("functions"))
        for place in map(structured, places)
        if isinstance(place, Mapping)
    )
    tools = next(filter(None, found), None)
    return {} if tools is None else {"tools": tools}


def _tools(request: Any) -> str | None:
    """The schemas of the tools in a request, as a JSON list."""
    body = structured(request)
    if not isinstance(body, Mapping):
        return None
    return tools_of(schemas(body) or body.get("tools") or body.get("functions"))


def spare_draft(
    at: Place, request: Any, reply: Any, call: Call, what: str, **fields: Any
) -> ConversationDraft | Reject:
    """The draft of a record around model calls, if it holds a request and a reply; else what it names, see
    `beside_calls`."""
    listed = structured(reply)
    if isinstance(listed, list) and not any(isinstance(entry, Mapping) for entry in listed):  # what a search found, say
        return beside_calls(at, call, what, **fields)
    try:
        draft = call_draft(at, request, reply, call, **fields)
    except Unusable:
        return beside_calls(at, call, what, **fields)
    return as_spare(draft, call.spare, what)


def as_spare(draft: ConversationDraft, spare: int, what: str) -> ConversationDraft | Reject:
    """The draft as one of a record around model calls, if it holds a request and a reply; else what it names."""
    roles = [message.role for message in draft.messages]
    call = replace(draft.call or Call(), spare=spare)
    if "user" not in roles or "assistant" not in roles:
        return beside_calls(draft.at, call, what, user=draft.user, tags=draft.tags)
    return replace(draft, call=call)


def beside_calls(at: Place, call: Call, what: str, **fields: Any) -> ConversationDraft | Reject:
    """What a record that is no chat names for the calls of its trace, as a draft without messages: session, user,
    consent (`tags`). A Reject that names `what` if it names none."""
    if call.trace and (call.session or fields.get("user") or fields.get("tags")):
        return ConversationDraft(at=at, messages=(), call=replace(call, spare=call.spare or _A_STEP), **fields)
    return Reject(at, Reason.NOT_A_CHAT, what)


def plain_messages(value: Any, role: str, depth: int = 0) -> list[dict[str, Any]]:
    """Messages as `{role, content}`, from text, messages, choices, LangChain's objects, or JSON text of any of these.
    Other JSON text is what a user or a model wrote.

    `role`: the default where none is given. Returns [] if there are no messages.
    """
    if value is None or depth > _MAX_DEPTH:
        return []
    if isinstance(value, str | bytes):
        parsed = structured(value)
        if parsed is value or not is_of_api(parsed, role):
            return [{"role": role, "content": value}] if value else []
        value = parsed
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return plain_messages(value[0], role, depth + 1)
        if _are_parts(value):
            return [{"role": role, "content": value}]
        messages = [message for entry in value for message in _entry(entry, role, depth)]
        return _with_pictures(messages) if any(message.get("type") == _PICTURE for message in messages) else messages
    return _entry(value, role, depth)


def is_of_api(value: Any, role: str) -> bool:
    """Whether a value that was written as JSON text is a request to an API or its reply, as `role` says."""
    if isinstance(value, list):
        first = value[0] if value else None
        entries = [structured(entry) for entry in (first if isinstance(first, list) else value)]
        objects = [entry for entry in entries if isinstance(entry, Mapping)]
        if not entries or len(objects) < len(entries):
            return False
        if role == "assistant" and any(_role_of(entry) == "user" for entry in objects):
            return False  # a chat that the model wrote
        return _are_parts(entries) or all(is_of_api(entry, role) for entry in objects)
    if not isinstance(value, Mapping):
        return False
    kind = value.get("type")
    if isinstance(kind, str) and has_any(value, ("content", "data", "id", "call_id", "summary")):
        kind = kind.removesuffix("Chunk")
        is_known = kind in _LANGCHAIN or kind.lower() in ROLES or kind == "message"
        if is_known or _item(value, kind) is not None:
            return True
    if isinstance(value.get("role", value.get("from")), str) and has_any(value, (*_IN_MESSAGES[2:], "value", *_CALLS)):
        return True
    if value.get("error") or isinstance(value.get("kwargs"), Mapping) or ("content" in value and _is_message(value)):
        return True
    if any(name in value and _holds_messages(value[name]) for name in _WRAPPERS + _LISTS):
        return True
    about = _OF_REQUESTS if role == "user" else _OF_REPLIES
    return has_any(value, (*_TEXTS, *_WRAPPERS)) and has_any(value, about)


def _is_message(value: Mapping[str, Any]) -> bool:
    return _OF_MESSAGES.issuperset(name for name in value if value[name] is not None)


def _holds_messages(value: Any) -> bool:
    """Whether this looks like messages or choices. An API that gave no answer leaves the list empty."""
    value = structured(value)
    first = value[0] if isinstance(value, list) and value else value
    first = structured(first[0] if isinstance(first, list) and first else first)
    return first in ([], {}) or (isinstance(first, Mapping) and has_any(first, _IN_MESSAGES))


def _are_parts(value: Sequence[Any]) -> bool:
    """Whether this is what one message holds: texts, and what stands beside them."""
    return bool(value) and all(
        isinstance(part, Mapping) and part.get("type") in PARTS and not has(part, "role") for part in value
    )


def _entry(entry: Any, role: str, depth: int) -> list[dict[str, Any]]:
    if type(entry) is dict and "content" in entry and type(entry.get("role")) is str and entry.get("parts") is None:
        return bedrock_messages(entry) if type(entry["content"]) is list and is_bedrock(entry) else [entry]
    if not isinstance(entry, Mapping):
        return plain_messages(entry, role, depth + 1)
    if has(entry, "contents"):
        return gemini_request(entry)
    if has(entry, "candidates"):
        return gemini_reply(entry)
    if is_gemini(entry):
        return gemini_messages(entry, role)
    if has_any(entry, ("choices", "generations")):
        chosen = structured(entry["choices"] if has(entry, "choices") else entry["generations"])
        return plain_messages(chosen[:1] if isinstance(chosen, list) else chosen, role, depth + 1)
    kind = entry.get("id")
    if isinstance(kind, list) and kind and isinstance(entry.get("kwargs"), Mapping):  # LangChain, serialised
        name = str(kind[-1]).removesuffix("Chunk")
        return [{**entry["kwargs"], "role": _LANGCHAIN.get(name, entry["kwargs"].get("type", role))}]
    if isinstance(entry.get("role"), str) or isinstance(entry.get("from"), str):
        return _of_parts(entry) if has(entry, "parts") else [dict(entry)]
    if isinstance(kind := entry.get("type"), str):
        if (item := _item(entry, kind)) is not None:
            return item
        if isinstance(entry.get("data"), Mapping):
            return [{**entry["data"], "role": kind}]
        if "content" in entry and kind != "text":
            return [{**entry, "role": _LANGCHAIN.get(kind.removesuffix("Chunk"), kind)}]
    for name in _WRAPPERS:
        if entry.get(name) is not None and (found := plain_messages(entry[name], role, depth + 1)):
            return [*_system(entry), *found]
    text = next((entry[name] for name in _TEXTS if entry.get(name) is not None), None)
    return [] if text is None else [{"role": role, "content": text}]


def _item(entry: Mapping[str, Any], kind: str) -> list[dict[str, Any]] | None:
    """The messages of an item of OpenAI's Responses API that is no message; None for anything else."""
    if kind.endswith("_call_output"):
        answer = {"role": "tool", "content": tool_text(entry.get("output") or "")}
        return [{**answer, "tool_call_id": entry.get("call_id")}]
    said = {"type": "message", "id": entry.get("id")}
    if kind in ("function_call", "custom_tool_call"):
        return [{**said, "role": "function_call", "content": entry}]
    if kind == "reasoning":
        thoughts = thought_text(entry)
        return [{**said, "role": "assistant", "reasoning_content": thoughts}] if thoughts else []
    if kind == _PICTURE:
        return [{**said, "type": kind, "role": "assistant", "content": [{"type": "image"}]}]
    if kind.endswith("_call"):
        return _call_of_a_server(entry, kind)
    return [] if kind in _ITEMS_WITHOUT_MESSAGE else None


def _call_of_a_server(entry: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """A call that OpenAI's server ran itself, with its answer in the same item; a call that the application answers in
    an item of its own; [] for one whose answer the item leaves out, as those of searches do."""
    arguments = next((entry[name] for name in _ARGUMENTS if entry.get(name) is not None), None)
    arguments = {"code": arguments} if "code" in entry and isinstance(arguments, str) else arguments
    name = entry.get("name") if isinstance(entry.get("name"), str) else kind.removesuffix("_call")
    identity = name_of(entry.get("call_id")) or name_of(entry.get("id"))
    call = {"id": identity, "name": name, "arguments": arguments}
    message = {"type": "message", "id": entry.get("id"), "role": "function_call", "content": call}
    answer = next((entry[name] for name in ("output", "outputs", "results", "error") if entry.get(name)), None)
    if answer is None and "call_id" not in entry and kind not in ("mcp_call", "code_interpreter_call"):
        return []
    if answer is None and "call_id" in entry:
        return [message]
    texts = [{"type": "text", "text": one["logs"]} if "logs" in one else one for one in _objects(answer)]
    return [message, {"role": "tool", "tool_call_id": identity, "name": name, "content": texts or answer or ""}]


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _with_pictures(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pictures that the model drew are part of the text that it wrote after them."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        before = joined[-1] if joined else {}
        if before.get("type") == _PICTURE and message.get("role") == "assistant":
            content = message.get("content") or []
            parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
            joined[-1] = {**before, **message, "content": [*before["content"], *parts]}
        else:
            joined.append(message)
    return [{**message, "type": "message"} if message.get("type") == _PICTURE else message for message in joined]


def unread_items(output: Any) -> Iterator[str]:
    """The types of the items of OpenAI's Responses API that became no message."""
    for item in _objects(structured(output)):
        kind = item.get("type")
        if isinstance(kind, str) and kind != "reasoning" and _item(item, kind) == []:
            yield kind


def _system(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The system message that a request holds beside its messages, as Anthropic, Bedrock and OpenAI's Responses do."""
    text = structured(next((body[name] for name in ("system", "instructions") if body.get(name)), None))
    if isinstance(text, list):
        return bedrock_messages({"role": "system", "content": text})
    return [{"role": "system", "content": text}] if isinstance(text, str) else []


def _of_parts(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message of OpenTelemetry; [] if it has no parts."""
    listed = structured(entry["parts"]) or []
    role = entry["role"] if isinstance(entry.get("role"), str) else entry["from"]
    if not isinstance(listed, list):
        return [{"role": role, "content": listed}]
    parts = [part for part in listed if isinstance(part, Mapping)]
    ending = {"finish_reason": entry["finish_reason"]} if entry.get("finish_reason") else {}
    return [{"role": role, "content": parts, **ending}] if parts else []


def first_name(*places: Any, names: tuple[str, ...]) -> str | None:
    """The first id or name that one of the mappings holds under one of `names`."""
    for place in map(structured, places):
        if isinstance(place, Mapping):
            for name in names:
                if (value := name_of(place.get(name))) is not None:
                    return value
    return None


def iso(value: Any) -> str | None:
    """A time as `time_of` gives it, also from a number written as text."""
    return time_of(int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 25 else value)
