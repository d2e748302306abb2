"""Logs behind URLs: from a real S3 server on loopback (moto's), and from fsspec's file system in memory.

moto needs other versions of shared packages than drift's tests: install it in an environment of its own
(`python -m venv moto && moto/bin/pip install 'moto[server]'`) and name it: DRIFT_MOTO_SERVER=moto/bin/moto_server.
Uploads in several parts fail against moto 5.2.1 (its issue 10055), not against 5.2.5.
"""

import gzip
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSystem, S3FileSystem

from command import drift
from drift.config import Config
from drift.engine import Local, using_engine
from drift.errors import DataError, PrerequisiteError
from drift.logs.files import remote
from drift.logs.files.remote import is_remote, list_files, local_twin
from drift.logs.files.sources import find_logs
from drift.logs.ingest import ingest
from drift.logs.ingestion import pieces
from drift.run import store_for
from drift.store import Store

SERVER = os.environ.get("DRIFT_MOTO_SERVER") or shutil.which("moto_server")


def chat(name: str, *further: str) -> dict:
    texts = ("Sort these words: pear fig", "pear fig", "No, that is wrong.", *further)
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return {"id": name, "messages": messages}


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(*rows: dict) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.jsonl", content)
    return out.getvalue()


LOGS = {
    "a.jsonl": lines(chat("a1"), chat("a2")) + b'{"id": "broken\n' + lines(chat("a3")),
    "deep/b.jsonl.gz": gzip.compress(lines(chat("b1"), chat("b2"))),
    "deep/c.parquet": parquet(chat("c1"), chat("c2")),
    "deep/d.zip": archive(inside=lines(chat("d1"))),
    "notes.txt": b"no log",
}


@pytest.fixture
def memory() -> Iterator[str]:
    files = fsspec.filesystem("memory")
    for name, content in LOGS.items():
        files.pipe(f"/chats/{name}", content)
    yield "memory://chats"
    files.rm("/chats", recursive=True)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "chats"
    for name, content in LOGS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def stored(folder: Path, log: str | Path) -> tuple[str, list[str], set[str]]:
    """The content of a store of these logs, the places of its notes, and the names of skipped files."""
    store = Store(folder)
    summary = ingest([log], store)
    places = [f"{note.file}:{note.line}" for note in store.quarantined()]
    return store.content_hash(), places, set(summary.skipped)


def test_a_folder_behind_a_url_gives_the_store_of_the_same_folder_here(memory: str, local: Path, tmp_path: Path):
    content, places, skipped = stored(tmp_path / "far", memory)
    assert (places, skipped) == ([f"{memory}/a.jsonl:3"], {f"{memory}/notes.txt"})
    assert content == stored(tmp_path / "near", local)[0]


class InPieces(Local):
    workers = 2


