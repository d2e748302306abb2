"""A push to a real HTTP server on loopback that speaks the Hub's protocol as far as a push of small files needs it."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from drift.delivery import Delivery, deliver, hub
from drift.errors import DriftError, PrerequisiteError
from drift.progress import listening
from drift.rundir import RunDir


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
                elif line["key"] == "deletedFile":
                    del self.server.files[line["value"]["path"]]
            self.answer({"commitUrl": f"{self.server.url}/me/model/commit/1", "commitOid": "1", "hookOutput": ""})
        elif self.command == "GET" and self.server.created:
            self.answer({"id": "me/model", "siblings": [{"rfilename": path} for path in self.server.files]})
        elif self.command == "GET":
            self.answer({"error": "Repository not found"}, 404, {"x-error-code": "RepoNotFound"})
        else:
            self.answer({}, 200)

    do_GET = do_POST

    def answer(self, what: dict, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(what).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
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


def write_policy(out: Path) -> dict[str, int]:
    out.mkdir()
    (out / "config.json").write_text("{}")
    return {"iteration": 0}


def test_an_export_is_pushed_as_one_commit_or_listed(small_hub, tmp_path):
    with RunDir.open(tmp_path / "run", "name: x\n", seed=1) as run:
        run.stage("policy", write_policy)
    listed = deliver(tmp_path / "run", tmp_path / "dry", Delivery(push="me/model", dry_run=True))
    assert (listed.pushed, listed.deleted) == (None, ())  # there is no such repository
    assert {method for method, *_ in small_hub.requests} == {"GET"}
    done = deliver(tmp_path / "run", tmp_path / "out", Delivery(push="me/model"))
    assert done.pushed == f"{small_hub.url}/me/model/commit/1"
    assert small_hub.files == {
        name: (tmp_path / "out/model" / name).read_bytes() for name in ("README.md", "config.json")
    }
    assert listed.files == done.files == {name: len(content) for name, content in small_hub.files.items()}


def test_a_push_leaves_nothing_of_an_earlier_one(small_hub, tmp_path):
    """An adapter beside whole weights: transformers would put it on top of them."""
    earlier = ("Modelfile", "adapter_config.json", "adapter_model.safetensors", "model.gguf", "tokenizer.json")
    users = ("LICENSE", "images/logo.png", "model-Q4_K_M.gguf", "old/model.safetensors")  # nothing of a model's own
    small_hub.created = {"name": "model"}
    small_hub.files = dict.fromkeys((*earlier, *users, "README.md", ".gitattributes"), b"earlier")
    with RunDir.open(tmp_path / "run", "name: x\n", seed=1) as run:
        run.stage("policy", write_policy)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        listed = deliver(tmp_path / "run", tmp_path / "dry", Delivery(push="me/model", dry_run=True))
    assert listed.deleted == earlier
    assert f"--push me/model would delete what model/ does not have: {', '.join(earlier)}" in notes
    assert f"--push me/model leaves what is no part of a model: {', '.join(users)}" in notes
    assert "Modelfile" in small_hub.files
    done = deliver(tmp_path / "run", tmp_path / "out", Delivery(push="me/model"))
    assert done.deleted == listed.deleted
    assert small_hub.files.keys() == {"README.md", "config.json", ".gitattributes", *users}
    assert small_hub.files["README.md"] == (tmp_path / "out/model/README.md").read_bytes()


def test_a_dry_run_needs_no_hub(small_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with RunDir.open(tmp_path / "run", "name: x\n", seed=1) as run:
        run.stage("policy", write_policy)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        listed = deliver(tmp_path / "run", tmp_path / "out", Delivery(push="me/model", dry_run=True))
    assert listed.files is not None
    assert (set(listed.files), listed.deleted) == ({"README.md", "config.json"}, None)
    assert any("would delete there is not known: --push me/model: the Hub cannot be reached" in note for note in notes)


def test_a_dry_run_lists_the_same_files(model):
    assert hub.files_to_push(model) == {"README.md": 25, "model.safetensors": 256}


def test_what_the_hub_refuses_is_one_line_with_the_remedy(small_hub, model):
    small_hub.refuses = 401
    with pytest.raises(DriftError, match=r"--push me/model: the Hub refused it .*hf auth login\. Nothing was exported"):
        hub.open_repository("me/model")
    with pytest.raises(
        DriftError,
        match=r"The export is complete in .*out\. To push it: hf upload me/model .*model \. --delete 'a\.bin'",
    ) as error:
        hub.push("me/model", model, ("a.bin",))
    assert "\n" not in str(error.value)


def test_without_a_network_is_one_line(small_hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DriftError, match=r"--push me/model: the Hub cannot be reached .*Nothing was exported"):
        hub.open_repository("me/model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PrerequisiteError, match=r"Unset HF_HUB_OFFLINE\. Nothing was exported"):
        hub.open_repository("me/model")
