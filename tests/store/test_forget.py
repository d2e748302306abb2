"""Forgetting: gone from every file of the store, and refused when a log brings it again."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from drift.cli import app
from drift.config import Config, IngestionSettings
from drift.errors import DataError
from drift.feedback.label import label_store
from drift.logs.ingest import ingest, require_consent
from drift.pairs.stages import write_pairs
from drift.records import FeedbackLabel, Reason
from drift.run import collect
from drift.rundir import RunDir, load_run
from drift.store import Quarantined, Review, Store

WORDS = ("zebra", "walrus", "okapi")


def row(number: int, user: str) -> dict:
    return {
        "id": f"chat-{number}",
        "user": user,
        "messages": [
            {"role": "user", "content": f"{WORDS[number]}?"},
            {"role": "assistant", "content": f"about the {WORDS[number]}", "feedback": "down"},
            {"role": "user", "content": "No, that is wrong."},
        ],
    }


@pytest.fixture
def log(tmp_path) -> Path:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps(row(n, user)) for n, user in enumerate(("ann", "bob", "ann"))))
    return file


@pytest.fixture
def store(tmp_path, log) -> Store:
    store = Store(tmp_path / "store")
    ingest([log], store)
    label_store(store)
    return store


def read(store: Store) -> str:
    """All that can be read out of the store's files."""
    return repr([list(store.conversations()), list(store.labels()), list(store.quarantined())])


def test_a_user_is_gone_and_stays_gone(store, log):
    before = store.content_hash()
    (store.path / "labels.html").write_text("a report that quotes the zebra")
    done = store.forget(user="ann")
    assert (done.conversations, done.labels, done.known_before) == (2, 4, False)
    assert [word for word in WORDS if word in read(store)] == ["walrus"]
    assert store.content_hash() != before
    assert not (store.path / "labels.html").exists()
    again = ingest([log], store)
    assert (again.duplicate, again.filtered, again.filtered_by) == (1, 2, {Reason.FORGOTTEN: 2})
    assert again.adds_up
    assert b"ann" not in (store.path / "forgotten.jsonl").read_bytes()
    assert store.forget(user="ann").known_before


@pytest.mark.parametrize("of", ["log", "store"])
def test_a_conversation_is_gone_by_either_id(store, log, of):
    ident = (
        "chat-1" if of == "log" else next(c.conversation_id for c in store.conversations() if c.source_id == "chat-1")
    )
    assert store.forget(conversation=ident).conversations == 1
    assert [word for word in WORDS if word in read(store)] == ["zebra", "okapi"]
    assert ingest([log], store).filtered == 1
    assert ident.encode() not in (store.path / "forgotten.jsonl").read_bytes()


def call(number: int, *texts: str) -> dict:
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    reply = {"choices": [{"message": messages.pop()}]}
    return {"id": f"c{number}", "call_type": "acompletion", "session_id": "s1", "messages": messages, "response": reply}


@pytest.mark.parametrize("of", ["session", "path"])
def test_what_shares_a_session_goes_and_stays_away_with_it(tmp_path, of):
    """A branch holds the same words as the path that it leaves."""
    log, store = tmp_path / "calls.jsonl", Store(tmp_path / "store")
    calls = [call(0, "zebra?", "a horse"), call(1, "zebra?", "a horse", "no", "a striped one")]
    log.write_bytes(b"\n".join(map(orjson.dumps, calls)))
    ingest([log], store)
    (path,) = store.conversations()
    assert store.forget(conversation="s1" if of == "session" else path.conversation_id).conversations == 1
    log.write_bytes(b"\n".join(map(orjson.dumps, [*calls, call(2, "zebra?", "a horse", "really?", "no")])))
    again = ingest([log], store)
    assert (again.accepted, again.filtered_by, again.adds_up) == (0, {Reason.FORGOTTEN: 2}, True)
    assert "zebra" not in read(store)
    assert store.forget(conversation="s1" if of == "session" else path.conversation_id).known_before


