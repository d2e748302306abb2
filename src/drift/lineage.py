"""Trace a pair to its conversation, message, label, sampler and weights, and to the policies trained on it, along the
whole chain of generations."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from drift.endpoint.cache import ANSWERS
from drift.errors import DataError
from drift.records import MESSAGE_EXTRAS, Completion, Conversation, FeedbackLabel, PreferencePair, read_jsonl
from drift.rundir import layout
from drift.rundir.chain import ancestors, descendants, parent_folder, with_ancestors
from drift.rundir.manifest import StageRecord
from drift.rundir.view import RunView, load_run
from drift.store import Forgotten, Store, store_of

_MAY_QUOTE = (layout.REPORT, ANSWERS)


@dataclass(frozen=True, slots=True)
class Origin:
    """The log's own ids of the disliked message; `missing`: why it can no longer be shown."""

    store: str | None
    conversation_id: str
    reply_index: int
    user_key: str | None
    source: str | None = None
    source_id: str | None = None
    message_index: int | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class StageProvenance:
    """A stage's output: its sha256 by file, and the stage's key, code and settings."""

    path: str
    key: str
    code_version: str
    outputs: dict[str, str]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lineage:
    """One pair. `pair.policy_id` is the hash of the weights that generated the chosen reply;
    `trained`: the first policy trained on it.

    `also`: ids of this run's other pairs with the same disliked reply. `scored_by`: the feedback reward that gave the
    pair its margin.
    """

    pair: PreferencePair
    file: str
    origin: Origin
    label: FeedbackLabel | None
    completion: Completion | None
    sampled_by: StageProvenance | None
    trained: StageProvenance | None
    also: tuple[str, ...] = field(default=())
    scored_by: StageProvenance | None = None


@dataclass(frozen=True, slots=True)
class OtherGeneration:
    """Another run of the chain: its own pairs of the traced replies, and its policies that learned from them, in its
    own training or because it starts from a policy that did."""

    run: str
    generation: int
    pairs: tuple[str, ...]
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Traced:
    """`asked`: the id that was looked up; `pairs`: every pair with that id; `policies`: all that trained on them.
    `generations`: the other runs of the chain that learned from the same replies."""

    run: str
    asked: str
    pairs: tuple[Lineage, ...]
    policies: tuple[str, ...]
    generations: tuple[OtherGeneration, ...] = ()


@dataclass(frozen=True, slots=True)
class ForgottenTraces:
    """What a run still holds of forgotten conversations: the number of `pairs`, the `policies` trained on them or on
    what a feedback reward that learned from them chose (with that reward), and the `files` with rows of them. The
    report and a judge's answers are listed because they may quote them."""

    pairs: int
    policies: tuple[str, ...]
    files: tuple[str, ...] = ()


def trace(run_path: Path, asked: str) -> Traced:
    """Trace an id: `asked` is a pair_id, a prompt_id, a conversation_id, or the conversation's id in the log.

    Raises DataError if nothing in the run has that id.
    """
    run = load_run(run_path)
    store = store_of(run)
    ids = {asked, *(c.conversation_id for c in _of_source(store, asked))}
    all_pairs = [(file, pair) for file in run.pair_files for pair in read_jsonl(run.path / file, PreferencePair)]
    matches = [row for row in all_pairs if ids & {row[1].pair_id, row[1].prompt_id, row[1].conversation_id}]
    if not matches:
        raise DataError(
            f"{run_path}: no pair, prompt or conversation {asked!r}. RUN/iteration-1/pairs.jsonl lists the ids: "
            "pair_id, prompt_id, conversation_id."
        )
    return Traced(
        str(run.path),
        asked,
        tuple(_lineage(run, store, file, pair, all_pairs) for file, pair in matches),
        tuple(_learned(run, min(_iteration(file) for file, _ in matches))),
        tuple(_in_other_generations(run, matches)),
    )


