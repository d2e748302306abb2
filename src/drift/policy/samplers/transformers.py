"""The model in this process, with our own decoding loop: completions that depend on their random stream alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from drift.config import SamplingSettings
from drift.policy.decode import Generated, decode_batch, plan_batches
from drift.policy.model import Policy, load_policy
from drift.policy.samplers.backend import Batch, Job, SamplingRequest


@contextmanager
def open_backend(job: Job) -> Iterator["LocalBackend"]:
    policy = job.policy if isinstance(job.policy, Policy) else load_policy(job.policy, job.settings)
    yield LocalBackend(policy, job.sampling)


class LocalBackend:
    """Answers batches of similar lengths, each within `sampling.batch_tokens`, one after the other."""

    name = "transformers"

    def __init__(self, policy: Policy, sampling: SamplingSettings):
        self.policy = policy
        self.facts = policy.facts
        self.policy_id = policy.policy_id
        self.sampling = sampling

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        lengths = [len(request.ids) for request in requests]
        return plan_batches(lengths, [request.conversation_id for request in requests], self.sampling)

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[Generated]]]:
        for number, requests in batches:
            prompts = [request.ids for request in requests]
            yield number, decode_batch(self.policy, prompts, [request.key for request in requests], self.sampling)
