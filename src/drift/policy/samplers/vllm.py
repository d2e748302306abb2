"""vLLM in a process, and if needed an environment, of its own: one server per replica, ended before training starts.

The servers are vLLM's own. They load the policy's folder (or its base and the adapter), get prompts as the token ids
that training sees, and return the ids that they sampled.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from drift.endpoint import CompletionRequest
from drift.policy.decode import Generated
from drift.policy.model import read_facts, resolve_source
from drift.policy.samplers.backend import Batch, Job, SamplingRequest
from drift.policy.samplers.servers import Replica, plan_by_conversation, request_seed, run_on
from drift.policy.samplers.vllm_server import VllmServer
from drift.progress import report_note


@contextmanager
def open_backend(job: Job) -> Iterator["VllmBackend"]:
    yield VllmBackend(job)


class VllmBackend:
    """Starts servers for `run` and ends them with it: one on each of `vllm.gpus`, or a single one."""

    name = "vllm"

    def __init__(self, job: Job):
        self.job = job
        self.source = resolve_source(job.policy)  # pyright: ignore[reportArgumentType]
        self.facts = read_facts(job.policy, job.settings)
        self.policy_id = self.facts.policy_id

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        return plan_by_conversation(requests)

    def run(self, batches: Sequence[Batch]) -> Iterator[tuple[int, list[Generated]]]:
        if not batches:
            return
        with ExitStack() as stack:
            gpus: list[int | None] = [*self.job.sampling.vllm.gpus] or [None]
            servers = [
                stack.enter_context(VllmServer(self.job, self.source, self.facts.context_length, gpu)) for gpu in gpus
            ]  # all are started before the first is waited for
            replicas = [Replica(stack.enter_context(server.ready()), self._ask) for server in servers]
            report_note(f"vllm: {len(replicas)} replica{'s' if len(replicas) > 1 else ''} ready")
            yield from run_on(replicas, batches)

    def _ask(self, request: SamplingRequest) -> CompletionRequest:
        sampling = self.job.sampling
        return CompletionRequest(
            request.ids,
            stop=tuple(sorted(self.facts.stop_ids)),
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=request_seed(request.key) if sampling.vllm.experimental.seeds else None,
            sample=request.sample,
            owner=request.conversation_id,
        )
