"""Weights & Biases Weave: exported calls, and rows of its feedback.

A call whose inputs hold messages, contents or a prompt is a model call. Any other call is read only if its trace has no
model call in the logs. Feedback (reactions, notes, annotations) stands in `summary.weave.feedback` or in rows of its
own; it judges its call, else the last model call below it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, consent_tags, many_per_row
from drift.logs.draft import Call, has, has_any, name_of, seconds_of, structured, tags_of_all
from drift.logs.files.rows import LogRow, Place, Reject, Unusable, json_kind
from drift.logs.traces.texts import SESSIONS, USERS, call_draft, first_name, iso, spare_draft
from drift.logs.traces.verdicts import TIMES, as_score, dated, judgement
from drift.logs.unread import keys
from drift.records import Reason

_REQUESTS = ("messages", "contents")  # arguments of functions that ask a model
_MODEL_OPS = (
    "chat.completions", "messages.create", "messages.stream", "generate_content", "responses.create", "litellm",
    "completion", "chat_model", "ChatOpenAI", "ChatAnthropic", "converse", "invoke_model",
)  # fmt: skip
_UP = ("👍", "❤", "🎉", "😀", "😄", "🚀", "🔥", "👏", "💯", "🙌", "✅", "😍", "🥰", "⭐", "🌟", "👌", "🙂", "😊")
_DOWN = ("👎", "😡", "😠", "😞", "😢", "😭", "💩", "❌", "🤮", "😕", "🙁", "☹", "😤", "🤬")
_SKIN = "".join(chr(code) for code in (*range(0x1F3FB, 0x1F400), 0xFE0F))

_FEEDBACK = keys(f"feedback_type payload {' '.join(TIMES)}")
KEYS = keys(
    "id op_name trace_id parent_id started_at inputs output attributes payload feedback_type weave_ref call_ref"
    f" {' '.join((*SESSIONS, *TIMES))}",
    feedback=_FEEDBACK,
    summary=keys("", weave=keys("", feedback=_FEEDBACK)),
)


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_call(row) or _is_feedback(row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _is_call(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("op_name"), str) and "inputs" in row


def _is_feedback(row: Mapping[str, Any]) -> bool:
    return has(row, "feedback_type") and "payload" in row and has_any(row, ("weave_ref", "call_ref"))


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    if _is_feedback(value):
        yield _feedback(row.at, [value], [_of_reference(value.get("weave_ref", value.get("call_ref")))])
        return
    yield _call(row.at, value)
    summary = structured(value.get("summary"))
    weave = structured(summary.get("weave")) if isinstance(summary, Mapping) else None
    given = structured(weave.get("feedback")) if isinstance(weave, Mapping) else value.get("feedback")
    entries = [entry for entry in given if isinstance(entry, Mapping)] if isinstance(given, list) else []
    names = [name_of(value.get("id")), name_of(value.get("trace_id"))]
    about = [f"{kind} {name}" if name else None for kind, name in zip(("call", "trace"), names, strict=True)]
    notes = [entry for entry in entries if _is_note(entry)]
    verdicts = [entry for entry in entries if not _is_note(entry)]
    for entry in verdicts or notes[:1]:
        try:
            yield _feedback(row.at, [entry, *notes], about)
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail)


def _call(at: Place, row: Mapping[str, Any]) -> Outcome:
    inputs, output = structured(row.get("inputs")), row.get("output")
    attributes = structured(row.get("attributes"))
    trace, parent = name_of(row.get("trace_id")), name_of(row.get("parent_id"))
    ids = {"call": name_of(row.get("id")), "parent": parent, "trace": trace}
    # Feedback about a function around the call names the function's call.
    names = (f"{'trace' if kind == 'trace' else 'call'} {one}" for kind, one in ids.items() if one)
    started = row.get("started_at")
    name = str(row.get("op_name"))
    is_call = _asks_a_model(name, inputs)
    # What a step is given may be about anything (a channel to write to, say), and `user` may be the request.
    told = inputs if is_call or parent is None else None
    users = USERS if is_call else tuple(name for name in USERS if name.lower().endswith("id"))
    call = Call(
        first_name(row, attributes, told, names=SESSIONS),
        tuple(dict.fromkeys(names)),
        seconds_of(started) or 0.0,
        trace,
    )
    about = {
        "user": first_name(attributes, names=USERS) or first_name(told, names=users),
        "model": first_name(structured(output), inputs, names=("model", "modelVersion", "model_name")),
        "started_at": iso(started),
        "tags": tags_of_all(map(consent_tags, (row, attributes if isinstance(attributes, Mapping) else {}))),
    }
    if not is_call:
        what = f"a call of {name.rpartition('/')[2].partition(':')[0][:40]}"
        spare = replace(call, spare=2 if parent else 1)
        return spare_draft(at, inputs, output, spare, what, **about)
    return call_draft(at, inputs, output, call, **about)


def _asks_a_model(name: str, inputs: Any) -> bool:
    if not isinstance(inputs, Mapping):
        return False
    short = name.rpartition("/op/")[2]
    return any(part in short for part in _MODEL_OPS) and (
        any(inputs.get(key) for key in (*_REQUESTS, "input", "prompt"))
    )


def _is_note(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("feedback_type")).startswith("wandb.note")


def _of_reference(reference: Any) -> str | None:
    """The id of the call in `weave:///entity/project/call/ID`."""
    return f"call {reference.rpartition('/')[2]}" if isinstance(reference, str) and reference else None


def _feedback(at: Place, entries: list[Mapping[str, Any]], about: list[str | None]) -> Outcome:
    """One judgement, with the notes about the same call as its comment."""
    judged, *notes = entries
    remark = ": ".join(text for note in notes if (text := _note(note)))
    payload = structured(judged.get("payload"))
    kind = str(judged.get("feedback_type"))
    if not isinstance(payload, Mapping):
        raise Unusable(Reason.NO_VERDICT, f"feedback whose payload is {json_kind(payload)}")
    if kind.startswith("wandb.reaction"):
        word = _word(payload)
        if word is None:
            raise Unusable(Reason.NO_VERDICT, "a reaction that is neither good nor bad")
        return dated(judgement(at, about, "reaction of a user", None, word, remark), judged)
    if _is_note(judged):
        raise Unusable(Reason.NO_VERDICT, "a note without a verdict")
    name = kind.removeprefix("wandb.annotation.").removeprefix("wandb.runnable.")
    value = payload.get("value", payload.get("output"))
    value = value.get("passed", value.get("score")) if isinstance(value, Mapping) else value
    evidence = dated(judgement(at, about, name, value, value, payload.get("note") or remark), judged)
    return as_score(evidence) if kind.startswith("wandb.") else evidence


def _note(entry: Mapping[str, Any]) -> str | None:
    payload = structured(entry.get("payload"))
    note = payload.get("note") if isinstance(payload, Mapping) else None
    return note.strip() or None if isinstance(note, str) else None


def _word(payload: Mapping[str, Any]) -> str | None:
    """`up` or `down`, from an emoji in any skin colour or from its name."""
    for name in ("detoned", "emoji", "alias", "detoned_alias"):
        text = payload.get(name)
        if not isinstance(text, str):
            continue
        plain = text.strip(":").translate({ord(tone): None for tone in _SKIN}).lower()
        if plain in _UP or plain in ("+1", "thumbs_up", "thumbsup", "red_heart", "heart"):
            return "up"
        if plain in _DOWN or plain in ("-1", "thumbs_down", "thumbsdown"):
            return "down"
    return None
