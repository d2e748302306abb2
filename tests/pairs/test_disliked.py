from dataclasses import replace

import pytest

from drift.config import LabelSettings
from drift.feedback.label import labels_from_ratings
from drift.pairs.disliked import LabelReliability, label_noise, prompt_items
from drift.pairs.find import _unseen
from drift.pairs.liked import liked_items
from drift.pairs.stages import find_prompts, find_repairs, label_reliability
from drift.pairs.unjudged import follow_up_items
from drift.records import (
    ChatMessage,
    Conversation,
    Drop,
    FeedbackLabel,
    FunctionCall,
    Message,
    PromptItem,
    Rating,
    Reason,
    ToolCall,
    stable_hash,
)
from drift.store import Review, Reviews, Store

A_CHAT = ("sort b a", "b a", "that is not sorted", "a b", "thanks")


def conversation(*texts: str, name: str = "c", first: str = "user", ratings: tuple[Rating, ...] = ()) -> Conversation:
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    messages = tuple(Message(roles[i % 2], text, source_index=i) for i, text in enumerate(texts))
    return Conversation(name, "test", name, messages, "train", user_key="u", ratings=ratings)


def label(reply: int, verdict: str, p: float | None = 0.9, user: int | None = -1, name: str = "c") -> FeedbackLabel:
    said = reply + 1 if user == -1 else user
    return FeedbackLabel(name, reply, said, verdict, "embedded", "1", p_dsat=p)


def test_a_correction_is_what_the_user_would_have_had():
    ratings = (Rating(1, "correction", -1.0, preferred="a, b"),)
    told = replace(label(1, "DSAT", p=None), labeller="rating")
    (item,) = prompt_items([(conversation(*A_CHAT, ratings=ratings), [told, label(3, "SAT")])], 0.5)
    assert isinstance(item, PromptItem)
    assert item.preferred == ChatMessage("assistant", "a, b")
    assert item.complaint == ChatMessage("user", "that is not sorted")


def test_a_disliked_reply_becomes_an_item_with_its_request_complaint_and_revision():
    (item,) = prompt_items([(conversation(*A_CHAT), [label(1, "DSAT"), label(3, "SAT")])], 0.5)
    assert isinstance(item, PromptItem)
    assert item.prompt == (ChatMessage("user", "sort b a"),)
    assert item.rejected == ChatMessage("assistant", "b a")
    assert item.complaint == ChatMessage("user", "that is not sorted")
    assert item.preferred == ChatMessage("assistant", "a b")
    assert (item.user_key, item.split, item.p_dsat) == ("u", "train", 0.9)


def test_a_reply_disliked_twice_is_no_revision():
    items = list(prompt_items([(conversation(*A_CHAT), [label(1, "DSAT"), label(3, "DSAT")])], 0.5))
    assert [item.preferred for item in items] == [None, None]
    assert items[1].prompt[1:] == (ChatMessage("assistant", "b a"), ChatMessage("user", "that is not sorted"))


def test_a_better_reply_right_after_the_disliked_one_is_a_revision_too():
    messages = (Message("user", "hi"), Message("assistant", "go away"), Message("assistant", "hello"))
    chat = Conversation("c", "test", "c", messages, "train")
    labels = [label(1, "DSAT", p=None, user=None), label(2, "SAT", p=None, user=None)]
    (item,) = prompt_items([(chat, labels)], 0.5)
    assert isinstance(item, PromptItem)
    assert item.preferred == ChatMessage("assistant", "hello")


def test_labels_below_the_threshold_are_left_alone_but_a_persons_label_counts():
    chat = conversation(*A_CHAT)
    assert list(prompt_items([(chat, [label(1, "DSAT", p=0.4)])], 0.5)) == []
    assert len(list(prompt_items([(chat, [label(1, "DSAT", p=None)])], 0.5))) == 1