def test_strangers_who_begin_alike_do_not_go_with_it(tmp_path):
    log, store = tmp_path / "calls.jsonl", Store(tmp_path / "store")
    rows = [call(number, "Hi", "Hello!", f"{word}?", "no") for number, word in enumerate(WORDS)]
    log.write_bytes(b"\n".join(orjson.dumps({k: v for k, v in r.items() if k != "session_id"}) for r in rows))
    assert ingest([log], store).accepted == 3
    name = next(c.conversation_id for c in store.conversations() if "walrus" in c.messages[2].content)
    assert store.forget(conversation=name).conversations == 1
    assert [word for word in WORDS if word in read(store)] == ["zebra", "okapi"]
    assert ingest([log], store).filtered == 1


def test_a_user_goes_with_the_branches_of_the_session_that_name_nobody(tmp_path):
    log, store = tmp_path / "calls.jsonl", Store(tmp_path / "store")
    rows = [{**call(0, "zebra?", "a horse"), "end_user": "ann"}, call(1, "zebra?", "a donkey", "no", "a horse")]
    log.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    assert ingest([log], store).accepted == 2
    assert store.forget(user="ann").conversations == 2
    assert "zebra" not in read(store)


def test_a_tree_goes_with_all_its_paths(tmp_path):
    def message(name: str, parent: str | None, role: str, children: list[str]) -> dict:
        return {"id": name, "parentId": parent, "childrenIds": children, "role": role, "content": f"{name} okapi"}

    tree = [
        message("u", None, "user", ["a", "b"]),
        message("a", "u", "assistant", []),
        message("b", "u", "assistant", []),
    ]
    row = {"id": "chat-A", "chat": {"history": {"currentId": "b", "messages": {node["id"]: node for node in tree}}}}
    log, store = tmp_path / "tree.json", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps([row]))
    assert ingest([log], store).accepted == 2
    assert store.forget(conversation="chat-A").conversations == 2
    assert "okapi" not in read(store)


def test_who_withdraws_consent_goes_and_may_come_back(tmp_path):
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    required = IngestionSettings(require_consent={"consent": "yes"})

    def read_log(*consent: str | None):
        rows = [{**row(number, "ann"), "consent": said} for number, said in enumerate(consent)]
        log.write_bytes(b"\n".join(map(orjson.dumps, rows)))
        return ingest([log], store, settings=required)

    assert (read_log("yes", "yes").accepted, label_store(store).added) == (2, 4)
    told = read_log("no", "yes", "no")
    assert (told.withdrawn, told.duplicate, told.filtered, told.adds_up) == (1, 1, 2, True)
    assert "zebra" not in read(store)
    assert sum(store.counts().labels.values()) == 1
    assert read_log("no", "yes", "no").withdrawn == 0
    assert (read_log("yes", "yes").accepted, read_log("yes").withdrawn) == (1, 0)
    assert read_log(None).withdrawn == 0  # says nothing


def test_reviews_go_too(store):
    ids = {c.source_id: c.conversation_id for c in store.conversations()}
    store.reviews.add(Review("me", ids["chat-0"], 1, 2, "DSAT", evidence="zebra!"))
    store.reviews.add(Review("me", ids["chat-1"], 1, 2, "SAT"))
    assert store.forget(conversation="chat-0").reviews == 1
    assert b"zebra" not in store.reviews.path.read_bytes()
    assert [review.label for review in store.reviews.all(Review)] == ["SAT"]


def test_notes_that_quote_the_id_go_and_those_that_hold_its_letters_stay(store):
    details = ("'ann' stands twice", "user ann: a number", "7 annotations", "joann said", "ann-2 is no thumb")
    with store.writer() as writer:
        for line, detail in enumerate(details, 1):
            writer.quarantine(Quarantined("log", line, Reason.BAD_CONTENT, detail))
        writer.commit()
    assert store.forget(user="ann").quarantined == 2
    assert [note.detail for note in store.quarantined()] == list(details[2:])


