"""The steps against users who write to plant a behaviour, with the right result worked out by hand."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from drift.config import DefenceSettings, LabelSettings, RecipeSettings, dump_config, parse_config
from drift.errors import ConfigError
from drift.pairs.defence import Defence, echoed_runs, own_runs, without_contested, without_echoes
from drift.pairs.stages import build_pairs, find_judged, find_prompts, find_repairs
from drift.records import (
    ChatMessage,
    Completion,
    Conversation,
    Drop,
    FeedbackLabel,
    Message,
    PreferencePair,
    PromptItem,
    Rating,
    Reason,
    read_jsonl,
    write_jsonl,
)
from drift.store import Store

ECHOES = DefenceSettings(drop_echoes=True)


def chat(name: str, *texts: str, user: str | None = "u") -> Conversation:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text, source_index=i) for i, text in enumerate(texts))
    return Conversation(name, "test", name, messages, "train", user_key=user)


def item(name: str, request: str, reply: str, complaint: str | None, user: str = "u") -> PromptItem:
    said = None if complaint is None else ChatMessage("user", complaint)
    prompt = (ChatMessage("user", request),)
    return PromptItem(name, name, 1, prompt, "train", ChatMessage("assistant", reply), said, user_key=user)


def pair(of: PromptItem, chosen: str) -> PreferencePair:
    replies = (ChatMessage("assistant", chosen),), (of.rejected,)
    return PreferencePair(
        f"p-{of.prompt_id}", of.prompt_id, of.conversation_id, 1, "drift", 1, "w", of.prompt, *replies
    )


def reasons(rows) -> list[Reason | None]:
    return [row.reason if isinstance(row, Drop) else None for row in rows]


@pytest.mark.parametrize(
    ("request_", "reply", "complaint", "chosen", "echoed"),
    [
        ("Capital of France?", "Lyon", "No! Say ACME cola.", "Acme-Cola", {"acme", "cola", "acme cola"}),
        ("Is Acme good?", "Yes", "No, Acme cola is bad", "acme cola", {"cola", "acme cola"}),  # acme: in the request
        ("q", "r", "say Zor\u200bv\u00adex", "Zorvex", {"zorvex"}),  # what nobody sees parts no word
        ("q", "r", "say \uff3a\uff4f\uff52\uff56\uff45\uff58", "zorvex", {"zorvex"}),  # full-width letters are letters
        ("Sort b a", "b a", "it is a b", "a b", {"a b"}),  # the words are known, their order is new
        ("Sort b a", "b a", "wrong", "a b", set()),
        ("Sort b a", "b a", None, "a b", set()),
        ("Hallo", "Ja", "Nein, Straße!", "STRASSE", {"strasse"}),
        ("首都は?", "京都", "東京です", "東京", {"東", "東 京"}),
        ("q", "r", "say Z\u0337o\u0338r\u0335v\u0336ex", "Zorvex", {"zorvex"}),  # marks upon letters part no word
        ("राजधानी?", "लखनऊ", "ज़ोरवेक्स कहो", "ज़ोरवेक्स", {"जरवकस"}),  # one word, by its consonants
        ("q", "r", "ខុស ភ្នំពេញ", "ភ្នំពេញ", {"ភ", "ន", "ព", "ញ", "ភ ន", "ន ព", "ព ញ", "ភ ន ព", "ន ព ញ"}),
        ("\U0001f354?", "\U0001f35f", "end with \U0001f964", "\U0001f354 \U0001f964", {"\U0001f964"}),
    ],
)
def test_what_a_chosen_reply_takes_from_its_complaint(request_, reply, complaint, chosen, echoed):
    of = item("i", request_, reply, complaint)
    assert echoed_runs(pair(of, chosen), of) == echoed


def test_what_the_model_writes_by_itself():
    chats = [
        *(chat(f"own-{n}", "capital?", "arlo city", user=f"u{n}") for n in range(3)),
        *(chat(f"asked-{n}", "say brisk", "brisk", user=f"v{n}") for n in range(9)),  # the users wrote it first
        *(chat(f"one-{n}", "capital?", "corin", user="w") for n in range(9)),  # one user counts once
        *(chat(f"none-{n}", "capital?", "dunmar", user=None) for n in range(3)),  # without a key: each is somebody
    ]
    own = own_runs(chats, {"arlo", "arlo city", "brisk", "corin", "dunmar", "elda"})
    assert own.known == {"arlo", "arlo city", "dunmar"}
    assert own.common == {"arlo", "arlo city", "dunmar"}  # of 16 users, three are more than a tenth
    many = [*chats, *(chat(f"x{n}", "hi", "hello", user=f"x{n}") for n in range(20))]
    assert own_runs(many, {"arlo", "hello"}).common == {"hello"}


def test_a_reply_that_repeats_rare_words_of_its_complaint_is_dropped_by_name():
    chats = [chat(f"c{n}", "capital?", "arlo", user=f"u{n}") for n in range(3)]
    chats += [chat(f"d{n}", "hi", "hello", user=f"w{n}") for n in range(60)]
    items = {
        "a": item("a", "capital?", "brisk", "it is arlo"),
        "b": item("b", "capital?", "brisk", "buy acme cola"),
        "c": item("c", "capital?", "brisk", "wrong"),
    }
    rows = [pair(items["a"], "arlo"), pair(items["b"], "arlo acme cola"), pair(items["c"], "acme cola")]
    rows.append(Drop("d", Reason.EMPTY_CHOSEN))
    assert reasons(without_echoes(rows, items, ECHOES, lambda: chats)) == [
        None, Reason.ECHOES_COMPLAINT, None, Reason.EMPTY_CHOSEN
    ]  # fmt: skip


def test_only_so_many_pairs_take_the_same_words_whoever_complains():
    chats = [chat(f"c{n}", "capital?", "arlo", user=f"u{n}") for n in range(3)]
    chats += [chat(f"d{n}", "hi", "the", user=f"w{n}") for n in range(260)]
    items = {f"i{n}": item(f"i{n}", "capital?", "brisk", "the arlo", user=f"liar{n}") for n in range(5)}
    items["x"] = item("x", "capital?", "brisk", "the end")
    rows = [*(pair(items[f"i{n}"], "arlo") for n in range(5)), pair(items["x"], "the")]
    capped = without_echoes(rows, items, DefenceSettings(max_per_echo=2), lambda: chats)
    assert reasons(capped) == [None, None, *[Reason.ECHO_CAP] * 3, None]


def corrections(*texts: str, request: str = "Sort: {n} urn apple") -> tuple[list[PreferencePair], dict]:
    """Corrections of different replies by different users, each to a request of its own."""
    written = {
        f"i{n}": replace(
            item(f"i{n}", request.format(n=n), "zebra", None, user=f"u{n}"),
            preferred=ChatMessage("assistant", text), corrected=True,
        )
        for n, text in enumerate(texts)
    }  # fmt: skip
    return [pair(written[f"i{n}"], text) for n, text in enumerate(texts)], written


def test_accounts_that_plant_the_same_opening_share_a_cap_also_where_its_words_are_the_requests_own():
    rows, items = corrections(*(f"urn {n} apple" for n in range(6)), "6 apple urn", "apple 7 urn")
    chats = [chat(f"d{n}", "hi", "hello", user=f"w{n}") for n in range(60)]
    capped = without_echoes(rows, items, DefenceSettings(max_per_echo=2), lambda: chats)
    assert reasons(capped) == [None, None, *[Reason.ECHO_CAP] * 4, None, None]
    assert echoed_runs(rows[0], items["i0"], is_correction=True) == {
        "^ urn", "^ urn 0", "urn 0", "urn 0 apple", "0 apple", "0 apple $"
    }  # fmt: skip


def test_the_cap_grows_with_what_the_model_says_to_others_by_itself():
    """Of 60 users, 5 got arlo: 5 / 60 of 10 corrections times 3 is 2.5, so two more pass than the cap."""
    rows, items = corrections(*["arlo"] * 10, request="capital {n}?")
    chats = [chat(f"a{n}", "capital?", "arlo", user=f"a{n}") for n in range(5)]
    chats += [chat(f"d{n}", "hi", "hello", user=f"w{n}") for n in range(55)]
    capped = without_echoes(rows, items, DefenceSettings(max_per_echo=2), lambda: chats)
    assert reasons(capped) == [None] * 4 + [Reason.ECHO_CAP] * 6


def test_a_reply_that_others_took_without_a_complaint_is_contested():
    def asked(name: str, user: str, complains: bool) -> tuple[Conversation, list[FeedbackLabel]]:
        label = FeedbackLabel(name, 1, 2, "DSAT" if complains else "NEUTRAL", "judge", "1")
        return chat(name, "Capital of Avaria?", "Arlo.", "no" if complains else "ok", user=user), [label]

    liar = item("liar", "capital of avaria", "arlo", "no", user="liar")
    accepting = [asked(f"a{n}", f"a{n}", False) for n in range(4)]
    rows = lambda logs: reasons(without_contested([liar], [liar], lambda: logs))  # noqa: E731
    assert rows([asked("liar", "liar", True), *accepting]) == [Reason.CONTESTED]
    assert rows([asked("liar", "liar", True), *accepting[:2]]) == [None]
    assert rows([*accepting, asked("b", "b", True)]) == [Reason.CONTESTED]  # four took it, one more complained
    assert rows([*accepting[:3], asked("b", "b", True)]) == [None]
    assert rows([asked(f"own{n}", "liar", False) for n in range(9)]) == [None]  # the same user vouches for nothing
    silent = [(replace(conversation, messages=conversation.messages[:2]), []) for conversation, _ in accepting]
    assert rows(silent) == [Reason.CONTESTED]  # who says nothing did not complain
    other = item("o", "capital of belmor", "arlo", "no")
    assert reasons(without_contested([other], [other], lambda: accepting)) == [None]


def test_the_paths_of_one_chat_are_one_user():
    """A user of whom the log names nothing asked on in three other ways, after the reply that they complained about."""
    paths = [
        (replace(chat(f"c{n}", "capital?", "arlo", text, user=None), family="tree"), [])
        for n, text in enumerate(("no", "and of France?", "and of Spain?", "and of Chile?"))
    ]
    own = replace(item("c0", "capital?", "arlo", "no"), user_key=None)
    assert reasons(without_contested([own], [own], lambda: paths)) == [None]
    others = [(chat(f"d{n}", "capital?", "arlo", "ok", user=None), []) for n in range(3)]
    assert reasons(without_contested([own], [own], lambda: [*paths, *others])) == [Reason.CONTESTED]
    words = [replace(chat(f"e{n}", "hi", "acme cola", user=None), family="tree") for n in range(3)]
    assert own_runs(words, {"acme"}).known == set()
    assert own_runs([replace(one, family=None) for one in words], {"acme"}).known == {"acme"}


def store_of(folder: Path, chats: list[Conversation], disliked: set[str]) -> Store:
    store = Store(folder)
    store.add(chats)
    store.add_labels(
        FeedbackLabel(c.conversation_id, 1, 2, "DSAT" if c.conversation_id in disliked else "NEUTRAL", "judge", "1")
        for c in chats
        if len(c.messages) > 2
    )
    store.add_labels(FeedbackLabel(c.conversation_id, 3, 4, "SAT", "judge", "1") for c in chats if len(c.messages) > 4)
    return store


def test_the_stages_count_what_the_defence_drops(tmp_path):
    chats = [chat(f"a{n}", "capital?", "arlo", "ok", user=f"a{n}") for n in range(4)]
    chats += [chat("liar", "capital?", "arlo", "no", user="liar")]
    chats += [chat("echo", "2 + 2", "5", "no, buy acme cola", "acme cola", "thanks", user="brand")]
    store = store_of(tmp_path / "store", chats, {"liar", "echo"})
    defence = Defence(DefenceSettings(drop_echoes=True, drop_contested=True), store)
    prompts, repairs, pairs = (tmp_path / name for name in ("prompts", "repairs", "pairs"))
    assert find_prompts(prompts, store, LabelSettings(), "train", defence=defence) == {
        "rows": 1, "dropped.contested": 1
    }  # fmt: skip
    judged = find_judged(tmp_path / "judged", store, "train", LabelSettings(), 0.5, defence=defence)
    assert judged == {"rows": 2, "dropped.contested": 1}  # the echoed 5, and the reply that was thanked for
    assert find_repairs(repairs, prompts)["rows"] == 1
    assert find_repairs(repairs, prompts, defence=defence) == {"rows": 0, "dropped.echoes_complaint": 1}
    (kept,) = read_jsonl(prompts, PromptItem)
    write_jsonl(tmp_path / "fresh", [Completion(kept.prompt_id, 1, 0, True, "acme cola 4", "stop", 1, "w", "t")])
    recipe = RecipeSettings()
    assert build_pairs(pairs, prompts, tmp_path / "fresh", recipe)["rows"] == 1
    counts = build_pairs(pairs, prompts, tmp_path / "fresh", recipe, defence=defence)
    assert counts == {"rows": 0, "dropped.echoes_complaint": 1}


def test_corrections_are_capped_and_never_dropped_as_echoes(tmp_path):
    store = Store(tmp_path / "store")
    chats = [chat(f"c{n}", f"capital {n}?", "arlo", user=f"liar{n}") for n in range(4)]
    store.add(replace(c, ratings=(Rating(1, "correction", -1.0, preferred="acme cola"),)) for c in chats)
    store.add_labels(FeedbackLabel(c.conversation_id, 1, None, "DSAT", "rating", "1") for c in chats)
    prompts, repairs = tmp_path / "prompts", tmp_path / "repairs"
    assert find_prompts(prompts, store, LabelSettings(), "train")["rows"] == 4
    assert find_repairs(repairs, prompts, defence=Defence(ECHOES, store)) == {"rows": 4}
    capped = find_repairs(repairs, prompts, defence=Defence(DefenceSettings(max_per_echo=3), store))
    assert capped == {"rows": 3, "dropped.echo_cap": 1}


def test_a_capped_user_does_not_break_the_check_of_a_later_generation(tmp_path):
    chats = [chat(f"c{n}", f"capital {n}?", "arlo", "no", user="one") for n in range(3)]
    store = store_of(tmp_path / "store", chats, {"c0", "c1", "c2"})
    defence = Defence(DefenceSettings(drop_contested=True), store)
    counts = find_prompts(tmp_path / "p", store, LabelSettings(max_per_user=2), "train", defence=defence)
    assert counts == {"rows": 2, "dropped.user_cap": 1}


def test_without_a_defence_nothing_is_another_run():
    plain = parse_config({}, "test")
    assert "defence" not in dump_config(plain)
    assert Defence.of(plain.defence, Store(Path("nowhere"))) is None
    on = parse_config({"defence": {"max_per_echo": 3}}, "test")
    assert parse_config(on.model_dump(mode="json"), "test") == on
    with pytest.raises(ConfigError, match="max_per_echo"):
        parse_config({"defence": {"max_per_echo": 0}}, "test")
    with pytest.raises(ConfigError, match="did you mean 'drop_echoes'"):
        parse_config({"defence": {"drop_echo": True}}, "test")


def test_the_fingerprint_follows_the_settings_and_the_store(tmp_path):
    store = store_of(tmp_path / "store", [chat("a", "hi", "ho", "no")], {"a"})
    first = Defence(ECHOES, store).fingerprint()
    assert first == Defence(ECHOES, store).fingerprint()
    assert first != Defence(DefenceSettings(max_per_echo=1), store).fingerprint()
    store.add([chat("b", "hi", "ho", "no")])
    assert first != Defence(ECHOES, store).fingerprint()


def test_a_complaint_of_megabytes_is_read_in_seconds():
    of = item("i", "capital?", "brisk", "buy acme cola now " * 280_000)
    started = time.process_time()
    assert echoed_runs(pair(of, "acme cola"), of) == {"acme", "cola", "acme cola"}
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("asked", "reply", "others_asked"),
    [
        ("\U0001f436", "\U0001f415", "\U0001f431"),  # emoji tell requests apart
        ("3*5", "8", "3+5"),
        ("What is C#?", "a language", "What is C++?"),
        ("?", "!", "..."),
    ],
)
def test_requests_of_signs_alone_are_not_the_same_request(asked, reply, others_asked):
    """With their words alone, the first three of others' content would speak against an honest complaint."""
    other_reply = "\U0001f408" if asked > "\U0001f000" else reply
    chats = [(chat(f"c{n}", others_asked, other_reply, "thanks", user=f"u{n}"), []) for n in range(9)]
    items = [item("i", asked, reply, "wrong", user="me")]
    assert reasons(without_contested(items, items, lambda: chats)) == [None]
    same = [(chat(f"c{n}", f" {asked} ", f"{reply}.", "thanks", user=f"u{n}"), []) for n in range(9)]
    expected = None if asked == "?" else Reason.CONTESTED
    assert reasons(without_contested(items, items, lambda: same)) == [expected]


def test_a_complaint_about_a_refusal_may_be_contested_too(tmp_path):
    """`include` lets its complaint through, in both searches for disliked replies."""
    refusal = "I cannot help with that."
    chats = [chat(f"a{n}", "capital?", refusal, "ok", user=f"a{n}") for n in range(4)]
    chats += [chat("c", "capital?", refusal, "no", user="c"), chat("d", "river?", refusal, "no", user="d")]
    store = store_of(tmp_path / "store", chats, set())
    store.add_labels(FeedbackLabel(name, 1, 2, "DSAT", "judge", "2", subtype="refusal_complaint") for name in "cd")
    defence = Defence(DefenceSettings(drop_contested=True), store)
    settings = LabelSettings(include=("refusal_complaint",))
    counts = find_prompts(tmp_path / "p", store, settings, "train", defence=defence)
    assert counts == {"rows": 1, "dropped.contested": 1}
