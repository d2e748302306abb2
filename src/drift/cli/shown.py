"""What an ingestion did or would do, as people see it."""

import dataclasses
from collections.abc import Iterator

import orjson
import typer

from drift.cli.console import console, summary
from drift.lineage import Lineage, StageProvenance, Traced
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


def show_trace(traced: Traced, as_json: bool) -> None:
    for lineage in traced.pairs:
        for name, told in _lines(lineage):
            console.print(f"{name:13}{told}", soft_wrap=True, markup=False)
        console.print()
    console.print(f"{'learned by':13}{', '.join(traced.policies) or 'no policy yet'}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(orjson.dumps(traced).decode())


def _lines(lineage: Lineage) -> Iterator[tuple[str, str]]:
    pair, origin = lineage.pair, lineage.origin
    yield "pair", f"{pair.pair_id} ({pair.recipe}, iteration {pair.iteration}) in {lineage.file}"
    log = origin.missing or f"{origin.source}, there {origin.source_id!r}, message {origin.message_index}"
    yield "conversation", f"{pair.conversation_id}, reply {pair.reply_index}: {log}"
    if origin.user_key:
        yield "user", f"{origin.user_key} (salted hash)"
    if label := lineage.label:
        chance = "" if label.p_dsat is None else f", p_dsat {label.p_dsat:.3f}"
        yield "label", f"{label.label}{chance} by {label.labeller} {label.labeller_version}: {label.evidence!r}"
    yield "rejected", repr(pair.rejected[-1].content)
    yield "chosen", repr(pair.chosen[-1].content)
    if done := lineage.completion:
        how = "guided" if done.guided else "unguided"
        yield "sampler", f"{done.sampler}, {how}, sample {done.sample}, seed {done.seed}, finish {done.finish}"
    yield "weights", f"policy_id {pair.policy_id}"
    if lineage.trained:
        yield "trained", _told(lineage.trained)
    if lineage.also:
        yield "also in", ", ".join(lineage.also)


def _told(made: StageProvenance) -> str:
    weights = next((digest for file, digest in made.outputs.items() if file.endswith(".safetensors")), "")
    return f"{made.path} (sha256 {weights[:16]}), stage {made.key[:16]}, code {made.code_version}"
