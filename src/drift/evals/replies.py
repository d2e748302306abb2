"""The replies to evaluate: sampled from a policy or from an endpoint, read from a file, or taken from the logs.

runs/demo-seed-1            the policy that the run kept
Qwen/Qwen2.5-7B-Instruct    a model, by folder or id
http://host:8000/v1#NAME    a model behind an OpenAI-compatible server
replies.jsonl               rows {"id": ..., "output": ...}
logs                        the replies of the deployed model
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field

from drift.config import PolicySettings, SamplingSettings
from drift.disk import DurableJsonl
from drift.endpoint import ANSWERS, ChatRequest, Endpoint, Reply
from drift.endpoint.cost import BYTES_PER_TOKEN
from drift.endpoint.options import UNPRICED, JudgePricing, endpoint_settings
from drift.errors import DataError
from drift.evals.files import PublicRow, read_rows
from drift.evals.served import folder_of_served, is_served, note_unanswered
from drift.policy.model import Policy, load_policy
from drift.policy.sampler import generate_replies
from drift.policy.samplers.transformers import LocalBackend
from drift.progress import part_of, report_note, report_progress
from drift.records import ChatMessage, Completion, Judgement, stable_hash
from drift.rundir import layout, load_run, run_of
from drift.scoring.ask import unscored_reasons

FILES = (".json", ".jsonl", ".parquet")
NO_REPLY = "no reply"
"""The reason why an item has no grade if there is nothing to grade."""
CHUNK = 32
"""Replies of a local policy per durable write: a killed command loses at most these."""


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """A conversation to reply to. `logged`: the reply in the logs, if they hold one. `tools`: schemas, a JSON list."""

    item_id: str
    messages: tuple[ChatMessage, ...]
    logged: str | None = None
    tools: str | None = None


@dataclass(frozen=True, slots=True)
class Replies:
    """`by_item`: an item without an entry has no reply (its prompt is too long, or the request failed).

    `cut`: replies that hit the token limit.
    """

    name: str
    by_item: Mapping[str, Completion]
    cut: int

    def text(self, item_id: str) -> str | None:
        completion = self.by_item.get(item_id)
        return None if completion is None else completion.text


@dataclass(frozen=True, slots=True)
class ReplySettings:
    """How replies are sampled. `folder`: where they are stored; `dtype`: of models that run in this process; `pricing`:
    key, prices and limits of a server."""

    sampling: SamplingSettings
    folder: Path
    dtype: str = "float32"
    seed: int = 0
    pricing: JudgePricing = UNPRICED


class _FileRow(PublicRow):
    item_id: str = Field(validation_alias=AliasChoices("id", "item_id", "prompt_id", "session_id", "instruction"))
    output: str | list[str] = Field(validation_alias=AliasChoices("output", "text", "completion", "model_output"))
    generator: str | None = Field(default=None, validation_alias=AliasChoices("generator", "model", "policy_id"))


def make_replies(
    source: str, requests: Sequence[EvalRequest], settings: ReplySettings, dry_run: bool = False
) -> Replies:
    """A reply to each request. Replies of an earlier call with the same policy (`Policy.answers_id`) and settings are
    read from the folder; those of a server as `one_evaluation` says.

    A dry run samples nothing: each reply is assumed to have the maximum length.
    Raises PrerequisiteError, DataError or ConfigError if the source cannot be used.
    """
    if source == "logs":
        return _uncut("logs", (_external(r.item_id, r.logged, "logs") for r in requests if r.logged is not None))
    if not is_served(source) and Path(source).suffix in FILES:
        return _from_file(Path(source), requests)
    if dry_run:
        longest = assumed_text(source, settings.sampling.max_new_tokens)
        return _uncut(source, (_external(request.item_id, longest, "assumed") for request in requests))
    if is_served(source):
        return _from_endpoint(source, requests, settings)
    return _from_policy(source, requests, settings)


def assumed_text(source: str, max_new_tokens: int) -> str:
    """A stand-in for a reply of `source` with the maximum length."""
    return f"{source} " * (max_new_tokens * BYTES_PER_TOKEN // (len(source) + 1) + 1)


def sampling_at(temperature: float, max_new_tokens: int) -> SamplingSettings:
    """Sampling for a benchmark: greedy at temperature 0, else from the full distribution."""
    return SamplingSettings(temperature=temperature, top_p=1.0, max_new_tokens=max_new_tokens, max_prompt_length=32768)


def ungraded_reasons(judged: Sequence[Judgement], without_reply: int) -> dict[str, int]:
    """How many items have no grade, by reason. `without_reply`: those that nobody was asked about."""
    return unscored_reasons(judged) | ({NO_REPLY: without_reply} if without_reply else {})


def policy_source(source: str) -> str:
    """The folder or id of the weights; for a run, the policy that it kept. Raises DataError for a run without one."""
    run = Path(source)
    if not layout.is_run(run):
        return source
    if not (run / layout.POLICY).is_dir():
        raise DataError(
            f"{source}: this run holds no policy yet. Finish it with `drift run`, or name the folder of a policy."
        )
    return str(run / layout.POLICY)


def policy_settings(source: str, dtype: str) -> PolicySettings:
    """How to load a policy. The chat template of a policy that is a run's, or lies in a run, is used as in the run."""
    run, used = run_of(source), {}
    if run is not None:
        view = load_run(run)
        own = view.settings.get("policy") or {}
        used = {name: own[name] for name in ("thinking", "template_arguments") if name in own}
        used["date"] = view.state.date
        if (own.get("lora") or {}).get("quantize"):
            _report_rounding(source)
    return PolicySettings.model_validate({"dtype": dtype, **used})


