"""What `drift live` reads out of a store: counts by hand, comparisons, audits, and stores with something missing."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from drift.errors import DataError
from drift.live.readout import read_live
from drift.records import Conversation, FeedbackLabel, Message
from drift.review.queue import build_queue
from drift.store import Review, Store
from live_stores import Deployment, days

WEEK = days(1, 7)


def test_counts_by_hand(deployment: Deployment):
    deployment.chat("old", "2026-03-01", ["DSAT", "NEUTRAL", "SAT"], user="ann", subtype="wrong", language="en")
    deployment.chat("old", "2026-03-02", ["DSAT", "ABSTAIN"], user="ann", subtype="rephrase", language="de")
    deployment.chat("new", "2026-03-02", ["NEUTRAL", None], user="bob")
    readout = read_live(deployment.store())
    old, new = readout.models
    assert (old.name, old.first_day, old.last_day, old.conversations, old.users) == ("old", *days(1, 2), 2, 1)
    assert (old.replies, old.judged, old.dsat, old.abstained, old.unlabelled) == (5, 4, 2, 1, 0)
    assert (new.replies, new.judged, new.dsat, new.abstained, new.unlabelled) == (2, 1, 0, 0, 1)
    assert old.labelled is not None
    assert (old.labelled.value, old.rate) == (0.5, None)
    assert old.kinds == {"wrong": 0.25, "rephrase": 0.25}
    assert [(part.name, part.judged, part.dsat, part.rate.value) for part in old.days] == [
        ("2026-03-01", 3, 1, 0.3333),
        ("2026-03-02", 1, 1, 1.0),
    ]
    assert {part.name: (part.judged, part.dsat) for part in old.turns} == {
        "first reply": (2, 2),
        "later replies": (2, 0),
    }
    assert {part.name: part.judged for part in old.languages} == {"de": 1, "en": 3}
    assert readout.labellers == {"embedded": 5}
    assert "1 replies that a user reacted to have no label yet" in " ".join(readout.notes)


def test_three_turns_in_all_are_too_few_and_say_so(deployment: Deployment):
    deployment.chat("old", "2026-03-01", ["DSAT"])
    deployment.chat("new", "2026-03-01", ["NEUTRAL", "NEUTRAL"])
    readout = read_live(deployment.store())
    (comparison,) = readout.comparisons
    assert (comparison.verdict, comparison.difference.low, comparison.difference.high) == ("unclear", -1.0, 1.0)
    assert not readout.is_worse
    assert any("3 judged replies in all: too few" in note for note in readout.notes)


def test_the_better_model_is_found_and_the_worse_one_alerts(deployment: Deployment):
    deployment.days("a", WEEK, 150, 60)
    deployment.days("b", WEEK, 150, 30)
    store = deployment.store()
    forth, back = read_live(store, against="a"), read_live(store, against="b")
    (comparison,) = forth.comparisons
    assert (comparison.model, comparison.against, comparison.kind, comparison.days) == ("b", "a", "same period", 7)
    assert comparison.difference.value == pytest.approx(-0.2)
    assert comparison.relative == -0.5
    assert (comparison.verdict, forth.is_worse) == ("better", False)
    assert comparison.words.startswith("users are less dissatisfied with b than with a")
    assert (back.comparisons[0].verdict, back.is_worse) == ("worse", True)


@pytest.mark.parametrize(("worse", "better"), [("candidate", "production"), ("v2-candidate", "v1-production")])
def test_an_alert_does_not_depend_on_the_alphabet(deployment: Deployment, worse: str, better: str):
    """Two arms of one test began on the same day; the worse one may be named before or after the other."""
    deployment.days(worse, WEEK, 150, 60)
    deployment.days(better, WEEK, 150, 30)
    store = deployment.store()
    assert read_live(store).is_worse
    assert read_live(store, against=better).is_worse
    assert not read_live(store, against=worse).is_worse  # the user named the one that the other is measured by


def test_arms_without_a_time_alert_in_both_orders(deployment: Deployment):
    for name, dsat in (("a", 400), ("b", 150)):
        for number in range(1000):
            deployment.chat(name, None, ["DSAT" if number < dsat else "NEUTRAL"])
    readout = read_live(deployment.store())
    assert [each.verdict for each in readout.comparisons] == ["better"]
    assert readout.is_worse


def test_looking_each_day_narrows_the_interval(deployment: Deployment):
    deployment.days("a", WEEK, 80, 20)
    deployment.days("b", WEEK, 80, 20)
    (comparison,) = read_live(deployment.store()).comparisons
    widths = [moment.difference.high - moment.difference.low for moment in comparison.over_time]
    assert [moment.day for moment in comparison.over_time] == WEEK
    assert widths == sorted(widths, reverse=True)
    assert comparison.over_time[-1].difference == comparison.difference


def test_one_model_after_the_other_is_a_comparison_of_periods(deployment: Deployment):
    deployment.days("old", days(1, 7), 100, 40)
    deployment.days("new", days(7, 14), 100, 20)
    (comparison,) = read_live(deployment.store()).comparisons
    assert (comparison.kind, comparison.judged, comparison.left_out) == ("periods", (700, 800), (0, 0))
    assert comparison.over_time == ()
    assert "the rate of replies labelled DSAT is lower in the period of new" in comparison.words
    assert comparison.caveats[0].startswith("a comparison of periods: old and new did not run on the same days.")


def test_a_canary_is_compared_on_its_own_days_alone(deployment: Deployment):
    """Bad days before the canary began say nothing about it."""
    deployment.days("old", days(1, 5), 100, 90)
    deployment.days("old", days(6, 10), 90, 18)
    deployment.days("new", days(6, 10), 10, 2)
    (comparison,) = read_live(deployment.store()).comparisons
    assert (comparison.kind, comparison.judged, comparison.left_out) == ("same period", (450, 50), (500, 0))
    assert comparison.difference.value == pytest.approx(0.0)


def test_a_few_busy_users_cannot_speak_for_others(deployment: Deployment):
    for number in range(400):
        deployment.chat(
            "ab"[number % 2], WEEK[number % 7], ["DSAT"] if number % 4 < 2 else ["SAT"], user=f"u{number % 5}"
        )
    (comparison,) = read_live(deployment.store()).comparisons
    assert any("the replies are spread as over 5 equally busy ones" in caveat for caveat in comparison.caveats)


def test_users_who_leave_silently_are_named(deployment: Deployment):
    for number in range(100):
        deployment.chat("a", WEEK[number % 7], ["NEUTRAL"])
        deployment.chat("b", WEEK[number % 7], ["NEUTRAL"])
    for place in range(1, 200, 8):  # a quarter of the chats of b end with the reply
        chat = deployment.conversations[place]
        deployment.conversations[place] = replace(chat, messages=chat.messages[:2])
    left = {chat.conversation_id for chat in deployment.conversations if len(chat.messages) == 2}
    deployment.labels = [label for label in deployment.labels if label.conversation_id not in left]
    (comparison,) = read_live(deployment.store()).comparisons
    assert any("users went on after 100% of the replies of a and 75% of b." in caveat for caveat in comparison.caveats)


# What is missing.


def test_logs_without_model_names_are_one_model(deployment: Deployment):
    deployment.chat(None, "2026-03-01", ["DSAT", "SAT"])
    readout = read_live(deployment.store())
    assert [(model.name, model.judged) for model in readout.models] == [("(no model)", 2)]
    assert readout.comparisons == ()
    assert any("the logs name no model, so all replies count as one" in note for note in readout.notes)


def test_replies_without_a_name_are_counted_and_compared_with_none(deployment: Deployment):
    deployment.days("a", WEEK, 5, 1)
    deployment.chat(None, "2026-03-01", ["DSAT", "DSAT", "DSAT"])
    deployment.days("b", WEEK, 5, 1)
    readout = read_live(deployment.store())
    assert [model.name for model in readout.models] == ["a", "b", "(no model)"]
    assert [(c.against, c.model) for c in readout.comparisons] == [("a", "b")]
    assert "3 judged replies have no model and are compared with none." in readout.notes


def test_logs_without_times_give_no_days(deployment: Deployment):
    for number in range(60):
        deployment.chat("ab"[number % 2], None, ["DSAT" if number % 3 else "SAT"])
    readout = read_live(deployment.store())
    (comparison,) = readout.comparisons
    assert (comparison.kind, comparison.days, comparison.over_time) == ("periods", 0, ())
    assert "a and b have no times in the logs" in comparison.caveats[0]
    assert "60 of 60 judged replies have no time, so they are in no day." in readout.notes
    assert all(model.days == () for model in readout.models)


def test_labels_of_two_versions_are_not_compared(deployment: Deployment):
    deployment.chat("a", "2026-03-01", ["DSAT"], version="1")
    deployment.chat("b", "2026-03-01", ["SAT", "SAT"], version="2")
    with pytest.raises(
        DataError, match=r"several versions of the labeller embedded \(1: 1, 2: 2\).*drift label --store"
    ):
        read_live(deployment.store())


def test_a_store_that_lost_its_conversations(deployment: Deployment):
    deployment.chat("a", "2026-03-01", ["DSAT", "SAT"])
    deployment.chat("b", "2026-03-01", ["SAT"])
    store = deployment.store()
    manifest = deployment.path / "manifest.json"
    lost = orjson.loads(manifest.read_bytes()) | {"conversations": []}
    manifest.write_bytes(orjson.dumps(lost))
    with pytest.raises(DataError, match=r"has lost its conversations: none is left of 3 labels. Put its folder"):
        read_live(store)


def test_labels_whose_conversation_is_gone_are_counted(deployment: Deployment):
    deployment.chat("a", "2026-03-01", ["DSAT", "SAT"])
    deployment.chat("b", "2026-03-01", ["SAT"])
    deployment.conversations.pop()
    assert read_live(deployment.store()).left_out == {"labels_without_conversation": 1}


def test_an_empty_store_and_one_without_labels(deployment: Deployment):
    with pytest.raises(DataError, match="holds no conversations"):
        read_live(deployment.store())
    deployment.chat("a", "2026-03-01", [None])
    with pytest.raises(DataError, match=r"holds no label yet\. Run `drift label --store"):
        read_live(deployment.store())


def test_where_nobody_reacted_another_labelling_would_find_nothing(tmp_path):
    store = Store(tmp_path / "store")
    store.add([Conversation("c", "messages", "c", (Message("user", "hi"), Message("assistant", "hello")), "train")])
    with pytest.raises(DataError, match="in none of its 1 conversations did a user write another message"):
        read_live(store)


def test_by_tag_and_by_source(deployment: Deployment):
    deployment.chat("a", "2026-03-01", ["DSAT"], tags={"prompt": "short"})
    deployment.chat("a", "2026-03-02", ["SAT"], tags={"prompt": "long"})
    store = deployment.store()
    assert [model.name for model in read_live(store, by="prompt").models] == ["short", "long"]
    assert [model.name for model in read_live(store, by="source").models] == ["messages"]
    with pytest.raises(DataError, match=r"--by variant: no conversation has this tag. Tags in .*: prompt"):
        read_live(store, by="variant")


def test_ids_cannot_be_compared(deployment: Deployment):
    for number in range(41):
        deployment.chat(f"m{number}", "2026-03-01", ["SAT"])
    with pytest.raises(DataError, match="--by model: 41 different values"):
        read_live(deployment.store())


def test_a_rating_without_a_word_is_counted_apart(deployment: Deployment):
    name = deployment.chat("a", "2026-03-01", ["SAT"])
    deployment.labels.append(FeedbackLabel(name, 3, None, "DSAT", "rating", "1"))
    (model,) = read_live(deployment.store()).models
    assert (model.judged, model.dsat, model.rated_only) == (1, 0, {"DSAT": 1})


# The labeller's errors.


def gold_file(path: Path, truths: list[tuple[str, int, str]]) -> Path:
    rows = ({"source_id": name, "message_index": index, "label": label} for name, index, label in truths)
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    return path


def test_gold_rows_correct_the_rates(deployment: Deployment, tmp_path: Path):
    """Of 100 labelled DSAT on each day 80 are; of 400 others 20 are DSAT: the true rate is 100 of 500."""
    truths = []
    for day in days(1, 4):
        for number in range(500):
            name = deployment.chat("a", day, ["DSAT" if number < 100 else "NEUTRAL"])
            is_dsat = number < 80 or number >= 480
            truths.append((name, 2, "DSAT" if is_dsat else "NEUTRAL"))
    store = deployment.store()
    audited = gold_file(tmp_path / "gold.jsonl", [*truths[::4], ("elsewhere", 2, "DSAT"), ("more", 0, "DISPUTED")])
    readout = read_live(store, gold=audited)
    (model,) = readout.models
    assert readout.errors is not None
    assert (readout.errors.source, readout.errors.audited) == ("gold", 500)
    assert readout.errors.sensitivity.value == pytest.approx(0.8, abs=0.01)
    assert readout.errors.specificity.value == pytest.approx(0.95, abs=0.01)
    assert model.rate is not None
    assert model.rate.value == pytest.approx(0.2, abs=0.005)
    assert model.rate.low < 0.2 < model.rate.high
    assert model.labelled is not None
    assert model.labelled.value == 0.2
    assert readout.left_out == {"gold_rows_disputed": 1, "gold_rows_not_in_store": 1}


def test_reviews_correct_a_difference(deployment: Deployment):
    """The labeller calls 60 % of the dissatisfied and 10 % of the others: .3 and .1 are seen as .25 and .15."""
    truth: dict[str, bool] = {}
    for model, rate in (("a", 0.3), ("b", 0.1)):
        for number in range(600):
            is_dsat = number < 600 * rate
            called = number % 10 < 6 if is_dsat else number % 10 == 0
            truth[deployment.chat(model, WEEK[number % 7], ["DSAT" if called else "NEUTRAL"])] = is_dsat
    store = deployment.store()
    queue = build_queue(store.labels())
    for label in (*queue.disliked[:60], *queue.others[:60]):
        verdict = "DSAT" if truth[label.conversation_id] else "SAT"
        store.reviews.add(Review("ann", label.conversation_id, label.reply_index, label.user_index, verdict))
    changed = queue.others[60]
    store.reviews.add(Review("ann", changed.conversation_id, changed.reply_index, 2, "SAT", shown="of other words"))
    readout = read_live(store)
    assert readout.left_out == {"outdated_reviews": 1}
    (comparison,) = readout.comparisons
    assert readout.errors is not None
    assert (readout.errors.source, readout.errors.audited) == ("reviews", 120)
    assert comparison.labelled.value == pytest.approx(-0.1, abs=0.005)
    assert comparison.difference.low < -0.2 < comparison.difference.high < 0
    assert comparison.difference.value == pytest.approx(-0.2, abs=0.08)
    assert comparison.own_errors is False
    assert comparison.words.startswith("users are less dissatisfied with b than with a: the rate of dissatisfied users")


def test_a_labeller_that_errs_differently_on_two_models(deployment: Deployment, tmp_path: Path):
    """Both have 30 % dissatisfied users; of those of b the labeller finds half as many. Uncorrected, b looks better."""
    truths = []
    for model, found in (("a", 9), ("b", 4)):
        for number in range(1400):
            is_dsat = number % 10 < 3
            called = is_dsat and number // 10 % 10 < found
            name = deployment.chat(model, WEEK[number % 7], ["DSAT" if called else "NEUTRAL"])
            truths.append((name, 2, "DSAT" if is_dsat else "NEUTRAL"))
    store = deployment.store()
    assert read_live(store).comparisons[0].verdict == "better"
    (comparison,) = read_live(store, gold=gold_file(tmp_path / "gold.jsonl", truths[::3])).comparisons
    assert (comparison.verdict, comparison.own_errors) == ("unclear", True)
    assert comparison.difference.low < 0 < comparison.difference.high
    assert any("the labeller errs differently on the two models" in caveat for caveat in comparison.caveats)


def test_errors_of_each_model_are_corrected_within_each_day(deployment: Deployment, tmp_path: Path):
    """On a good day 10 % are dissatisfied with either model, on a bad day 50 %; b answers most on the good one. The
    labeller finds .9 of the complaints about a and .6 of those about b."""
    truths = []
    for day, rate, sizes in (("2026-03-01", 5, {"a": 1000, "b": 200}), ("2026-03-02", 1, {"a": 300, "b": 1200})):
        for model, found in (("a", 9), ("b", 6)):
            for number in range(sizes[model]):
                is_dsat = number % 10 < rate
                called = is_dsat and number // 10 % 10 < found
                name = deployment.chat(model, day, ["DSAT" if called else "NEUTRAL"])
                truths.append((name, 2, "DSAT" if is_dsat else "NEUTRAL"))
    (comparison,) = read_live(deployment.store(), gold=gold_file(tmp_path / "gold.jsonl", truths[::3])).comparisons
    assert (comparison.kind, comparison.own_errors, comparison.verdict) == ("same period", True, "unclear")
    assert comparison.difference.value == pytest.approx(0.0, abs=0.03)
    assert comparison.difference.low < 0 < comparison.difference.high


@pytest.mark.parametrize("first", ["mA", "mB"])
def test_models_without_times_come_by_name_whatever_the_store_read_first(deployment: Deployment, first: str):
    """Their order says which one is compared with the other, and so which way the difference points."""
    for model in (first, {"mA": "mB", "mB": "mA"}[first]):
        for number in range(30):
            deployment.chat(model, None, ["DSAT" if model == "mB" and number < 20 else "NEUTRAL"])
    readout = read_live(deployment.store())
    assert [model.name for model in readout.models] == ["mA", "mB"]
    assert [(each.against, each.model) for each in readout.comparisons] == [("mA", "mB")]
    assert any("no time was read from the logs" in note for note in readout.notes)