def test_in_pieces_a_large_file_is_cut_and_the_store_is_the_same(memory: str, tmp_path: Path, monkeypatch):
    large = lines(*(chat(f"many-{number}") for number in range(400)))
    fsspec.filesystem("memory").pipe("/chats/large.jsonl", large)
    monkeypatch.setattr(pieces, "PIECE_BYTES", len(large) // 5)
    expected = stored(tmp_path / "one", memory)
    read: list[object] = []
    monkeypatch.setattr(
        pieces, "read_piece", lambda job, piece, do=pieces.read_piece: read.append(piece) or do(job, piece)
    )
    with using_engine(InPieces()):
        assert stored(tmp_path / "pieces", memory)[:2] == expected[:2]
    assert len(read) > 5


def test_a_pattern_names_what_it_matches(memory: str):
    found = [source.name for source in find_logs([f"{memory}/**/*.parquet", f"{memory}/[ab].jsonl"]).sources]
    assert found == [f"{memory}/deep/c.parquet", f"{memory}/a.jsonl"]
    with pytest.raises(DataError, match=r"memory://chats/\*\.csv: no file matches this pattern"):
        list_files(f"{memory}/*.csv")


def test_another_content_is_another_store_of_the_run(memory: str, tmp_path: Path):
    cfg = Config(logs=(memory,))
    before = store_for(cfg, tmp_path).path
    assert store_for(cfg, tmp_path).path == before
    fsspec.filesystem("memory").pipe("/chats/a.jsonl", LOGS["a.jsonl"].replace(b"pear", b"plum"))
    assert store_for(cfg, tmp_path).path != before


def test_what_is_written_to_a_url_is_there_once_the_block_ends_well(memory: str):
    files = fsspec.filesystem("memory")
    with local_twin(f"{memory}/out/prompts.jsonl", "--out") as twin:
        twin.write_text("rows")
        twin.with_suffix(".repairs.jsonl").write_text("repairs")
        assert not files.exists("/chats/out/prompts.jsonl")
    assert files.cat("/chats/out/prompts.jsonl") == b"rows"
    assert files.cat("/chats/out/prompts.repairs.jsonl") == b"repairs"
    with pytest.raises(ZeroDivisionError), local_twin(f"{memory}/out/other.jsonl", "--out") as twin:
        twin.write_text(str(1 / 0))
    assert sorted(files.ls("/chats/out", detail=False)) == [
        "/chats/out/prompts.jsonl",
        "/chats/out/prompts.repairs.jsonl",
    ]


@pytest.mark.parametrize("url", ["hf://datasets/someone/chats", "gcs", "sqlite:///x.db?table=t", "https://x.org/a"])
def test_a_missing_library_is_named_with_its_install_line(url: str, monkeypatch):
    monkeypatch.setattr(remote, "find_spec", lambda name: None)
    remote._others.cache_clear()
    remote._file_system.cache_clear()
    try:
        if not url.startswith("hf"):
            assert not is_remote(url)
            return
        with pytest.raises(PrerequisiteError, match=r"hf://: the library .* Install it: pip install .*remote"):
            list_files(url)
    finally:
        remote._others.cache_clear()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's S3 server, until the tests of this file are done."""
    if SERVER is None:
        pytest.skip("no moto_server on the PATH or in DRIFT_MOTO_SERVER")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [SERVER, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            try:
                urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=60).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture
def access(monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    remote._file_system.cache_clear()


@pytest.fixture
def bucket(server: str, access: None, monkeypatch) -> FileSystem:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    address = server.removeprefix("http://")
    files = S3FileSystem(
        endpoint_override=address,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        request_timeout=60,  # moto is slow on a busy machine
        allow_delayed_open=True,
    )
    files.create_dir("chats")
    for name, content in LOGS.items():
        put(files, f"chats/logs/{name}", content)
    return files


def put(files: FileSystem, path: str, content: bytes) -> None:
    with files.open_output_stream(path, compression=None) as out:  # a .gz is packed already
        out.write(content)


@pytest.mark.slow  # moto takes seconds to start
def test_from_s3_to_prompts_and_back_to_s3(bucket: FileSystem, local: Path, tmp_path: Path):
    store = tmp_path / "store"
    done = drift("ingest", "s3://chats/logs/", "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["skipped"] == {"s3://chats/logs/notes.txt": "another kind of file"}
    assert (counts["accepted"], counts["quarantined"]) == (8, {"broken_json": 1})
    assert counts["details"]["broken_json"].startswith("s3://chats/logs/a.jsonl:3: ")
    ingest([local], near := Store(tmp_path / "near"))
    assert Store(store).content_hash() == near.content_hash()
    again = drift("pairs", "s3://chats/logs/a.jsonl", "--store", store, "--out", "s3://chats/out/p.jsonl", "--json")
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout.splitlines()[-1])["pairs"]
    assert (result["prompts"], result["repairs"]) == ("s3://chats/out/p.jsonl", "s3://chats/out/p.repairs.jsonl")
    prompts = bucket.open_input_stream("chats/out/p.jsonl").read()
    assert len(prompts.splitlines()) == result["prompt_counts"]["rows"] == 1  # they all say the same


def asked(method: str, url: str, data: bytes | None = None) -> tuple[str, str]:
    """The ETag and the text of an answer of the server, which asks nobody for a signature."""
    request = Request(url, data, {"Content-Type": "application/octet-stream"}, method=method)
    with urlopen(request, timeout=60) as answer:
        return answer.headers.get("ETag", ""), answer.read().decode()


def completes_uploads(server: str) -> bool:
    """Whether the end of an upload in parts is answered as by S3. moto 5.2.1 sends an XML element of another name
    (issue 10055 of getmoto/moto), in which pyarrow's client sees a failure."""
    url = f"{server}/chats/probe"
    upload = re.findall("<UploadId>(.+)</UploadId>", asked("POST", f"{url}?uploads", b"")[1])[0]
    tag, _ = asked("PUT", f"{url}?partNumber=1&uploadId={upload}", b"part")
    parts = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    return "<CompleteMultipartUploadResult" in asked("POST", f"{url}?uploadId={upload}", body)[1]


@pytest.mark.slow
def test_what_is_larger_than_a_part_goes_to_s3_and_comes_back(bucket: FileSystem, server: str):
    if not completes_uploads(server):
        pytest.skip("this moto does not complete an upload as S3 does: see the head of this file")
    content = random.Random(1).randbytes(25 * 2**20)
    with local_twin("s3://chats/out/large.jsonl", "--out") as twin:
        twin.write_bytes(content)
    (file,) = list_files("s3://chats/out/large.jsonl")
    with file.open() as there:
        same = there.read() == content  # a difference would be printed for minutes
    assert same
    assert asked("HEAD", f"{server}/chats/out/large.jsonl")[0].endswith('-3"')  # of so many parts


@pytest.mark.slow
def test_a_changed_object_is_read_again(bucket: FileSystem, tmp_path: Path):
    store = Store(tmp_path / "store")
    ingest(["s3://chats/logs/a.jsonl"], store)
    put(bucket, "chats/logs/a.jsonl", lines(chat("a1", "fig pear", "Thanks!")))
    assert ingest(["s3://chats/logs/a.jsonl"], store).updated == 1
    put(bucket, "chats/logs/a.jsonl", LOGS["a.jsonl"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://no-such-bucket/logs/a.jsonl", "s3://no-such-bucket/logs/a.jsonl: nothing is there"),
        ("s3://chats/logs/z.jsonl", "s3://chats/logs/z.jsonl: nothing is there"),
    ],
)
def test_what_is_not_on_s3_is_one_line(bucket: FileSystem, url: str, says: str):
    with pytest.raises(DataError, match=says):
        list_files(url)


@pytest.mark.slow
def test_a_bucket_that_is_missing_is_found_before_the_work(bucket: FileSystem):
    missing = local_twin("s3://no-such-bucket/p.jsonl", "--out")
    with pytest.raises(DataError, match=r"--out s3://no-such-bucket/p\.jsonl: there is no such bucket"), missing:
        pytest.fail("the work has begun")


class Refuses(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    do_GET = do_PUT = do_POST = do_HEAD

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_without_credentials_the_error_says_which(access: None, monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Refuses) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{refusing.server_port}")
        with pytest.raises(PrerequisiteError, match=r"s3://chats/a\.jsonl: access is denied.*AWS_ACCESS_KEY_ID"):
            list_files("s3://chats/a.jsonl")
        refusing.shutdown()


def test_a_server_of_the_users_own_speaks_for_google(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Refuses) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        for address in (f"http://127.0.0.1:{refusing.server_port}", f"127.0.0.1:{refusing.server_port}"):
            remote._file_system.cache_clear()
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
            with pytest.raises(PrerequisiteError, match=r"gs://chats/a\.jsonl: access is denied.*gcloud auth applic"):
                list_files("gs://chats/a.jsonl")
        refusing.shutdown()
    remote._file_system.cache_clear()


def test_googles_answer_without_credentials_names_them():
    says = (
        "google::cloud::Status(UNAVAILABLE: Retry policy exhausted, with a last message of Could not create a OAuth2 "
        "access token to authenticate the request. The underlying error message was: PerformWork() - CURL error [6]"
        "=Couldn't resolve host name"
    )
    error = remote._explained("gs://chats/a", OSError(says))
    assert isinstance(error, PrerequisiteError)
    assert str(error).startswith("gs://chats/a: access is denied, or there are no credentials. Run `gcloud auth")


def test_a_storage_that_does_not_answer_is_one_line(access: None, monkeypatch):
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(DataError, match=r"the storage does not answer\. Check the network and"):
            list_files("s3://chats/a.jsonl")