@lru_cache(maxsize=32)
def _report_rounding(source: str) -> None:
    """Once for each model in each process."""
    report_note(
        f"{source}: its run trained and measured it on weights in 4 bits (policy.lora.quantize). Here the weights are "
        "not rounded, as `drift export --merge` delivers them, so it is not quite the same model"
    )


def _from_policy(source: str, requests: Sequence[EvalRequest], settings: ReplySettings) -> Replies:
    policy = load_policy(policy_source(source), policy_settings(source, settings.dtype))
    return replies_of_policy(source, policy, requests, settings)


def replies_of_policy(source: str, policy: Policy, requests: Sequence[EvalRequest], settings: ReplySettings) -> Replies:
    """As `make_replies`, of a policy that `source` names and that is loaded already."""
    sampling, seed = settings.sampling, settings.seed
    path = settings.folder / f"replies-{policy.answers_id}-{stable_hash(sampling.model_dump(), seed)[:8]}.jsonl"
    with DurableJsonl(path, Completion) as file:
        completions = {row.prompt_id: row for row in file.rows()}
        missing, tokens = [request for request in requests if _key(request) not in completions], 0
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            before = len(requests) - len(missing) + start
            with part_of(len(requests), before, tokens) as tokens_so_far:
                made = list(_generated(policy, chunk, sampling, seed))
            tokens = tokens_so_far[0]
            for completion in made:
                file.append(completion)
                completions[completion.prompt_id] = completion
            report_progress(before + len(chunk), len(requests), tokens)
    return _replies(source, requests, completions)


def _generated(
    policy: Policy, requests: Sequence[EvalRequest], sampling: SamplingSettings, seed: int
) -> Iterator[Completion]:
    keys = [f"eval/{seed}/{request.item_id}" for request in requests]
    conversations, tools = [request.messages for request in requests], [request.tools for request in requests]
    replies = generate_replies(policy, conversations, keys, sampling, tools=tools)
    for request, reply in zip(requests, replies, strict=True):
        if reply is not None:
            yield Completion(
                _key(request), 0, 0, False, reply.text, reply.finish, seed, policy.policy_id, LocalBackend.name,
                reasoning=reply.reasoning, tool_calls=reply.tool_calls,
            )  # fmt: skip


def _from_endpoint(source: str, requests: Sequence[EvalRequest], settings: ReplySettings) -> Replies:
    server, sampling = endpoint_settings(source, settings.pricing), settings.sampling
    chat_requests = [
        ChatRequest(
            r.messages,
            sampling.max_new_tokens,
            sampling.temperature,
            sampling.top_p,
            seed=settings.seed,
            owner=r.item_id,
            extra={"tools": json.loads(r.tools)} if r.tools else {},
        )
        for r in requests
    ]
    completions: dict[str, Completion] = {}
    folder, may_come = folder_of_served(source, settings.folder), False
    with Endpoint(server, cache=folder / ANSWERS) as endpoint:
        for request, outcome in zip(requests, endpoint.ask_many(chat_requests), strict=True):
            if isinstance(outcome, Reply):
                finish = "length" if outcome.choices[0].finish == "length" else "stop"
                answer = outcome.choices[0].answer  # thoughts are no part of what a user sees
                completions[_key(request)] = Completion(
                    _key(request), 0, 0, False, answer, finish, settings.seed, server.model, "endpoint"
                )
            else:  # a refusal is an answer of a kind: asked again, it comes again
                may_come = may_come or outcome.problem != "refused"
            report_progress(len(completions), len(requests))
    if may_come:
        note_unanswered(folder)
    return _replies(server.model, requests, completions)


def _from_file(path: Path, requests: Sequence[EvalRequest]) -> Replies:
    """A request's row is the one with its id, else the one whose id is the text of the last message."""
    rows = {row.item_id: row for row in read_rows(path, _FileRow)}
    completions: dict[str, Completion] = {}
    for request in requests:
        row = rows.get(request.item_id) or rows.get(request.messages[-1].content)
        if row is not None:
            output = row.output if isinstance(row.output, str) else "".join(row.output[:1])
            completions[_key(request)] = _external(_key(request), output, "file")
    if not completions:
        first_id = requests[0].item_id
        raise DataError(f"{path}: answers none of the {len(requests)} prompts; the id of the first is {first_id!r}.")
    names = {row.generator for row in rows.values()} - {None}
    return _replies(str(names.pop()) if len(names) == 1 else path.stem, requests, completions)


def _external(key: str, text: str, source: str) -> Completion:
    """A reply that was not sampled here."""
    return Completion(key, 0, 0, False, text, "stop", 0, source, source)


def _replies(name: str, requests: Sequence[EvalRequest], completions: Mapping[str, Completion]) -> Replies:
    by_item = {request.item_id: completions[_key(request)] for request in requests if _key(request) in completions}
    return Replies(name, by_item, sum(completion.finish == "length" for completion in by_item.values()))


def _uncut(name: str, completions: Iterator[Completion]) -> Replies:
    return Replies(name, {completion.prompt_id: completion for completion in completions}, 0)


def _key(request: EvalRequest) -> str:
    """Names the item with its text, because an id may be reused for another prompt."""
    return stable_hash(request.item_id, request.messages)
