"""What an ingestion did or would do, as people see it."""

import dataclasses

import orjson
import typer

from drift.cli.console import console, summary
from drift.logs.ingest import IngestSummary, Preview
from drift.records import Conversation, Rating

_WIDTH = 300  # characters of a message that are shown, and
_MESSAGES = 6  # messages, beside those that were rated; --json has all of them


def show_ingestion(done: IngestSummary, as_json: bool) -> None:
    summary(done, as_json)
    _show_sum(done)


def show_preview(preview: Preview, as_json: bool) -> None:
    for file, name in preview.files.items():
        console.print(f"{name}  {file}", soft_wrap=True, markup=False)
    for number, conversation in enumerate(preview.examples, 1):
        _show(number, conversation)
    console.print("\nnothing was stored; what would become of these logs:")
    summary(preview.summary, as_json=False)
    _show_sum(preview.summary)
    if as_json:
        plain = {**dataclasses.asdict(preview.summary), "files": preview.files, "examples": preview.examples}
        typer.echo(orjson.dumps({"dry_run": True, **plain}, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


def _show_sum(done: IngestSummary) -> None:
    refused = sum(done.quarantined.values())
    parts = {"accepted": done.accepted, "updated": done.updated, "duplicate": done.duplicate, "filtered": done.filtered}
    told = " + ".join(f"{count} {name}" for name, count in {**parts, "quarantined": refused}.items())
    console.print(f"adds up      {done.read} read = {told}", soft_wrap=True)


def _show(number: int, conversation: Conversation) -> None:
    told = {
        "split": conversation.split,
        "source": conversation.source,
        "id in the log": conversation.source_id,
        "user": conversation.user_key,
        "model": conversation.model,
        "started": conversation.started_at,
        **conversation.tags,
    }
    console.print(f"\nexample {number}: conversation {conversation.conversation_id}", soft_wrap=True, markup=False)
    shown = ", ".join(f"{name} {value}" for name, value in told.items() if value)
    console.print(f"  {shown}", soft_wrap=True, markup=False)
    ratings: dict[int, list[Rating]] = {}
    for rating in conversation.ratings:
        ratings.setdefault(rating.reply_index, []).append(rating)
    for index, message in enumerate(conversation.messages):
        if index >= _MESSAGES and index not in ratings:
            continue
        text = " ".join(message.content.split())
        text = text if len(text) <= _WIDTH else f"{text[:_WIDTH]} …"
        console.print(f"  {message.role}: {text}", soft_wrap=True, markup=False)
        for rating in ratings.get(index, ()):
            said = "; ".join(part for part in (rating.comment, rating.preferred) if part)
            line = f"    {rating.kind} {rating.value:+g}{': ' if said else ''}{said}"
            console.print(line, soft_wrap=True, markup=False)
    if len(conversation.messages) > _MESSAGES:
        console.print(f"  ({len(conversation.messages)} messages in all)")
