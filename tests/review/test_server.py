"""Real requests on loopback: what the pages say and change, and nothing without the token."""

import re
import socket
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from command import drift
from drift.records import Message
from drift.store import Review, ReviewedPreference, Store


class Page(HTMLParser):
    """The elements with their attributes, and the words that are not style or script."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(html)
        self.words = " ".join(unescape(re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL)).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def hidden(self) -> dict[str, str]:
        return {field["name"]: field["value"] for field in self.of("input") if field.get("type") == "hidden"}


def decide(visitor, verdict: str) -> Page:
    asked = Page(visitor.get().text)
    return Page(visitor.post("/", verdict=verdict, **asked.hidden).text)


def test_the_page_says_what_is_asked_and_what_the_answers_mean(visitor):
    page = Page(visitor.get().text)
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("h1"), tags.count("main"), page.of("html")[0]["lang"]) == (1, 1, "en")
    assert "Was the user satisfied with this reply?" in page.words
    assert (
        "say whether that message shows that the user was dissatisfied with the reply, satisfied, or neither"
        in page.words
    )
    for meaning in ("DSAT: dissatisfied", "SAT: satisfied", "NEUTRAL: neither"):
        assert re.search(rf"\b{meaning} The user [^.]*\. Example: “[^”]+”", page.words)
    assert "0 of 12 decided · the time left is known after four decisions" in page.words
    (bar,) = page.of("progress")
    assert (bar["value"], bar["max"], bar["aria-label"]) == ("0", "12", "Decisions made")


def test_each_button_is_a_form_with_its_letter(visitor):
    decide(visitor, "DSAT")
    page = Page(visitor.get().text)
    buttons = {(b["name"], b["value"]): b["data-key"] for b in page.of("button")}
    verdicts = {("verdict", value): key for value, key in zip(("DSAT", "SAT", "NEUTRAL", "SKIP"), "dsnk", strict=True)}
    assert buttons == verdicts | {("undo", "undo"): "u"}
    assert all(b["aria-keyshortcuts"] == b["data-key"] for b in page.of("button"))
    assert {form["method"] for form in page.of("form")} == {"post"}
    assert {attributes.get("tabindex") for _, attributes in page.elements} <= {None, "-1"}  # the order is the page's
    pairs = Page(visitor.get("/compare").text)
    assert [b["data-key"] for b in pairs.of("button")] == ["1", "2", "t", "k"]


def test_the_label_and_its_evidence_are_told_only_after_the_decision(visitor, store):
    label = next(label for label in Store(store.path).labels(reviewed=False) if label.label == "DSAT")
    place = f"/reply?conversation={label.conversation_id}&reply=1"
    assert visitor.get(place).status == 400  # not decided: there is nothing to come back to
    for _ in range(12):
        html = visitor.get().text
        asked = Page(html)
        assert "<mark" not in html
        assert "p(dissatisfied)" not in asked.words.split("Your latest decisions")[0]
        visitor.post("/", verdict="NEUTRAL", **asked.hidden)
    back = Page(visitor.get(place).text)
    assert f"You decided: NEUTRAL. The label by embedded: DSAT, p(dissatisfied) {label.p_dsat:.2f}." in back.words
    assert "mark" in [tag for tag, _ in back.elements]
    assert [b["value"] for b in back.of("button") if b.get("aria-pressed")] == ["NEUTRAL"]
    done = Page(visitor.get().text)
    assert "No reply left to review." in done.words
    assert "12 of 12 decided · no time left" in done.words


def test_a_decision_is_listed_and_can_be_changed_and_taken_back(visitor, store):
    for verdict in ("DSAT", "SAT", "SKIP", "NEUTRAL"):
        page = decide(visitor, verdict)
    assert "4 of 12 decided · less than a minute left at this pace" in page.words or "min left" in page.words
    listed = Page(visitor.get("/decided").text)
    found = re.findall(
        r"(NEUTRAL|Skipped|SAT|DSAT) The label by embedded: \w+, p\(dissatisfied\) \S+ No, wrong order", listed.words
    )
    assert found == ["NEUTRAL", "Skipped", "SAT", "DSAT"]
    links = [link["href"] for link in listed.of("a") if link["href"].startswith("/reply?")]
    assert len(links) == 4
    change = Page(visitor.get(links[3]).text)
    shown = visitor.post("/", verdict="SAT", **change.hidden)
    assert shown.status == 200
    reviews = list(Store(store.path).reviews.all(Review))
    assert [review.label for review in reviews] == ["SAT", None, "NEUTRAL", "SAT"]
    assert reviews[3].conversation_id == change.hidden["conversation"]
    visitor.post("/undo", undo="undo")
    assert Page(visitor.get().text).hidden == change.hidden  # asked again, in its old place
    assert len(list(Store(store.path).reviews.all(Review))) == 3


def test_replies_are_compared_blind_and_told_afterwards(visitor, store):
    page = Page(visitor.get("/compare").text)
    assert "Reply 1 assistant" in page.words
    assert not re.search(r"the (fresh|disliked) one", page.words)
    visitor.post("/compare", side="left", **page.hidden)
    visitor.post("/compare", side="tie", **Page(visitor.get("/compare").text).hidden)
    made = list(Store(store.path).reviews.all(ReviewedPreference))
    assert made[0].winner in ("chosen", "rejected")
    assert made[1].winner == "tie"
    listed = Page(visitor.get("/compare/decided").text)
    first = "The fresh reply" if made[0].winner == "chosen" else "The disliked reply"
    number = 1 if made[0].winner == "chosen" else 2
    assert f"{first} The fresh reply was reply {number}. Sort: b a" in listed.words
    back = Page(visitor.get(f"/compare/pair?pair={made[0].pair_id}").text)
    assert [b["value"] for b in back.of("button") if b.get("aria-pressed")] == ["left"]
    assert "the fresh one" in back.words
    visitor.post("/compare", side="right", **back.hidden)
    opposite = {"chosen": "rejected", "rejected": "chosen"}[made[0].winner]
    assert [p.winner for p in Store(store.path).reviews.all(ReviewedPreference)] == ["tie", opposite]
    visitor.post("/compare/undo")
    assert [p.winner for p in Store(store.path).reviews.all(ReviewedPreference)] == ["tie"]


def test_texts_of_logs_are_shown_as_text_and_nothing_is_loaded(visitor):
    for path in ("/", "/compare"):
        answer = visitor.get(path)
        page = Page(answer.text)
        tags = [tag for tag, _ in page.elements]
        assert (tags.count("script"), tags.count("img"), tags.count("b")) == (1, 0, 0)
        assert "<script>document.title = 'taken'</script>" in page.words
        nonce = page.of("script")[0]["nonce"]
        policy = answer.headers["Content-Security-Policy"]
        assert f"default-src 'none'; img-src data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'" in policy
        assert nonce not in visitor.get(path).text
        outside = [value for _, attributes in page.elements for value in attributes.values() if "//" in value]
        assert outside == []


@pytest.mark.parametrize(
    ("path", "form", "status", "told"),
    [
        ("/", {"verdict": "DSAT"}, 400, "Unknown reply or verdict: verdict=DSAT"),
        ("/", {"conversation": "c1", "reply": "1", "verdict": "GOOD"}, 400, "verdict=GOOD"),
        ("/", {"conversation": "c1", "reply": "9" * 5000, "verdict": "SAT"}, 400, "Unknown reply"),
        ("/", {"conversation": "<b>", "reply": "1", "verdict": "SAT"}, 400, "conversation=&lt;b&gt;"),
        ("/", {"conversation": "c" * 20_000}, 413, "A form has 10000 bytes at most"),
        ("/compare", {"pair": "p0", "side": "up"}, 400, "side=up"),
        ("/elsewhere", {}, 404, "Nothing is decided at /elsewhere"),
    ],
)
def test_a_form_that_nobody_made_is_refused_in_one_line(visitor, store, path, form, status, told):
    answer = visitor.post(path, **form)
    assert answer.status == status
    assert told in answer.text
    assert list(Store(store.path).reviews.all(Review)) == []


def test_a_page_that_is_not_there_is_named(visitor):
    answer = visitor.get("/nowhere")
    assert (answer.status, "No page /nowhere" in answer.text) == (404, True)
    assert visitor.get("/decided?page=" + "9" * 5000).status == 200
    assert visitor.get("/reply?conversation=c1&reply=x").status == 400


def test_a_damaged_store_is_named_in_the_page_and_the_server_goes_on(visitor, store):
    (store.path / "reviews.sqlite").write_bytes(b"no database at all" * 100)
    answer = visitor.get()
    assert answer.status == 500
    assert "reviews.sqlite: cannot read or write the reviews" in answer.text
    (store.path / "reviews.sqlite").unlink()
    assert visitor.get().status == 200


def test_a_wrong_token_gets_nothing_and_the_right_one_works_once(store, served):
    with served(store) as (visitor, _):
        assert visitor.get("/?token=wrong").status == 403
        assert visitor.get().status == 403
        assert visitor.post("/", verdict="SAT", conversation="c1", reply="1").status == 403
        foreign = visitor.get(visitor.address, Host="elsewhere.invalid")
        assert foreign.status == 403
        opened = visitor.get(visitor.address)
        assert opened.status == 200
        assert visitor.get("/compare").status == 404  # no run was given
        assert visitor.get(Host="elsewhere.invalid").status == 403
        for origin in ("http://127.0.0.1:1", "http://elsewhere.invalid", "null"):
            made = visitor.post("/", {"Origin": origin}, verdict="SAT", conversation="c1", reply="1")
            assert made.status == 403
        assert list(Store(store.path).reviews.all(Review)) == []
        other = type(visitor)(visitor.address)
        assert other.get(visitor.address).status == 403


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--store", "nowhere"], "holds no conversations"),
        (["--store", "STORE", "--run", "nowhere"], "holds no pairs"),
        (["--store", "STORE", "--port", "TAKEN"], "Name another port"),
    ],
)
def test_bad_input_is_one_line(store, options, told, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        names = {"STORE": str(store.path), "TAKEN": str(taken.getsockname()[1])}
        done = drift("review", *(names.get(o, o) for o in options), cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_of_a_removed_conversation_comes_back(visitor, store):
    asked = Page(visitor.get("/").text)
    gone = asked.hidden["conversation"]
    store.forget(conversation=gone)
    answer = visitor.post("/", verdict="DSAT", **asked.hidden)
    assert answer.status == 410
    assert "This conversation was removed" in answer.text
    assert list(store.reviews.all(Review)) == []
    assert Page(visitor.get("/").text).hidden["conversation"] != gone  # the next one is asked
    store.reviews.add(Review("me", gone, 1, 2, "DSAT", evidence="a quote"))  # by a page of an earlier version
    assert store.forget(conversation=gone).reviews == 1


def test_a_decision_on_words_that_changed_is_asked_again(visitor, store):
    decide(visitor, "DSAT")
    (made,) = Store(store.path).reviews.all(Review)
    asked = Page(visitor.get("/").text).hidden
    for name in (made.conversation_id, asked["conversation"]):
        old = store.conversation(name)
        texts = (
            ("user", "Sort: b a"),
            ("assistant", "a b"),
            ("user", "Great, thanks!"),
            ("assistant", "You're welcome"),
        )
        store.add([replace(old, messages=tuple(Message(role, text) for role, text in texts))])
    late = visitor.post("/", verdict="DSAT", **asked)  # the page was loaded before
    assert (late.status, "has changed since it was shown" in late.text) == (409, True)

    page = Page(visitor.get("/").text)
    assert page.hidden["conversation"] == made.conversation_id
    assert "decisions on words that have changed since, which do not count: 1" in page.words
    assert "DSAT It does not count: what it judged has changed since." in Page(visitor.get("/decided").text).words
    assert [label for label in store.labels() if label.conversation_id == made.conversation_id] == []
    assert visitor.get(f"/reply?conversation={made.conversation_id}&reply=1").status == 400
    decide(visitor, "SAT")
    (label,) = (label for label in store.labels() if label.conversation_id == made.conversation_id)
    assert (label.label, label.labeller, store.outdated_reviews()) == ("SAT", "review", 0)
