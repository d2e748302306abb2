"""vLLM in a process, and if needed an environment, of its own: one server per replica, ended before training starts.

The servers are vLLM's own. They load the policy's folder (or its base and the adapter), get prompts as the token ids
that training sees, and return the ids that they sampled. They are started by this process, or, with an engine that has
the GPUs of several replicas (`cluster.address`), by its workers (vllm_workers.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from drift.endpoint import CompletionRequest
from drift.engine import Engine
from drift.policy.decode import Generated
from drift.policy.model import read_facts, resolve_source
from drift.policy.samplers.backend import Job, NumberedBatch, SamplingRequest
from drift.policy.samplers.servers import Replica, plan_by_conversation, request_seed, run_on
from drift.policy.samplers.vllm_server import Serving, VllmServer
from drift.policy.samplers.vllm_workers import answer_piece, pieces_of
from drift.policy.spread import engine_for_servers
from drift.progress import report_note


@contextmanager
def open_backend(job: Job) -> Iterator["VllmBackend"]:
    yield VllmBackend(job)


class VllmBackend:
    """Starts servers for `run` and ends them with it: one in each of the engine's workers. Where there are none, one
    on each of `vllm.gpus`, or a single one."""

    name = "vllm"

    def __init__(self, job: Job):
        self.job = job
        self.source = resolve_source(job.policy)  # pyright: ignore[reportArgumentType]
        self.facts = read_facts(job.policy, job.settings)
        self.policy_id = self.facts.policy_id

    def plan(self, requests: Sequence[SamplingRequest]) -> list[list[int]]:
        return plan_by_conversation(requests)

    def run(self, batches: Sequence[NumberedBatch]) -> Iterator[tuple[int, list[Generated]]]:
        if not batches:
            return
        with engine_for_servers(self.job.sampling.vllm.gpus) as engine:
            yield from self._run_here(batches) if engine.workers == 1 else self._run_in_workers(engine, batches)

    def _run_in_workers(
        self, engine: Engine, batches: Sequence[NumberedBatch]
    ) -> Iterator[tuple[int, list[Generated]]]:
        pieces = pieces_of(batches, engine.workers, self._ask)
        report_note(f"vllm: each replica has {engine.gpus} GPU{'s' if engine.gpus > 1 else ''} of the cluster")
        for place, replies in engine.each(partial(answer_piece, self._serving(engine.gpus)), pieces):
            yield from zip(pieces[place].numbers, replies, strict=True)

    def _serving(self, gpus: int) -> Serving:
        job = self.job
        return Serving(self.source, job.settings.dtype, self.facts.context_length, job.sampling, job.seed, gpus)

    def _run_here(self, batches: Sequence[NumberedBatch]) -> Iterator[tuple[int, list[Generated]]]:
        with ExitStack() as stack:
            gpus: list[int | None] = [*self.job.sampling.vllm.gpus] or [None]
            servers = [
                stack.enter_context(VllmServer(self._serving(0), gpu)) for gpu in gpus
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
