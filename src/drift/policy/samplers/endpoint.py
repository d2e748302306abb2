"""Any OpenAI-compatible server that the user runs. It answers with the model that it serves, trained or not."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from drift.config import EndpointSettings
from drift.endpoint import Capabilities, ChatRequest, Endpoint, Unanswered, probe
from drift.policy.chat import ChatFormat
from drift.policy.decode import Generated
from drift.policy.model import read_facts
from drift.policy.samplers.backend import Job, NumberedBatch, SamplingRequest
from drift.policy.samplers.servers import Replica, plan_by_conversation, request_seed, run_on
from drift.progress import report_note
from drift.records import ChatMessage, stable_hash


@contextmanager
def open_backend(job: Job) -> Iterator["EndpointBackend"]:
    """Raises PrerequisiteError if no server answers at the address."""
    settings = job.sampling.endpoint
    assert settings is not None  # SamplingSettings requires it for this backend
    with Endpoint(settings) as endpoint:
        capabilities = probe(endpoint)
        report_note(f"{endpoint.url}: {endpoint.model} {capabilities.line()}")
        if not capabilities.repeats:
            report_note(f"{endpoint.url}: replies differ in every run; a resumed run keeps the replies it already has")
        if job.iteration > 1:
            report_note(
                f"{endpoint.url}: iteration {job.iteration} samples from the trained policy only if you have loaded it "
                "into this server (sampling.backend=vllm does so by itself)"
            )
        yield EndpointBackend(endpoint, capabilities, job, settings)


class EndpointBackend:
    """Chat requests, rendered with the server's own template under this run's template arguments, if it takes them.

    It returns no token ids, so training encodes the text.
    """

    def __init__(self, endpoint: Endpoint, capabilities: Capabilities, job: Job, settings: EndpointSettings):
        self.endpoint = endpoint
        self.capabilities = capabilities
        self.sampling = job.sampling
        self.name = f"endpoint/{settings.model}"
        self.facts = read_facts(job.policy, job.settings)
        self.policy_id = stable_hash(settings.base_url, settings.model)
        self.extra = _template_arguments(endpoint, self.facts.chat.for_sampling)

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        return plan_by_conversation(requests)

    def run(self, batches: Sequence[NumberedBatch]) -> Iterator[tuple[int, list[Generated]]]:
        return run_on([Replica(self.endpoint, self._ask)], batches)

    def _ask(self, request: SamplingRequest) -> ChatRequest:
        return ChatRequest(
            request.messages,
            max_tokens=self.sampling.max_new_tokens,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            seed=request_seed(request.key) if self.capabilities.repeats else None,
            sample=request.sample,
            owner=request.conversation_id,
            extra=self.extra | ({"tools": json.loads(request.tools)} if request.tools else {}),
        )


def _template_arguments(endpoint: Endpoint, chat: ChatFormat) -> dict[str, Any]:
    """What the requests say about the template; nothing, with a note, to a server that refuses to hear it."""
    arguments = {**chat.template.server_date(), **chat.template.arguments}
    if chat.template.reads_clock and not chat.template.server_date():
        report_note(f"{endpoint.url}: its chat template shows the server's own date; it takes no other")
    if not arguments:
        return {}
    extra = {"chat_template_kwargs": arguments}
    trial = ChatRequest((ChatMessage("user", "Say yes."),), max_tokens=8, extra=extra)
    outcome = endpoint.try_once(trial)
    if isinstance(outcome, Unanswered):
        shown = ", ".join(f"{name}={value}" for name, value in arguments.items())
        report_note(
            f"{endpoint.url}: does not take template arguments ({outcome.problem}), so its replies are made without "
            f"{shown}; start the server with them if it can"
        )
        return {}
    return extra
