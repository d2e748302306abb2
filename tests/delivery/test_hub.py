"""A push to a real HTTP server on loopback that speaks the Hub's protocol as far as a push of small files needs it."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from drift.delivery import hub
from drift.errors import DriftError, PrerequisiteError


class SmallHub(ThreadingHTTPServer):
    """Keeps one commit. `refuses`: the status of every answer."""

    refuses: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, str | None]] = []
        self.created: dict = {}
        self.files: dict[str, bytes] = {}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: SmallHub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.command, self.path, self.headers.get("authorization")))
        if self.server.refuses:
            self.answer({"error": "Invalid token"}, self.server.refuses)
        elif self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self.answer({"url": f"{self.server.url}/me/model"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{self.server.url}/me/model/commit/1", "commitOid": "1", "hookOutput": ""})
        else:
            self.answer({}, 200)

    do_GET = do_POST

    def answer(self, what: dict, status: int = 200) -> None:
        content = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def small_hub(monkeypatch):
    server = SmallHub()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "out" / "model"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# x\n")
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder.parent / "pairs.jsonl").write_text('{"prompt": "private"}\n')
    (folder.parent / "report.html").write_text("private")
    return folder


def test_the_model_folder_is_pushed_and_nothing_else(small_hub, model):
    assert hub.open_repository("me/model") == f"{small_hub.url}/me/model"
    assert [small_hub.created[name] for name in ("name", "organization", "visibility")] == ["model", "me", "private"]
    assert hub.push("me/model", model) == f"{small_hub.url}/me/model/commit/1"
    assert small_hub.files == {name: (model / name).read_bytes() for name in ("README.md", "model.safetensors")}
    written = [(path, token) for method, path, token in small_hub.requests if method == "POST" and "/api/" in path]
    assert {token for _, token in written} == {"Bearer hf_test"}, written


def test_a_dry_run_lists_the_same_files(model):
    assert hub.files_to_push(model) == {"README.md": 25, "model.safetensors": 256}


def test_what_the_hub_refuses_is_one_line_with_the_remedy(small_hub, model):
    small_hub.refuses = 401
    with pytest.raises(DriftError, match=r"--push me/model: the Hub refused it .*hf auth login\. Nothing was exported"):
        hub.open_repository("me/model")
    with pytest.raises(
        DriftError, match=r"The export is complete in .*out\. To push it again: hf upload me/model .*model \."
    ) as error:
        hub.push("me/model", model)
    assert "\n" not in str(error.value)


def test_without_a_network_is_one_line(small_hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DriftError, match=r"--push me/model: the Hub cannot be reached .*Nothing was exported"):
        hub.open_repository("me/model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PrerequisiteError, match=r"Unset HF_HUB_OFFLINE\. Nothing was exported"):
        hub.open_repository("me/model")
