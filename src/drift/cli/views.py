"""Results as people see them, where a list of fields is not enough: tables, the preview of an ingestion, a trace."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.table import Table

from drift.cli.console import console, summary, summary_json

if TYPE_CHECKING:
    from drift.bench.iteration import IterationBench, Spread
    from drift.evals.exploration.results import MethodResult
    from drift.evaluation.results import UtilityResult
    from drift.experiments.compare.run import FinishedComparison
    from drift.gate.results import GateResult
    from drift.lineage import Lineage, StageProvenance, Traced
    from drift.logs.ingest import IngestSummary, Preview
    from drift.records import Conversation, Rating
    from drift.run import RunSummary
    from drift.training.influence import BehaviourTrace

PREVIEW_CHARACTERS = 300
"""Of each message. --json has all of it."""
PREVIEW_MESSAGES = 6
"""First messages of a conversation; those with a rating are always shown. --json has all of them."""
SKIPPED_FILES = UNREAD_KEYS = 12
"""Skipped files and unread keys that are named. --json has all of them."""
SHOWN_INFLUENCES = 10
"""Users and pairs that are shown of a traced behaviour. --json has all of them."""


def show_ingestion(ingested: "IngestSummary", as_json: bool) -> None:
    """Print the counts, and the skipped files and first refused rows by name. --json has all of them."""
    fields = dataclasses.asdict(ingested)
    skipped, details, unread = (fields.pop(name) for name in ("skipped", "details", "unread"))
    for name in ("not_joined", "unknown_roles"):
        if not fields[name]:
            del fields[name]
    fields["unread"] = dict(list(unread.items())[:UNREAD_KEYS])
    if len(unread) > UNREAD_KEYS:
        fields["unread"] |= {f"and {len(unread) - UNREAD_KEYS} more keys": sum(list(unread.values())[UNREAD_KEYS:])}
    summary(fields, as_json=False)
    _show_sum(ingested)
    for reason in ingested.quarantined:
        console.print(f"  {reason}, first {details[reason]}", soft_wrap=True, markup=False)
    for file, why in list(skipped.items())[:SKIPPED_FILES]:
        console.print(f"skipped {file}: {why}", soft_wrap=True, markup=False)
    if len(skipped) > SKIPPED_FILES:
        console.print(f"skipped {len(skipped) - SKIPPED_FILES} more files")
    if as_json:
        summary_json(dataclasses.asdict(ingested))


def show_preview(preview: "Preview", as_json: bool) -> None:
    for file, format_name in preview.files.items():
        console.print(f"{format_name}  {file}", soft_wrap=True, markup=False)
    for number, conversation in enumerate(preview.examples, 1):
        _show_example(number, conversation)
    console.print("\nDry run: nothing was stored. Ingestion would give:")
    show_ingestion(preview.summary, as_json=False)
    if as_json:
        fields = {**dataclasses.asdict(preview.summary), "files": preview.files, "examples": preview.examples}
        summary_json({"dry_run": True, **fields})


def _show_sum(ingested: "IngestSummary") -> None:
    """Everything that was read went somewhere: the counts add up."""
    counts = {
        "accepted": ingested.accepted,
        "updated": ingested.updated,
        "duplicate": ingested.duplicate,
        **({"not joined": ingested.not_joined} if ingested.not_joined else {}),
        "filtered": ingested.filtered,
        "quarantined": sum(ingested.quarantined.values()),
    }
    parts = " + ".join(f"{count} {name}" for name, count in counts.items())
    console.print(f"adds up      {ingested.read} read = {parts}", soft_wrap=True)


def _show_example(number: int, conversation: "Conversation") -> None:
    from drift.turns import as_text

    facts = {
        "split": conversation.split,
        "source": conversation.source,
        "id in the log": conversation.source_id,
        "user": conversation.user_key,
        "model": conversation.model,
        "started": conversation.started_at,
        **conversation.tags,
    }
    console.print(f"\nexample {number}: conversation {conversation.conversation_id}", soft_wrap=True, markup=False)
    line = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    console.print(f"  {line}", soft_wrap=True, markup=False)
    ratings: dict[int, list[Rating]] = {}
    for rating in conversation.ratings:
        ratings.setdefault(rating.reply_index, []).append(rating)
    for index, message in enumerate(conversation.messages):
        if index >= PREVIEW_MESSAGES and index not in ratings:
            continue
        text = " ".join(as_text(message).split())
        text = text if len(text) <= PREVIEW_CHARACTERS else f"{text[:PREVIEW_CHARACTERS]} …"
        console.print(f"  {message.role}: {text}", soft_wrap=True, markup=False)
        for rating in ratings.get(index, ()):
            words = "; ".join(part for part in (rating.comment, rating.preferred) if part)
            line = f"    {rating.kind} {rating.value:+g}{': ' if words else ''}{words}"
            console.print(line, soft_wrap=True, markup=False)
    if len(conversation.messages) > PREVIEW_MESSAGES:
        console.print(f"  ({len(conversation.messages)} messages in total)")


def show_run(done: "RunSummary", as_json: bool) -> None:
    """Print what a run left; one line if it had nothing to do."""
    fields = dataclasses.asdict(done)
    if fields.get("did", "trained") == "trained":
        summary(fields, as_json)
        return
    console.print(f"{fields['did']}: {fields['message']}", soft_wrap=True, markup=False)
    if as_json:
        summary_json(fields)


def show_trace(traced: "Traced", as_json: bool) -> None:
    from drift.records import json_of

    for lineage in traced.pairs:
        for name, text in _lineage_lines(lineage):
            console.print(f"{name:13}{text}", soft_wrap=True, markup=False)
        console.print()
    for other in traced.generations:
        line = f"{other.run} (generation {other.generation}): {len(other.pairs)} pairs, learned by "
        console.print(f"{'chain':13}{line}{', '.join(other.policies) or 'none'}", soft_wrap=True, markup=False)
    console.print(f"{'learned by':13}{', '.join(traced.policies) or 'no policy yet'}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(json_of(traced).decode())


def show_influence(traced: "BehaviourTrace", as_json: bool) -> None:
    """The users whose pairs moved the policy most towards a behaviour, then their pairs."""
    from drift.records import json_of

    users = Table(title="users, by the influence of their pairs", title_justify="left", box=None)
    for column in ("user (salted hash)", "pairs", "influence", "share"):
        users.add_column(column, no_wrap=True)
    for user in traced.users[:SHOWN_INFLUENCES]:
        users.add_row(user.user, str(user.pairs), f"{user.influence:+.2e}", f"{user.share:.1%}")
    pairs = Table(title="pairs", title_justify="left", box=None)
    for column in ("pair", "file", "user", "influence"):
        pairs.add_column(column, no_wrap=True)
    for pair in traced.pairs[:SHOWN_INFLUENCES]:
        pairs.add_row(pair.pair_id, pair.file, pair.user_key or "", f"{pair.influence:+.2e}")
    console.print(users)
    console.print(pairs)
    left_out = {name: count for name, count in traced.left_out.items() if count}
    summary({"replies": traced.rows, "users": len(traced.users), "pairs": len(traced.pairs), **left_out}, False)
    if as_json:
        typer.echo(json_of(traced).decode())


def _lineage_lines(lineage: "Lineage") -> "Iterator[tuple[str, str]]":
    from drift.turns import as_text

    pair, origin = lineage.pair, lineage.origin
    yield "pair", f"{pair.pair_id} ({pair.recipe}, iteration {pair.iteration}) in {lineage.file}"
    log = origin.missing or f"{origin.source}, id in the log {origin.source_id!r}, message {origin.message_index}"
    yield "conversation", f"{pair.conversation_id}, reply {pair.reply_index}: {log}"
    if origin.user_key:
        yield "user", f"{origin.user_key} (salted hash)"
    if label := lineage.label:
        chance = "" if label.p_dsat is None else f", p_dsat {label.p_dsat:.3f}"
        yield "label", f"{label.label}{chance} by {label.labeller} {label.labeller_version}: {label.evidence!r}"
    if pair.rejected:  # a liked reply stands alone, and so does a disliked one of the recipe unpaired
        yield "rejected", repr(as_text(pair.rejected[-1]))
    if pair.chosen:
        yield "chosen", repr(as_text(pair.chosen[-1]))
    if reply := lineage.completion:
        guidance = f"guided ({reply.guidance or 'turn'})" if reply.guided else "unguided"
        yield "sampler", f"{reply.sampler}, {guidance}, sample {reply.sample}, seed {reply.seed}, finish {reply.finish}"
    yield "weights", f"policy_id {pair.policy_id}"
    if lineage.scored_by:
        yield "scored by", _provenance_line(lineage.scored_by)
    if lineage.trained:
        yield "trained", _provenance_line(lineage.trained)
    if lineage.also:
        yield "also in", ", ".join(lineage.also)


def _provenance_line(stage: "StageProvenance") -> str:
    weights = next((digest for file, digest in stage.outputs.items() if file.endswith(".safetensors")), "")
    return f"{stage.path} (sha256 {weights[:16]}), stage {stage.key[:16]}, code {stage.code_version}"


def show_benchmark(results: Mapping[str, Any], as_json: bool) -> None:
    """The scores of one model, or of several under `models`, and why they are not comparable with a leaderboard."""
    for name, scores in results.get("models", {"": results}).items():
        console.print(f"[bold]{name or scores.get('model', 'no request sent')}[/bold]")
        summary({key: value for key, value in scores.items() if key not in ("model", "not_comparable")}, False)
        if reasons := scores.get("not_comparable", ()):
            console.print(f"[yellow]not leaderboard-comparable[/yellow]: {'; '.join(reasons)}", soft_wrap=True)
    if "models" in results and (unscored := results.get("unscored_reasons")):
        summary({"unscored_reasons": unscored}, False)
    if as_json:
        typer.echo(orjson.dumps(results, default=str).decode())


def show_iteration(result: "IterationBench", as_json: bool) -> None:
    """The parts of an iteration as a table: seconds of both sides, ratio, share of the peak; then the rest."""
    table = Table(title="seconds of an iteration, median and range of the rounds", title_justify="left", box=None)
    for column in ("", "authors", "drift", "ratio", "share of peak: authors", "drift"):
        table.add_column(column)
    for name, part in result.parts.items():
        shares = part.peak_share or {}
        table.add_row(
            name, *map(_spread, (*part.seconds.values(), part.ratio, shares.get("authors"), shares.get("drift")))
        )
    for name, sides in (("tokens per CPU second", result.tokens_per_cpu_second), ("MiB of a step", result.step_mib)):
        table.add_row(name, *map(_spread, sides.values()))
    console.print(table)
    fields = dataclasses.asdict(result)
    in_table = ("parts", "tokens_per_cpu_second", "step_mib")
    summary({name: value for name, value in fields.items() if name not in in_table}, False)
    if as_json:
        summary_json(fields)


def _spread(spread: "Spread | None") -> str:
    """Without the interval if there was one round."""
    if spread is None:
        return ""
    interval = f" [dim]\\[{spread.low:.3g}, {spread.high:.3g}][/dim]" if spread.low != spread.high else ""
    return f"{spread.median:.3g}{interval}"


def show_exploration(methods: "Mapping[str, MethodResult]") -> None:
    """Each method's share of the region of high reward, and the diversity of its replies."""
    table = Table(title="mass share of the top 10 % region [95 % interval]", title_justify="left", box=None)
    for column in ("policy", "on the map", "in space", "self-BLEU", "Vendi", "good@1", "good@n"):
        table.add_column(column)
    for name, result in methods.items():
        masses = [next(share.mass for share in kind if share.top_percent == 10) for kind in (result.map, result.raw)]
        intervals = [f"{mass.value:.2f} [dim][{mass.low:.2f}, {mass.high:.2f}][/dim]" for mass in masses]
        coverage = list(result.coverage.values())
        numbers = (result.self_bleu, result.vendi, coverage[0], coverage[-1])
        table.add_row(name, *intervals, *(f"{number:.2f}" for number in numbers))
    console.print(table)


