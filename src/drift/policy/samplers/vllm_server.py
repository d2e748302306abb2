"""One vLLM server: a process that lives as long as a `with` block, and never longer than this process."""

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from drift.config import LORA_RANKS, EndpointSettings, SamplingSettings
from drift.endpoint import Endpoint
from drift.errors import PrerequisiteError
from drift.policy.source import adapter_settings, base_of_adapter, is_adapter

SERVED_NAME = "policy"
IN_FLIGHT_REQUESTS = 128
"""Requests that one replica has at the same time; vLLM schedules them."""
STOP_SECONDS = 30.0
LOG_LINES_IN_ERROR = 3
_DIVIDING = {f"--{kind}-parallel-size" for kind in ("tensor", "pipeline", "data")} | {"-tp", "-pp", "-dp"}
"""Arguments of vLLM that say how many GPUs it uses."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server is started with, on whatever machine. `source`: a model folder or hub id, in the type `dtype`.

    `gpus`: the number of GPUs that hold the model together; 0: what `sampling.vllm.arguments` say.
    """

    source: str
    dtype: str
    context_length: int
    sampling: SamplingSettings
    seed: int
    gpus: int = 0


class VllmServer:
    """`gpu`: the only one that the server sees; None: all GPUs that this process sees."""

    def __init__(self, serving: Serving, gpu: int | None = None):
        self.vllm = serving.sampling.vllm
        self.port = _free_port()
        self.command = [*shlex.split(self.vllm.command), *_arguments(serving, self.port)]
        self.environment = {**os.environ, **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)})}

    def __enter__(self) -> Self:
        """Start the process. Raises PrerequisiteError if the command does not exist."""
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self.command,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        except OSError as error:
            raise PrerequisiteError(
                f"sampling.vllm.command {self.vllm.command!r}: {error.strerror}. Install vLLM: pip install "
                "'drift-training[vllm]', or set it to the python of another environment: /path/bin/python -m "
                "vllm.entrypoints.openai.api_server"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        """End it, by force if needed: training needs the GPU's memory next."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, sign)
                self._process.wait(STOP_SECONDS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
            else:
                if sign is signal.SIGTERM:
                    continue  # its workers are in the same group, and may outlive it
        self._process.wait()
        self._log.close()

    @contextmanager
    def ready(self) -> Iterator[Endpoint]:
        """Wait until it answers. Raises PrerequisiteError with its last log lines if it ends or takes too long."""
        settings = EndpointSettings(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            model=SERVED_NAME,
            max_concurrency=IN_FLIGHT_REQUESTS,
            timeout=3600.0,
        )
        deadline = time.monotonic() + self.vllm.start_seconds
        with Endpoint(settings) as endpoint:
            while not _answers(endpoint):
                self.check_alive()
                if time.monotonic() > deadline:
                    raise self._failed(f"did not answer within {self.vllm.start_seconds:g} s")
                time.sleep(0.5)
            yield endpoint

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def check_alive(self) -> None:
        """Raises PrerequisiteError with its last log lines if it has ended."""
        if not self.alive:
            raise self._failed(f"ended with status {self._process.returncode}")

    def _failed(self, what: str) -> PrerequisiteError:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        excerpt = " | ".join(
            [line for line in lines if "Error" in line][-LOG_LINES_IN_ERROR:] or lines[-LOG_LINES_IN_ERROR:]
        )
        return PrerequisiteError(f"vllm: {shlex.join(self.command)} {what}: {excerpt[-600:]}")


def _arguments(serving: Serving, port: int) -> list[str]:
    sampling = serving.sampling
    length = min(serving.context_length, sampling.max_prompt_length + sampling.max_new_tokens)
    return [
        *("--host", "127.0.0.1", "--port", str(port)),
        # else the model's generation_config.json adds top_k or a repetition penalty, which the other samplers lack
        *("--generation-config", "vllm"),
        *_weights(serving.source),
        *("--dtype", serving.dtype, "--max-model-len", str(length), "--seed", str(serving.seed)),
        "--enable-prefix-caching",
        *_division(serving.gpus, sampling.vllm.arguments),
        *sampling.vllm.arguments,
    ]


def _division(gpus: int, own: Sequence[str]) -> list[str]:
    """How the model is divided over several GPUs, unless the user's arguments say it."""
    names = {argument.partition("=")[0].replace("_", "-") for argument in own}
    if gpus < 2 or names & _DIVIDING:
        return []
    # not by Ray: the GPUs are those of this worker
    executor = [] if "--distributed-executor-backend" in names else ["--distributed-executor-backend", "mp"]
    return ["--tensor-parallel-size", str(gpus), *executor]


def _weights(source: str) -> list[str]:
    """A checkpoint is served as SERVED_NAME. For an adapter, its base is loaded and the adapter is SERVED_NAME.

    Raises PrerequisiteError for an adapter whose rank vLLM does not serve.
    """
    if not is_adapter(source):
        return ["--model", source, "--served-model-name", SERVED_NAME]
    config = adapter_settings(Path(source))
    base = ["--model", base_of_adapter(Path(source)), "--tokenizer", source]
    rank = str(_room_for(max(config["r"], *config.get("rank_pattern", {}).values(), 1), source))
    return [*base, "--enable-lora", "--max-lora-rank", rank, "--lora-modules", f"{SERVED_NAME}={source}"]


def _room_for(rank: int, source: str) -> int:
    """The least rank that vLLM can be started with and that holds `rank`."""
    if rank > LORA_RANKS[-1]:
        raise PrerequisiteError(
            f"{source}: an adapter of rank {rank}, and vLLM serves ranks up to {LORA_RANKS[-1]}: set "
            "sampling.backend=transformers, or merge the adapter into its model (drift export RUN --merge)."
        )
    return next(allowed for allowed in LORA_RANKS if allowed >= rank)


def _answers(endpoint: Endpoint) -> bool:
    try:
        return isinstance(endpoint.look("models"), bytes)
    except PrerequisiteError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end_with_parent() -> None:
    """Linux: SIGTERM when the parent dies, for whatever reason (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