def test_every_drop_is_named():
    greeted = conversation("Hello, how can I help?", "wrong!", first="assistant")
    silent = conversation("hi", "  ", "hello?")
    drops = list(prompt_items([(greeted, [label(0, "DSAT")]), (silent, [label(1, "DSAT")])], 0.5))
    assert [drop.reason for drop in drops if isinstance(drop, Drop)] == [Reason.NO_REQUEST, Reason.EMPTY_REJECTED]


def test_the_same_prompt_with_the_same_reply_counts_once():
    twice = [(conversation(*A_CHAT, name=name), [label(1, "DSAT", name=name)]) for name in ("c", "d")]
    first, second = prompt_items(twice, 0.5)
    assert isinstance(first, PromptItem)
    assert isinstance(second, Drop)
    assert second.reason == Reason.DUPLICATE_PROMPT


def test_no_user_gives_more_than_the_cap_and_unknown_users_are_not_one():
    users = ["ann", "ann", "ann", "bob", None, None, None]
    told = [
        (replace(conversation(f"q{n}", "bad", "no", name=str(n)), user_key=user), [label(1, "DSAT", name=str(n))])
        for n, user in enumerate(users)
    ]
    rows = list(prompt_items(told, 0.5, max_per_user=2))
    assert [row.conversation_id for row in rows if isinstance(row, PromptItem)] == ["0", "1", "3", "4", "5", "6"]
    assert [row.reason for row in rows if isinstance(row, Drop)] == [Reason.USER_CAP]
    assert len([row for row in prompt_items(told, 0.5) if isinstance(row, PromptItem)]) == len(users)


def test_the_paths_of_one_chat_share_the_cap_of_its_unknown_user():
    """A session, which many people may share, is no user."""
    paths = [replace(conversation("q", f"bad {n}", "no", name=f"{n}"), user_key=None, family="tree") for n in range(4)]
    alone = [replace(path, family=None) for path in paths]
    session = [replace(path, messages=conversation(f"q{n}", "bad", "no").messages) for n, path in enumerate(paths)]
    for chats, within in ((paths, 2), (alone, 4), (session, 4)):
        disliked = [(one, [label(1, "DSAT", name=one.conversation_id)]) for one in chats]
        liked = [(one, [label(1, "SAT", name=one.conversation_id)]) for one in chats]
        followed = follow_up_items([(one, []) for one in chats], max_per_user=2)
        for rows in (prompt_items(disliked, 0.5, max_per_user=2), liked_items(liked, max_per_user=2), followed):
            assert sum(isinstance(row, PromptItem) for row in rows) == within


def test_a_thumb_without_a_message_complains_with_its_comment():
    chat = conversation("hi", "go away", ratings=(Rating(1, "thumb", -1.0, "rude"),))
    thumb = replace(label(1, "DSAT", p=None, user=None), labeller="rating")
    (item,) = prompt_items([(chat, [thumb])], 0.5)
    assert isinstance(item, PromptItem)
    assert item.complaint == ChatMessage("user", "rude")


@pytest.mark.parametrize(
    ("ratings", "complaint"),
    [
        ([Rating(1, "score", 1.0, "The answer is correct and polite."), Rating(1, "thumb", -1.0)], None),
        ([Rating(1, "score", -1.0, "Off topic."), Rating(1, "thumb", -1.0)], None),  # an annotator's words
        ([Rating(1, "thumb", 1.0, "Great!"), Rating(1, "thumb", -1.0)], None),
        ([Rating(1, "thumb", -1.0, "rude"), Rating(1, "thumb", -1.0, "rude, and wrong")], "rude, and wrong"),
        ([Rating(1, "thumb", -1.0, "rude"), Rating(1, "correction", -1.0, preferred="hello")], "rude"),
        ([Rating(3, "thumb", -1.0, "of another reply"), Rating(1, "thumb", -1.0)], None),
    ],
)
def test_only_the_users_own_dislike_brings_a_complaint(ratings, complaint):
    chat = conversation("hi", "go away", "ok", "bye", ratings=tuple(ratings))
    counts = [rated for rated in labels_from_ratings(chat) if rated.reply_index == 1 and rated.labeller == "rating"][-1]
    (item,) = prompt_items([(chat, [counts])], 0.5)
    assert isinstance(item, PromptItem)
    assert item.complaint == (complaint and ChatMessage("user", complaint))


