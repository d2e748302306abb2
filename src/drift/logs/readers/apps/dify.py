"""Dify: messages as its APIs and its database have them, whole conversations, and its exports of feedback.

A row is one exchange: `query` and `answer`. Rows of one `conversation_id` are a conversation, in the order of time;
`parent_message_id`, where it is given, makes a tree: several answers to one question are regenerations (see trees.py).
An annotation is the answer that the operator wrote instead.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome
from drift.logs.draft import ConversationDraft, Evidence, has, has_any, messages_of, name_of, structured, time_of
from drift.logs.files.rows import LogRow, Reject, Unusable, json_kind
from drift.logs.parts import json_text
from drift.logs.traces.gathering import gathered, in_time_order
from drift.logs.traces.texts import first_name
from drift.logs.traces.verdicts import dated, is_unrated, verdict_of
from drift.logs.trees import Node, connect, paths
from drift.logs.unread import keys
from drift.records import Message, Rating, RatingKind, Reason, stable_hash

_MARKS = frozenset((
    "message_files", "feedback", "feedbacks", "inputs", "retriever_resources", "agent_thoughts", "from_source",
    "parent_message_id", "app_id", "created_at",
))  # fmt: skip
_RATED = ("feedback_rating_raw", "feedback_rating", "rating", "feedback")
"""Where an exchange has its thumb as a word. `feedback` is an object in the API, a word where tables were joined."""
_BEFORE = "00000000-0000-0000-0000-000000000000"
"""The parent of what came through the API: in Dify it stands for the message before; a new thread has no parent."""
_QUESTIONS, _ANSWERS = ("query", "user_query"), ("answer", "ai_response")
_IDS = ("id", "message_id")
_CONVERSATIONS = ("conversation_id",)
_TIMES = ("created_at", "message_date")
_USERS = (
    "from_end_user_session_id", "from_end_user_id", "from_account_id", "user", "user_id", "end_user_id",
    "from_account_name",
)  # fmt: skip
_MODELS = ("model_id", "model")

_MESSAGE = keys(
    "id message_id parent_message_id answer query user_query ai_response created_at message_date conversation_id"
    " feedback_rating_raw feedback_rating rating feedback_source feedback_comment content comment"
    f" {' '.join((*_USERS, *_MODELS))}",
    message_files=keys("type belongs_to"),
    feedback=keys("rating from_source content comment feedback_comment"),
    feedbacks=keys("rating from_source content comment feedback_comment"),
    annotation=keys("content answer"),
    agent_thoughts=keys("id position tool tool_input observation"),
    model_config={},
)
_CONVERSATION = keys(f"id conversation_id created_at {' '.join((*_USERS, *_MODELS))}", model_config={})
KEYS = {**_MESSAGE, **_CONVERSATION, **keys("from_source updated_at", messages=_MESSAGE, conversation=_CONVERSATION)}


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_message(row) or _is_thumb(row) or bool(_inside(row))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return gathered(rows, group_of, _conversation, _alone)


def group_of(row: Mapping[str, Any]) -> str | None:
    """The conversation of a message; None for a whole conversation, and for a thumb."""
    return None if _is_thumb(row) or _inside(row) is not None else first_name(row, names=_CONVERSATIONS)


def id_of(row: Mapping[str, Any]) -> str | None:
    """With the whole row: rows of one message that differ are its judgements, one each."""
    name = first_name(row, names=_IDS)
    return name and stable_hash(name, row)


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """A judgement of an answer that is no word for good or bad."""
    for place in () if _is_thumb(row) else (row, *(_inside(row) or ())):
        for name in _RATED if isinstance(place, Mapping) else ():
            word = structured(place.get(name))
            if not is_unrated(word) and not isinstance(word, Mapping) and verdict_of(word) is None:
                yield name if place is row else f"messages.{name}"


def _is_message(row: Mapping[str, Any]) -> bool:
    if has(row, "user_query") and "ai_response" in row:
        return True
    return has(row, "query", "conversation_id") and "answer" in row and bool(row.keys() & _MARKS)


def _is_thumb(row: Mapping[str, Any]) -> bool:
    """A row of the table of feedback, which has no texts."""
    has_ids = {"message_id", "conversation_id", "rating"} <= row.keys()
    return has_ids and row["rating"] in ("like", "dislike") and not has_any(row, ("query", "user_query"))


def _inside(row: Mapping[str, Any]) -> list[Any] | None:
    """The messages of a whole conversation; None if the row is none."""
    messages = structured(row.get("messages"))
    if not isinstance(messages, list) or has(row, "query"):
        return None
    is_dify = any(isinstance(entry, Mapping) and {"query", "answer"} <= entry.keys() for entry in messages)
    return messages if is_dify else None


def _alone(row: LogRow) -> Iterator[Outcome]:
    if _is_thumb(row.value):
        name, value = name_of(row.value["message_id"]), verdict_of(row.value["rating"]) or 0.0
        kind, about = _kind(row.value.get("from_source")), (name,) if name else ()
        yield dated(Evidence(row.at, about, kind, value, comment=_remark(row.value)), row.value)
        return
    entries = _inside(row.value)
    if entries is None:
        raise Unusable(Reason.NO_MESSAGES, "a row without a conversation_id")
    about = structured(row.value.get("conversation"))
    chat = first_name(row.value, about, names=("conversation_id", "id"))
    rows = [LogRow(row.at, entry) for entry in entries if isinstance(entry, dict)]
    shared = (row.value, about)
    if not rows:
        raise Unusable(Reason.NO_MESSAGES, "an empty chat")
    yield from _paths(rows, chat or first_name(rows[0].value, names=_CONVERSATIONS), shared)


def _conversation(rows: list[LogRow]) -> Iterator[Outcome]:
    for outcome in _paths(rows, first_name(rows[0].value, names=_CONVERSATIONS), ()):
        yield replace(outcome, rows=0) if isinstance(outcome, Reject) else outcome


def _paths(rows: list[LogRow], chat: str | None, shared: tuple[Any, ...]) -> Iterator[Outcome]:
    rows = in_time_order(rows, lambda row: _first(row.value, _TIMES))
    nodes = _nodes(rows)
    last = next(reversed(nodes), None)
    places = [place for place in (*(row.value for row in rows), *shared) if isinstance(place, Mapping)]
    user = first_name(*places, names=_USERS)
    model = first_name(*places, *(structured(place.get("model_config")) for place in places), names=_MODELS)
    started = next((time for row in rows if (time := time_of(_first(row.value, _TIMES)))), None)
    for outcome in paths(rows[0].at, nodes, last, chat or next(iter(nodes), "")):
        if isinstance(outcome, ConversationDraft):
            # without parents the rows are no tree, but a conversation that rows of a later log may continue
            family = outcome.family if any(_has_parent(row.value) for row in rows) else None
            yield replace(outcome, user=user, model=outcome.model or model, started_at=started, family=family)
        else:
            yield outcome


def _has_parent(entry: Mapping[str, Any]) -> bool:
    """Whether a row names the message before it; Dify writes zeros for none."""
    return bool((name_of(entry.get("parent_message_id")) or "").strip("0-"))


def _nodes(rows: list[LogRow]) -> dict[str, Node]:
    """Two nodes for each exchange: a question that was asked again under the same parent is one node."""
    names = {name for row in rows if (name := first_name(row.value, names=_IDS))}
    is_tree = any(name_of(row.value.get("parent_message_id")) in names for row in rows)
    nodes: dict[str, Node] = {}
    before: str | None = None
    for index, row in enumerate(rows):
        entry = row.value
        name = first_name(entry, names=_IDS) or f"#{index}"
        if name in nodes:  # a second judgement of the same answer
            nodes[name] = replace(nodes[name], ratings=tuple(dict.fromkeys((*nodes[name].ratings, *_ratings(entry)))))
            continue
        above = name_of(entry.get("parent_message_id"))
        follows = above == _BEFORE or not is_tree
        parent = before if follows else above if above in names else None
        request = _question(entry, index)
        question = f"{parent or ''}?{stable_hash(request[-1].content)}" if request and is_tree else f"{name}?"
        if question not in nodes:
            nodes[question] = Node(request, parent)
        nodes[name] = Node(
            _answer(entry, index), question, first_name(entry, names=_MODELS), ratings=tuple(_ratings(entry))
        )
        before = name
    connect(nodes, {})
    return nodes


def _question(entry: Mapping[str, Any], index: int) -> tuple[Message, ...]:
    text, parts = _first(entry, _QUESTIONS), []
    if isinstance(text, str) and text:
        parts.append({"type": "text", "text": text})
    elif text is not None and not isinstance(text, str):
        raise Unusable(Reason.BAD_CONTENT, f"the query of message {index} is {json_kind(text)}")
    files = structured(entry.get("message_files"))
    for file in files if isinstance(files, list) else ():
        if isinstance(file, Mapping) and file.get("belongs_to") != "assistant":
            kind = file.get("type")
            parts.append({"type": kind if kind in ("image", "audio", "video") else "file"})
    if not parts:
        return ()
    return _read([{"role": "user", "content": parts, "timestamp": _first(entry, _TIMES)}], index)


def _answer(entry: Mapping[str, Any], index: int) -> tuple[Message, ...]:
    """The calls of an agent, then its answer; none if it failed."""
    thoughts = structured(entry.get("agent_thoughts"))
    steps = [step for step in thoughts if isinstance(step, Mapping)] if isinstance(thoughts, list) else []
    steps.sort(key=lambda step: step["position"] if isinstance(step.get("position"), int) else 0)
    entries: list[dict[str, Any]] = []
    for step in steps:
        entries += _step(step)
    text = _first(entry, _ANSWERS)
    if text is not None and not isinstance(text, str):
        raise Unusable(Reason.BAD_CONTENT, f"the answer of message {index} is {json_kind(text)}")
    if text:
        entries.append({"role": "assistant", "content": text})
    return _read(entries, index) if entries else ()


def _step(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A call of a tool and its answer. `tool_input` and `observation` are objects by the name of the tool."""
    tool = step.get("tool")
    if not isinstance(tool, str) or not tool:
        return []
    inputs, outputs = structured(step.get("tool_input")), structured(step.get("observation"))
    calls, answers = [], []
    for number, name in enumerate(tool.split(";")):
        call_id = f"{step.get('id') or tool}-{number}"
        given = inputs.get(name, inputs) if isinstance(inputs, Mapping) else inputs
        result = outputs.get(name, outputs) if isinstance(outputs, Mapping) else outputs
        arguments = given if isinstance(given, str) else json_text(given or {})
        calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
        if result is not None:
            text = result if isinstance(result, str) else json_text(result)
            answers.append({"role": "tool", "tool_call_id": call_id, "name": name, "content": text})
    return [{"role": "assistant", "content": None, "tool_calls": calls}, *answers]