def test_what_was_never_here_is_refused_in_one_line(store):
    with pytest.raises(DataError, match="--user carl: not found in this store"):
        store.forget(user="carl")
    assert not (store.path / "forgotten.jsonl").exists()


def test_texts_that_wait_in_the_pieces_of_a_killed_ingestion_go_even_if_the_user_is_not_stored(store):
    items = store.path / ".pieces/ingest-1/00000.items"
    items.parent.mkdir(parents=True)
    items.write_text("carl: my number is 555-0199")
    with pytest.raises(DataError, match="--user carl: not found in this store"):
        store.forget(user="carl")
    assert not items.exists()


def test_a_command_that_was_cut_off_is_completed_by_the_next(store, monkeypatch):
    folder = store._folder

    def cut_off(manifest: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folder, "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.forget(user="ann")
    assert store.counts().conversations == 3
    assert store.forget(user="ann").conversations == 2
    assert [word for word in WORDS if word in read(store)] == ["walrus"]


def test_labels_that_come_back_late_have_nothing_to_stand_on(store):
    ident = next(c.conversation_id for c in store.conversations() if c.source_id == "chat-0")
    store.forget(conversation="chat-0")
    store.add_labels([FeedbackLabel(ident, 1, 2, "DSAT", "judge", "1")])
    assert ident not in {conversation.conversation_id for conversation, _ in store.labelled()}


def test_a_store_goes_on_requiring_consent(tmp_path, monkeypatch):
    log, later, store = tmp_path / "log.jsonl", tmp_path / "later.jsonl", Store(tmp_path / "store")
    for file, numbers in ((log, (0, 1, 2, 3)), (later, (4, 5))):
        rows = [
            {**row(number % 3, f"ann-{number}"), "id": f"chat-{number}", "consent": "no" if number % 2 else "yes"}
            for number in numbers
        ]
        file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    ingest([log], store)
    label_store(store)
    before, hashed = store.counts(), (store.content_hash(), store.label_hash())

    require_consent(store, IngestionSettings(require_consent={"consent": "yes"}))  # of what is stored already
    assert (store.size(), store.without_consent(), store.news(0)) == (2, 2, (2, 0))
    assert {conversation.source_id for conversation in store.conversations()} == {"chat-0", "chat-2"}
    counts = store.counts()
    assert (counts.conversations, sum(counts.labels.values())) == (2, sum(before.labels.values()) // 2)
    assert len(list(store.labels())) == sum(counts.labels.values())
    assert sum(part.size() for part in map(store.within, store.id_ranges())) == 2
    assert (store.content_hash(), store.label_hash()) != hashed
    assert write_pairs(store, tmp_path / "prompts.jsonl", 0.5).prompt_counts["dropped.no_consent"] == 2

    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["live", "--store", "store", "--logs", "later.jsonl"])
    assert (store.size(), store.without_consent()) == (3, 2)  # what came without consent was not stored
    assert store.forget(conversation="chat-1").conversations == 1  # what is not read can be removed
    assert store.without_consent() == 1


def test_a_run_over_a_full_store_learns_only_from_those_with_consent(tmp_path, log, store):
    asked = {"store": str(store.path), "ingestion": {"require_consent": {"consent": "yes"}}}
    with RunDir.open(tmp_path / "run", "name: x\n", 1) as run:
        with pytest.raises(DataError, match=r"none of its 3 conversations has the required consent, consent=yes"):
            collect(Config.model_validate(asked), run)
        assert store.size() == 3  # a mistyped field hides nothing
        log.write_bytes(orjson.dumps({**row(0, "ann"), "consent": "yes"}))
        read = collect(Config.model_validate({**asked, "logs": [str(log)]}), run)
    assert {conversation.source_id for conversation in read.conversations()} == {"chat-0"}
    (labels,) = (stage for stage in load_run(tmp_path / "run").stages if stage.name == "data/labels.jsonl")
    assert (labels.counts["rows"], labels.counts["dropped.no_consent"]) == (1, 2)
