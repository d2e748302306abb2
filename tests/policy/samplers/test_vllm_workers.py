"""vLLM's servers in the workers of an engine: the replies of the servers of one process, whoever dies. No GPU is
needed: the stand-in server writes down which ones it sees."""

import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from drift.config import ClusterSettings, PolicySettings, SamplingSettings, VllmSettings
from drift.endpoint import CompletionRequest
from drift.engine import Engine, Processes, let_go, open_engine, using_engine
from drift.errors import PrerequisiteError
from drift.policy.chat import EncodedPrompt
from drift.policy.sampler import sample
from drift.policy.samplers.backend import SamplingRequest
from drift.policy.samplers.requests import FreshReplies
from drift.policy.samplers.vllm_server import Serving, _arguments
from drift.policy.samplers.vllm_workers import pieces_of
from drift.policy.spread import check_replicas
from drift.progress import listening
from drift.records import ChatMessage, Completion, PromptItem, read_jsonl, write_jsonl
from engine.cluster import one_node
from engine.pieces import TwoModels
from policy.samplers.test_vllm import gone, notes

STAND_IN = Path(__file__).with_name("stand_in.py")
PROMPTS = [
    PromptItem(f"p{n}", f"c{n // 2}", 1, (ChatMessage("user", f"question {n}"),), "train", ChatMessage("assistant", ""))
    for n in range(80)
]
Stage = Callable[..., list[Completion]]


class TwoReplicas(TwoModels):
    """In this process, each with two GPUs."""

    gpus = 2


@pytest.fixture
def stage(tmp_path: Path, tiny_policy: Path) -> Stage:
    """`stage(name, **settings of vllm)`: the stage's rows. The notes of its servers are in the folder `notes`."""
    (tmp_path / "notes").mkdir()
    write_jsonl(tmp_path / "prompts.jsonl", PROMPTS)
    words = ("env", f"STAND_IN_NOTES={tmp_path / 'notes'}", sys.executable, str(STAND_IN))  # also on a Ray node

    def run(name: str, **settings: object) -> list[Completion]:
        vllm = VllmSettings(command=shlex.join(words), **settings)  # pyright: ignore[reportArgumentType]
        sampling = SamplingSettings(backend="vllm", vllm=vllm, max_new_tokens=16, max_prompt_length=256)
        out = tmp_path / f"{name}.jsonl"
        fresh = FreshReplies(samples=4, guided_share=1.0)
        sample(out, tiny_policy, tmp_path / "prompts.jsonl", sampling, fresh, PolicySettings(), 1, 7)
        return list(read_jsonl(out, Completion))

    return run


def servers(tmp_path: Path) -> list[dict]:
    """The notes of the servers since the last call."""
    found = notes(tmp_path)
    for file in (tmp_path / "notes").iterdir():
        file.unlink()
    (tmp_path / "died").unlink(missing_ok=True)
    return found


def replicas(count: int, size: int) -> Processes:
    """As on a machine with GPUs 0, 1, ..."""
    names = [",".join(str(gpu) for gpu in range(n * size, (n + 1) * size)) for n in range(count)]
    return Processes(replicas=names, gpus_per_replica=size)


def test_the_replies_of_one_process_from_a_server_that_stays(stage: Stage, tmp_path: Path):
    expected = stage("here")
    servers(tmp_path)
    engine = TwoReplicas()
    try:
        with using_engine(engine):
            assert stage("workers") == expected
        assert len(engine.done) == 3  # of 128, 128 and 64 replies
        (server,) = servers(tmp_path)  # for both workers, which are this process
        assert server["asked"] == len(expected) == 320
        assert "--tensor-parallel-size 2 --distributed-executor-backend mp" in " ".join(server["arguments"])
        assert Path(f"/proc/{server['pid']}").exists()
    finally:
        let_go()
    assert gone(server["pid"])


def test_a_server_that_does_not_start_is_named_with_its_machine(stage: Stage):
    with (
        using_engine(TwoReplicas()),
        pytest.raises(PrerequisiteError, match=rf"^{socket.gethostname()}: vllm: .* ended with status 1: ValueError: "),
    ):
        stage("broken", arguments=("broken",))


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ((), "--tensor-parallel-size 4 --distributed-executor-backend mp"),
        (("--max-num-seqs", "8"), "--tensor-parallel-size 4 --distributed-executor-backend mp --max-num-seqs 8"),
        (("--tensor-parallel-size=2",), "--tensor-parallel-size=2"),
        (("-tp", "2", "-pp", "2"), "-tp 2 -pp 2"),
        (("--pipeline_parallel_size", "4"), "--pipeline_parallel_size 4"),
        (("--distributed-executor-backend", "ray"), "--tensor-parallel-size 4 --distributed-executor-backend ray"),
    ],
)
def test_how_the_model_is_divided(own: tuple[str, ...], added: str):
    sampling = SamplingSettings(vllm=VllmSettings(arguments=own))
    line = " ".join(_arguments(Serving("org/model", "bfloat16", 4096, sampling, 7, gpus=4), 8000))
    assert line.endswith(f"--enable-prefix-caching {added}")
    alone = " ".join(_arguments(Serving("org/model", "bfloat16", 4096, SamplingSettings(), 7, gpus=1), 8000))
    assert alone.endswith("--enable-prefix-caching")