def _read(entries: list[dict[str, Any]], index: int) -> tuple[Message, ...]:
    return tuple(replace(message, source_index=index) for message in messages_of(entries))


def _ratings(entry: Mapping[str, Any]) -> Iterator[Rating]:
    """Thumbs of the user and of operators, and the answer that an operator wrote instead."""
    listed = structured(entry.get("feedbacks"))
    for feedback in (structured(entry.get("feedback")), *(listed if isinstance(listed, list) else ())):
        value = verdict_of(feedback.get("rating")) if isinstance(feedback, Mapping) else None
        if isinstance(feedback, Mapping) and value is not None:
            yield Rating(0, _kind(feedback.get("from_source")), value, _remark(feedback))
    value = next((value for name in _RATED if (value := verdict_of(entry.get(name))) is not None), None)
    if value is not None:
        yield Rating(0, _kind(entry.get("feedback_source")), value, _remark(entry))
    note = structured(entry.get("annotation"))
    better = note.get("content", note.get("answer")) if isinstance(note, Mapping) else None
    if isinstance(better, str) and better.strip() and better != _first(entry, _ANSWERS):
        yield Rating(0, "correction", -1.0, preferred=better)


def _kind(source: Any) -> RatingKind:
    """Thumbs are of users: what an operator says is a score."""
    return "score" if source in ("admin", "Admin Feedback") else "thumb"


def _remark(feedback: Mapping[str, Any]) -> str | None:
    text = _first(feedback, ("content", "feedback_comment", "comment"))
    return text if isinstance(text, str) and text.strip() else None


def _first(entry: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((entry[name] for name in names if entry.get(name) is not None), None)