def _in_other_generations(run: RunView, matches: Sequence[tuple[str, PreferencePair]]) -> Iterator[OtherGeneration]:
    """The runs before and after this one, in the order of the chain, as far as they learned from the same replies."""
    prompts = {pair.prompt_id for _, pair in matches}
    passed_on = any(file in run.learned_from for file, _ in matches)
    for other in (*reversed(ancestors(run)), *descendants(run)):
        own = [
            (file, pair.pair_id)
            for file in other.pair_files
            for pair in read_jsonl(other.path / file, PreferencePair)
            if pair.prompt_id in prompts
        ]
        inherits = passed_on and other.state.generation > run.state.generation
        first = 0 if inherits else min((_iteration(file) for file, _ in own), default=None)
        if first is not None:
            pairs = tuple(pair_id for _, pair_id in own)
            yield OtherGeneration(str(other.path), other.state.generation, pairs, tuple(_learned(other, first)))


def _lineage(
    run: RunView, store: Store | None, file: str, pair: PreferencePair, all_pairs: list[tuple[str, PreferencePair]]
) -> Lineage:
    folder = file.rpartition("/")[0]
    sampled_in = layout.iteration(pair.iteration) if pair.iteration else folder  # a recipe may have sampled once
    return Lineage(
        pair=pair,
        file=file,
        origin=_origin(store, pair),
        label=_label(run, pair),
        completion=_completion(run, sampled_in, pair),
        sampled_by=_provenance(run, f"{sampled_in}/{layout.COMPLETIONS}"),
        trained=_provenance(run, f"{folder}/{layout.POLICY}"),
        also=tuple(p.pair_id for _, p in all_pairs if p.prompt_id == pair.prompt_id and p.pair_id != pair.pair_id),
        scored_by=_reward(run, pair.iteration) if pair.margin_source == "feedback" else None,
    )


def _reward(run: RunView, iteration: int) -> StageProvenance | None:
    """The feedback reward of an iteration: its own, or that of the last one that trained it."""
    rewards = (_provenance(run, f"{layout.iteration(k)}/{layout.FEEDBACK_REWARD}") for k in range(iteration, 0, -1))
    return next(filter(None, rewards), None)


def _origin(store: Store | None, pair: PreferencePair) -> Origin:
    ids = (str(store.path) if store else None, pair.conversation_id, pair.reply_index, pair.user_key)
    conversation = store.conversation(pair.conversation_id) if store else None
    if conversation is None:
        return Origin(*ids, missing="the store is gone" if store is None else "the store no longer has it")
    place = conversation.messages[pair.reply_index].source_index
    return Origin(*ids, conversation.source, conversation.source_id, place)


def _label(run: RunView, pair: PreferencePair) -> FeedbackLabel | None:
    """The label that the run used; the store may have replaced it since."""
    file = run.file(layout.LABELS)
    labels = read_jsonl(file, FeedbackLabel) if file else ()
    place = (pair.conversation_id, pair.reply_index)
    return next((label for label in labels if (label.conversation_id, label.reply_index) == place), None)


def _completion(run: RunView, folder: str, pair: PreferencePair) -> Completion | None:
    """The fresh reply that the pair was made of; None if its replies stand in the logs."""
    file = run.file(f"{folder}/{layout.COMPLETIONS}")
    if not pair.chosen:
        return None
    chosen = pair.chosen[-1]
    return next(
        (
            c
            for c in (read_jsonl(file, Completion) if file else ())
            if (c.prompt_id, c.text, c.tool_calls) == (pair.prompt_id, chosen.content, chosen.tool_calls)
        ),
        None,
    )


def _provenance(run: RunView, stage: str) -> StageProvenance | None:
    record = _record(run, stage)
    if record is None:
        return None
    settings = {name: item.value for name, item in record.inputs.items() if not isinstance(item.value, list)}
    return StageProvenance(stage, record.key, record.code_version, record.outputs, settings)


def _record(run: RunView, name: str) -> StageRecord | None:
    return next((stage for stage in run.stages if stage.name == name), None)


def _iteration(file: str) -> int:
    return layout.iteration_of(file) or 0


def _learned(run: RunView, first: int) -> Iterator[str]:
    """The policies trained on pairs of iteration `first`, and all later ones; RUN/policy is a copy of the best one."""
    for stage in run.stages:
        if stage.name.rpartition("/")[2] == layout.POLICY:
            iteration = stage.counts.get("iteration") if stage.name == layout.POLICY else _iteration(stage.name)
            if int(iteration or 0) >= first:
                yield stage.name