@pytest.mark.parametrize(
    ("conversations", "workers", "sizes"),
    [
        ([16] * 10, 8, [128, 32]),  # at least what fills a server once
        ([16] * 80, 2, [160] * 8),  # four for each worker
        ([16] * 1000, 2, [1024] * 15 + [640]),  # at most so much is asked again when a worker dies
        ([8, 136, 16, 100], 1, [144, 116]),  # a conversation stays together
        ([], 2, []),
    ],
)
def test_pieces_fill_a_server_and_keep_conversations_together(
    conversations: Sequence[int], workers: int, sizes: list[int]
):
    prompt = EncodedPrompt((), 0, None, ())  # pyright: ignore[reportArgumentType]
    rows = [
        SamplingRequest(f"p{n}", f"c{n}", k, False, (), (n, k), f"{n}/{k}", prompt)
        for n, size in enumerate(conversations)
        for k in range(size)
    ]
    batches = [(start // 8, rows[start : start + 8]) for start in range(0, len(rows), 8)]
    pieces = pieces_of(batches, workers, lambda request: CompletionRequest(request.ids, ()))
    assert [sum(map(len, piece.batches)) for piece in pieces] == sizes
    assert [request.prompt for piece in pieces for batch in piece.batches for request in batch] == [r.ids for r in rows]
    assert [number for piece in pieces for number in piece.numbers] == list(range(len(batches)))


def test_few_gpus_are_an_error_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    vllm = SamplingSettings(backend="vllm", vllm=VllmSettings(gpus=(5,)))
    with open_engine(ClusterSettings(address="local", gpus_per_replica=2), tmp_path):
        check_replicas(SamplingSettings())
        with pytest.raises(PrerequisiteError, match=r"gpus_per_replica is 2, but sampling.vllm.gpus names 1\. Set it"):
            check_replicas(vllm)
    with (
        open_engine(ClusterSettings(address="local", gpus_per_replica=4), tmp_path),
        pytest.raises(PrerequisiteError, match=r"cluster.gpus_per_replica is 4, but this machine has 3\. Set it"),
    ):
        check_replicas(SamplingSettings())
    with open_engine(ClusterSettings(address="local"), tmp_path):
        check_replicas(vllm)


def on_processes(count: int, size: int) -> AbstractContextManager[Engine]:
    return closing(_Machine(count, size))


class _Machine(Processes):
    """This one, with GPUs."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__(2, gpus_per_replica=size)
        self.count = count * size

    def for_models(self, threads: int | None, gpus: int, only: Sequence[int] = ()) -> AbstractContextManager[Engine]:
        return super().for_models(threads, self.count, only)


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["nobody", "worker", "server"])
def test_worker_processes(stage: Stage, tmp_path: Path, dies: str):
    expected = stage("here")
    servers(tmp_path)
    told = () if dies == "nobody" else (f"{dies}-dies", "once")
    with on_processes(2, 2) as engine, using_engine(engine):
        assert stage("workers", arguments=told) == expected
        found = servers(tmp_path)
        assert all(gone(server["pid"]) for server in found)  # before the stage has ended
    assert {server["gpu"] for server in found} == {"0,1", "2,3"}
    assert len(found) == (2 if dies == "nobody" else 3)


@pytest.mark.slow
def test_the_users_choice_of_this_machines_gpus(stage: Stage, tmp_path: Path):
    expected = stage("here")
    servers(tmp_path)
    with on_processes(4, 1) as engine, using_engine(engine):
        assert stage("chosen", gpus=(5, 3)) == expected
    found = servers(tmp_path)
    assert {server["gpu"] for server in found} == {"5", "3"}
    assert not any("--tensor-parallel-size" in server["arguments"] for server in found)


@pytest.mark.slow
def test_a_server_that_always_dies(stage: Stage):
    with (
        on_processes(2, 1) as engine,
        using_engine(engine),
        pytest.raises(PrerequisiteError, match="ended with status 1: Error: out of memory"),
    ):
        stage("workers", arguments=("server-dies",))


@pytest.mark.slow
def test_actors_of_a_ray_cluster(stage: Stage, tmp_path: Path):
    """One test, because a cluster takes seconds to start."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'drift-training[ray]'")
    expected = stage("here")
    servers(tmp_path)
    told = list[str]()
    with one_node("--num-gpus=4") as address, listening(lambda *_: None, told.append):
        with open_engine(ClusterSettings(address=address, gpus_per_replica=2), tmp_path):
            check_replicas(SamplingSettings(backend="vllm"))
            for dies in ("nobody", "worker"):
                arguments = () if dies == "nobody" else (f"{dies}-dies", "once")
                assert stage(dies, arguments=arguments, gpus=(7,)) == expected
                found = servers(tmp_path)
                assert all(gone(server["pid"]) for server in found)
                assert {server["gpu"] for server in found} == {"0,1", "2,3"}
                assert len(found) == (2 if dies == "nobody" else 3)
                assert "--tensor-parallel-size 2" in " ".join(found[0]["arguments"])
            with pytest.raises(PrerequisiteError, match=rf"^{socket.gethostname()}: vllm: .*the model cannot be serv"):
                stage("broken", arguments=("broken",))
        with (
            open_engine(ClusterSettings(address=address, gpus_per_replica=5), tmp_path),
            pytest.raises(
                PrerequisiteError, match=r"is 5, but no node of the cluster has so many GPUs: 1 node: .*4 GP"
            ),
        ):
            check_replicas(SamplingSettings())
    assert sum("sampling.vllm.gpus [7] is not used on the cluster" in note for note in told) == 1
