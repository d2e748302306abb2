"""Where replies come from: a policy, a model behind an endpoint, a file, or the logs themselves.

runs/demo-seed-1            the policy that a run kept
Qwen/Qwen2.5-7B-Instruct    a model, by folder or id
http://host:8000/v1#NAME    a model behind an OpenAI-compatible server
replies.jsonl               rows {"id": ..., "output": ...}
logs                        what the deployed model answered
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, Field

from drift.config import EndpointSettings, PolicySettings, SamplingSettings
from drift.disk import DurableJsonl
from drift.endpoint import ANSWERS, ChatRequest, Endpoint, Reply
from drift.endpoint.cost import BYTES_PER_TOKEN
from drift.endpoint.options import endpoint_settings
from drift.errors import DataError
from drift.evals.files import PublicRow, read_rows
from drift.policy.model import Policy, load_policy
from drift.policy.sampler import generate_replies
from drift.policy.samplers.transformers import LocalBackend
from drift.progress import report_progress
from drift.records import ChatMessage, Completion, stable_hash

FILES = (".json", ".jsonl", ".parquet")
CHUNK = 32
"""Replies of a local policy that a killed command may lose."""


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """A conversation that wants a reply, and the one that the logs hold."""

    item_id: str
    messages: tuple[ChatMessage, ...]
    logged: str | None = None


@dataclass(frozen=True, slots=True)
class Replies:
    """By item; an item that is not in `made` has no reply (too long a prompt, a failed request)."""

    name: str
    made: Mapping[str, Completion]
    cut: int

    def text(self, item_id: str) -> str | None:
        found = self.made.get(item_id)
        return None if found is None else found.text


@dataclass(frozen=True, slots=True)
class HowMade:
    """How replies are made here, and where they are kept. `dtype`: of models that run here."""

    sampling: SamplingSettings
    folder: Path
    dtype: str = "float32"
    seed: int = 0


class _FileRow(PublicRow):
    item_id: str = Field(validation_alias=AliasChoices("id", "item_id", "prompt_id", "session_id", "instruction"))
    output: str | list[str] = Field(validation_alias=AliasChoices("output", "text", "completion", "model_output"))
    generator: str | None = Field(default=None, validation_alias=AliasChoices("generator", "model", "policy_id"))


def make_replies(source: str, requests: Sequence[EvalRequest], how: HowMade, dry_run: bool = False) -> Replies:
    """A reply to each request. What an earlier call made with the same weights and settings is taken from its folder.

    A dry run makes none: those that are not there are assumed to be as long as they may be.
    Raises PrerequisiteError, DataError or ConfigError if the source cannot be used.
    """
    if source == "logs":
        return _collected("logs", (_logged(request) for request in requests if request.logged is not None))
    is_served = source.startswith(("http://", "https://"))
    if not is_served and Path(source).suffix in FILES:
        return _from_file(Path(source), requests)
    if dry_run:
        longest = assumed_text(source, how.sampling.max_new_tokens)
        return _collected(source, (_given(request.item_id, longest, "assumed") for request in requests))
    return (
        _from_endpoint(endpoint_settings(source), requests, how) if is_served else _from_policy(source, requests, how)
    )


def assumed_text(source: str, max_new_tokens: int) -> str:
    """A reply of `source` as long as it may be."""
    return f"{source} " * (max_new_tokens * BYTES_PER_TOKEN // (len(source) + 1) + 1)


def sampling_at(temperature: float, max_new_tokens: int) -> SamplingSettings:
    """How replies are sampled for a judge; 0 is greedy, and the whole distribution otherwise."""
    return SamplingSettings(temperature=temperature, top_p=1.0, max_new_tokens=max_new_tokens, max_prompt_length=32768)


def policy_source(source: str) -> str:
    """The folder or id of the weights; of a run, the policy that it kept. Raises DataError for a run without one."""
    run = Path(source)
    if not (run / "run.json").is_file():
        return source
    if not (run / "policy").is_dir():
        raise DataError(f"{source}: this run has kept no policy yet. Finish it with `drift run`, or name a policy.")
    return str(run / "policy")


def _from_policy(source: str, requests: Sequence[EvalRequest], how: HowMade) -> Replies:
    policy = load_policy(policy_source(source), PolicySettings(dtype=how.dtype))  # pyright: ignore[reportArgumentType]
    kept_path = _kept_path(how.folder, policy.policy_id, how.sampling, how.seed)
    with DurableJsonl(kept_path, Completion) as kept:
        known = {row.prompt_id: row for row in kept.rows()}
        missing = [request for request in requests if _key(request) not in known]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            for row in _generated(policy, chunk, how.sampling, how.seed):
                kept.append(row)
                known[row.prompt_id] = row
            report_progress(len(known), len(requests))
    return _found(source, requests, known)


def _generated(
    policy: Policy, requests: Sequence[EvalRequest], sampling: SamplingSettings, seed: int
) -> Iterator[Completion]:
    keys = [f"eval/{seed}/{request.item_id}" for request in requests]
    replies = generate_replies(policy, [request.messages for request in requests], keys, sampling)
    for request, reply in zip(requests, replies, strict=True):
        if reply is not None:
            yield Completion(
                _key(request), 0, 0, False, reply.text, reply.finish, seed, policy.policy_id, LocalBackend.name
            )


def _from_endpoint(settings: EndpointSettings, requests: Sequence[EvalRequest], how: HowMade) -> Replies:
    sampling = how.sampling
    how.folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        ChatRequest(
            r.messages, sampling.max_new_tokens, sampling.temperature, sampling.top_p, seed=how.seed, owner=r.item_id
        )
        for r in requests
    ]
    known: dict[str, Completion] = {}
    with Endpoint(settings, cache=how.folder / ANSWERS) as endpoint:
        for request, outcome in zip(requests, endpoint.ask_many(wanted), strict=True):
            if isinstance(outcome, Reply):
                finish = "length" if outcome.choices[0].finish == "length" else "stop"
                known[_key(request)] = Completion(
                    _key(request), 0, 0, False, outcome.text, finish, how.seed, settings.model, "endpoint"
                )
            report_progress(len(known), len(requests))
    return _found(settings.model, requests, known)


def _from_file(path: Path, requests: Sequence[EvalRequest]) -> Replies:
    """Rows are found by the item's id, else by the text of what was asked last."""
    rows = {row.item_id: row for row in read_rows(path, _FileRow)}
    found = {r.item_id: rows.get(r.item_id) or rows.get(r.messages[-1].content) for r in requests}
    known = {_key(r): _given(_key(r), _first(row.output), "file") for r in requests if (row := found[r.item_id])}
    if not known:
        wanted = requests[0].item_id
        raise DataError(f"{path}: answers none of the {len(requests)} prompts; the first wanted id is {wanted!r}.")
    names = {row.generator for row in rows.values()} - {None}
    return _found(str(names.pop()) if len(names) == 1 else path.stem, requests, known)


def _first(output: str | list[str]) -> str:
    return output if isinstance(output, str) else (output[0] if output else "")


def _logged(request: EvalRequest) -> Completion:
    return _given(request.item_id, request.logged or "", "logs")


def _given(key: str, text: str, whence: str) -> Completion:
    """A reply that was made elsewhere."""
    return Completion(key, 0, 0, False, text, "stop", 0, whence, whence)


def _found(name: str, requests: Sequence[EvalRequest], known: Mapping[str, Completion]) -> Replies:
    made = {request.item_id: known[_key(request)] for request in requests if _key(request) in known}
    return Replies(name, made, sum(row.finish == "length" for row in made.values()))


def _collected(name: str, rows: Iterator[Completion]) -> Replies:
    made = {row.prompt_id: row for row in rows}
    return Replies(name, made, 0)


def _key(request: EvalRequest) -> str:
    """An id may be reused for another prompt: what is kept is kept for this text."""
    return stable_hash(request.item_id, request.messages)


def _kept_path(folder: Path, policy_id: str, sampling: SamplingSettings, seed: int) -> Path:
    return folder / f"replies-{policy_id}-{stable_hash(sampling.model_dump(), seed)[:8]}.jsonl"