def show_utilities(rows: "Sequence[tuple[str, Sequence[UtilityResult]]]") -> None:
    """True utility by policy and temperature, with the interval over prompts."""
    table = Table(title="true utility of held-out prompts [95 % interval]", title_justify="left", box=None)
    table.add_column("policy")
    for result in rows[0][1]:
        name = f"temperature {result.temperature:g}" if result.temperature else "greedy"
        table.add_column(name, no_wrap=True)
    for name, results in rows:
        table.add_row(name, *(f"{r.mean:.3f} [dim][{r.low:.3f}, {r.high:.3f}][/dim]" for r in results))
    console.print(table)


def show_comparison(done: "FinishedComparison", as_json: bool) -> None:
    from drift.experiments.compare.table import markdown

    console.print(markdown(done.comparison), soft_wrap=True, markup=False)
    console.print(f"results: {done.folder / 'results.md'}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(done.comparison.model_dump_json())


def show_gate(result: "GateResult", folder: Path, as_json: bool) -> None:
    """The target and the guards as a table, then the verdict and what stands in the way of a pass."""
    from drift.gate.verdict import amounts
    from drift.rundir import layout

    title = f"{result.new} against {result.against}"
    table = Table(title=title, title_justify="left", box=None)
    for column in ("", "OLD", "NEW", f"change [{result.interval}% interval]", "margin", "items", "verdict"):
        table.add_column(column, no_wrap=column in ("", "verdict"))
    for row in (*([result.target] if result.target else []), *result.guards):
        table.add_row(*amounts(row), str(row.items), _COLOURED.get(row.verdict, row.verdict))
    console.print(table)
    for why in result.why:
        console.print(why, soft_wrap=True, markup=False)
    if result.left_out:
        console.print(f"left out: {', '.join(result.left_out)}", soft_wrap=True, markup=False)
    seen = result.seen_in_training
    console.print("items seen in training: " + ("not known, no model is a run" if seen is None else f"{seen} left out"))
    console.print(f"verdict: {_COLOURED.get(result.verdict, result.verdict)}")
    console.print(f"report: {folder / layout.REPORT}", soft_wrap=True, markup=False)
    if as_json:
        summary_json({**result.plain(), "report": str(folder / layout.REPORT)})


_COLOURED = {"pass": "[green]pass[/green]", "fail": "[red]fail[/red]", "undecided": "[yellow]undecided[/yellow]"}