def test_noise_is_half_the_chance_that_nobody_complained():
    assert label_noise(None) == 0.0
    assert label_noise(1.0) == 0.0
    assert label_noise(0.6) == 0.2


def test_a_held_out_request_that_is_trained_on_is_dropped_by_name():
    item = PromptItem("p", "c", 1, (ChatMessage("user", "2+2?"),), "test", rejected=ChatMessage("assistant", "5"))
    other = replace(item, prompt_id="q", prompt=(ChatMessage("user", "2+3?"),))
    rows = list(_unseen([item, other], {int(stable_hash(item.prompt), 16)}))
    assert rows == [Drop("p", Reason.SEEN_IN_TRAINING), other]


@pytest.mark.parametrize("subtype", ["refusal_complaint", "user_mistaken", "abuse", "toxic"])
def test_complaints_that_must_not_teach_are_kept_out_by_name_unless_asked_for(subtype):
    told = [(conversation(*A_CHAT), [replace(label(1, "DSAT"), subtype=subtype)])]
    (drop,) = prompt_items(told, 0.5)
    assert isinstance(drop, Drop)
    assert drop.reason == Reason(subtype)
    (item,) = prompt_items(told, 0.5, LabelReliability(include=frozenset({subtype})))
    assert isinstance(item, PromptItem)


def test_flagged_turns_are_kept_out_whoever_labelled_them():
    flagged = replace(conversation(*A_CHAT), tags={"toxic": "true", "toxic_turns": "2"})
    drop, item = prompt_items(
        [(flagged, [replace(label(1, "DSAT", p=None), labeller="review"), label(3, "DSAT")])], 0.5
    )
    assert isinstance(drop, Drop)
    assert drop.reason == Reason.TOXIC
    assert isinstance(item, Drop)  # the flagged turn is its request
    last = replace(conversation(*A_CHAT, "no", "yes", "bad"), tags={"toxic_turns": "2"})
    (fine,) = prompt_items([(last, [label(5, "DSAT")])], 0.5)
    assert isinstance(fine, PromptItem)


def test_after_a_bare_thumb_the_next_turn_is_the_complaint_only_if_it_reads_as_one():
    chat = conversation(*A_CHAT, ratings=(Rating(1, "thumb", -1.0),))
    thumb = replace(label(1, "DSAT", p=None), labeller="rating")
    (bare,) = prompt_items([(chat, [thumb])], 0.5)
    (reasoned,) = prompt_items([(chat, [replace(thumb, evidence="not sorted")])], 0.5)
    assert isinstance(bare, PromptItem)
    assert isinstance(reasoned, PromptItem)
    assert bare.complaint is None
    assert reasoned.complaint == ChatMessage("user", "that is not sorted")


def test_noise_knows_the_audits():
    assert label_noise(0.6, 0.5) == pytest.approx(0.2 + 0.3 - 1e-9, abs=0.011)  # capped below one half
    assert label_noise(0.6, 0.5) < 0.5
    assert label_noise(0.8, 0.1) == pytest.approx(0.18)
    assert label_noise(None, 0.2) == pytest.approx(0.2)
    assert LabelReliability(correction=0.5).noise(0.8) == pytest.approx(0.3)
    (item,) = prompt_items([(conversation(*A_CHAT), [label(1, "DSAT")])], 0.5, LabelReliability(fresh_not_better=0.1))
    assert isinstance(item, PromptItem)
    assert item.noise == pytest.approx(0.05 + 0.09)


