"""A backend is one module of policy/samplers/ and its name in records.BackendName: two files, shown with a new one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

import pytest
from pydantic import ValidationError

from drift.config import PolicySettings, SamplingSettings
from drift.policy.decode import Generated
from drift.policy.model import read_facts
from drift.policy.sampler import sample
from drift.policy.samplers import BACKENDS
from drift.policy.samplers.backend import Job, NumberedBatch, SamplingRequest
from drift.policy.samplers.requests import FreshReplies
from drift.policy.samplers.servers import plan_by_conversation
from drift.records import BackendName, ChatMessage, Completion, PromptItem, read_jsonl, write_jsonl


@contextmanager
def open_backend(job: Job) -> Iterator["ParrotBackend"]:
    yield ParrotBackend(job)


class ParrotBackend:
    """Repeats the last user message."""

    name = "parrot"
    policy_id = "parrot"

    def __init__(self, job: Job) -> None:
        self.facts = read_facts(job.policy, job.settings)

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        return plan_by_conversation(requests)

    def run(self, batches: Sequence[NumberedBatch]) -> Iterator[tuple[int, list[Generated]]]:
        for number, requests in batches:
            yield number, [Generated(request.messages[-1].content, None, "stop") for request in requests]


def test_the_config_allows_the_backends_of_the_table():
    assert set(BACKENDS) == set(get_args(BackendName))
    assert SamplingSettings.model_fields["backend"].annotation == BackendName
    *names, last = map(repr, get_args(BackendName))
    with pytest.raises(ValidationError, match=f"{', '.join(names)} or {last}"):
        SamplingSettings.model_validate({"backend": "unlisted"})


def test_a_new_backend_samples(tmp_path, tiny_policy, monkeypatch):
    monkeypatch.setitem(BACKENDS, "parrot", open_backend)
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "completions.jsonl"
    write_jsonl(prompts, [PromptItem("p", "c", 1, (ChatMessage("user", "2+2?"),), "train")])
    sampling = SamplingSettings(max_prompt_length=256, max_new_tokens=8).model_copy(update={"backend": "parrot"})
    sample(out, tiny_policy, prompts, sampling, FreshReplies(), PolicySettings(), 1, seed=7)
    (completion,) = read_jsonl(out, Completion)
    assert (completion.text, completion.sampler) == ("2+2?", "parrot")