def forgotten_in(runs: Sequence[RunView], store: Store | None = None) -> dict[Path, ForgottenTraces]:
    """The runs that hold, or were trained on, conversations that `store` (default: each run's own) has forgotten.

    `runs`: oldest first. If a run starts from a policy of a marked run, or if the chain before it was trained on such a
    conversation, all of its policies are marked. The runs that they build on are searched too, wherever they are.
    """
    marked: dict[Path, ForgottenTraces] = {}
    for run in with_ancestors(runs):
        held = _held(run, _forgotten_by(store or store_of(run)))
        pairs = {file: held[file] for file in run.pair_files if file in held}
        starts = [start for start in (_base_of(run), parent_folder(run)) if start is not None]
        heir = layout.EARLIER in held or any(
            mark.policies and start.resolve().is_relative_to(at.resolve())
            for at, mark in marked.items()
            for start in starts
        )
        if held or heir:
            rewards = [file.rpartition("/")[0] for file in held if file.endswith(f"/{layout.TURNS}")]
            first = 0 if heir else min(map(_iteration, (*pairs, *rewards)), default=None)
            learned = () if first is None else (*sorted(rewards), *_learned(run, first))
            marked[run.path] = ForgottenTraces(sum(pairs.values()), learned, tuple(sorted(held)))
    return marked


def _held(run: RunView, forgotten: Forgotten) -> dict[str, int]:
    """By file: the number of rows of forgotten conversations. The run's own store removes them itself."""
    gone = [row for file in _files(run, "*.jsonl") for row in _rows(file) if _is_of(row, forgotten)]
    if not gone:
        return {}
    ids = {row["prompt_id"] for row in gone if "prompt_id" in row}  # completions and scores have only this id
    requests = [row["prompt"] for row in gone if "prompt" in row]
    counts = {
        **{file: sum(_is_of(row, forgotten, ids) for row in _rows(file)) for file in _files(run, "*.jsonl")},
        **{
            file: sum(prompt in requests for prompt in _sample_prompts(file)) for file in _files(run, layout.EVALUATION)
        },
        **{file: 1 for name in _MAY_QUOTE for file in _files(run, name)},
    }
    return {file.relative_to(run.path).as_posix(): count for file, count in counts.items() if count}


def _files(run: RunView, pattern: str) -> list[Path]:
    return [file for file in run.path.rglob(pattern) if file.relative_to(run.path).parts[0] != layout.STORE]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as lines:
        for line in lines:
            with suppress(orjson.JSONDecodeError):  # the last line of a file that is still being written
                if isinstance(row := orjson.loads(line), dict):
                    yield row


def _is_of(row: dict[str, Any], forgotten: Forgotten, prompt_ids: Collection[str] = ()) -> bool:
    ident = row.get("conversation_id")
    if ident is None:
        return row.get("prompt_id") in prompt_ids
    return isinstance(ident, str) and forgotten.holds(ident)


def _sample_prompts(file: Path) -> list[Any]:
    """The prompts of an evaluation's sample replies."""
    try:
        samples = orjson.loads(file.read_bytes())["samples"]
        return [[_as_in_pairs(message) for message in sample["prompt"]] for sample in samples]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return []


def _as_in_pairs(message: dict[str, Any]) -> dict[str, Any]:
    """A message of an evaluation without the fields that are unset, as pairs are written."""
    return {name: value for name, value in message.items() if value or name not in MESSAGE_EXTRAS}


def _forgotten_by(store: Store | None) -> Forgotten:
    return store.forgotten() if store else Forgotten("")


def _base_of(run: RunView) -> Path | None:
    """The folder of the policy that the run started from; None if it is not a folder."""
    settings = run.settings.get("policy")
    model = settings.get("model") if isinstance(settings, dict) else None
    return Path(model).resolve() if isinstance(model, str) and Path(model).exists() else None


def _of_source(store: Store | None, source_id: str) -> Iterator[Conversation]:
    if store is not None:
        yield from store.by_source_id(source_id)