def test_reviews_correct_the_labels_promise(tmp_path):
    store = Store(tmp_path / "store")
    chats = [conversation("q", f"a{n}", f"bad {n}", name=f"c{n}") for n in range(24)]
    store.add(chats)
    store.add_labels([label(1, "DSAT", p=0.8, name=f"c{n}") for n in range(24)])
    assert label_reliability(store, LabelSettings()).correction == 1.0
    for n in range(24):
        verdict = "DSAT" if n < 12 else "NEUTRAL"
        Reviews(store.path).add(Review("me", f"c{n}", 1, 2, verdict))
    assert label_reliability(store, LabelSettings()).correction == pytest.approx(0.5 / 0.8)


def chat_with(revised: Message, **tags: str) -> Conversation:
    chat = conversation(*A_CHAT)
    messages = (*chat.messages[:3], replace(revised, source_index=3), chat.messages[4])
    return replace(chat, messages=messages, tags=dict(tags))


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        (chat_with(Message("assistant", "a b"), toxic_turns="3"), Reason.TOXIC),
        (chat_with(Message("assistant", "a b"), media_turns="3"), Reason.NEEDS_IMAGE),
        (chat_with(Message("assistant", "a b"), media_turns="2"), Reason.NEEDS_IMAGE),  # the complaint's picture
        (chat_with(Message("assistant", "a b"), cut_turns="3"), Reason.TRUNCATED),
        (
            chat_with(Message("assistant", "", tool_calls=(ToolCall(FunctionCall("", "{}"), "k"),))),
            Reason.BROKEN_TOOL_CALL,
        ),
        (chat_with(Message("assistant", "I cannot help with that.")), Reason.CHOSEN_REFUSES),
        (chat_with(Message("assistant", " ")), Reason.EMPTY_CHOSEN),
        (chat_with(Message("assistant", "b a")), Reason.IDENTICAL_REPLIES),
        (chat_with(Message("assistant", "a b")), None),
    ],
)
def test_a_liked_reply_that_is_no_example_makes_no_repair_and_is_counted(tmp_path, chat, reason):
    store, prompts = Store(tmp_path / "store"), tmp_path / "prompts.jsonl"
    store.add([chat])
    store.add_labels([label(1, "DSAT"), label(3, "SAT")])
    assert find_prompts(prompts, store, LabelSettings(), "train")["rows"] == 1
    counts = find_repairs(tmp_path / "repairs.jsonl", prompts)
    assert counts == ({"rows": 1} if reason is None else {"rows": 0, f"dropped.{reason}": 1})


def test_an_equal_reply_later_on_does_not_stand_in_for_the_revision():
    """The first of two equal replies was cut, the liked one was not."""
    chat = conversation("x", "a b", "no, sort b a", "b a", "that is not sorted", "a b", "thanks")
    chat = replace(chat, tags={"cut_turns": "1"})
    (item,) = prompt_items([(chat, [label(3, "DSAT"), label(5, "SAT")])], 0.5)
    assert isinstance(item, PromptItem)
    assert (item.preferred, item.no_repair) == (ChatMessage("assistant", "a b"), None)


def test_instructions_of_the_application_stand_between_turns():
    context = Message("system", "It is noon.")
    said = conversation(*A_CHAT).messages
    chat = replace(conversation(), messages=tuple(m for message in said for m in (context, message)))
    judged = [replace(label(3, "DSAT"), user_index=5), replace(label(7, "SAT"), user_index=9)]
    (item,) = prompt_items([(chat, judged)], 0.5)
    assert isinstance(item, PromptItem)
    assert (item.preferred, item.complaint) == (said[3].chat(), said[2].chat())
    followed = [item for item in follow_up_items([(chat, [])]) if isinstance(item, PromptItem)]
    assert [item.complaint for item in followed] == [said[2].chat(), said[4].chat()]
