"""Splits in time order."""

from collections import Counter

import pytest

from drift.errors import DataError
from drift.records import Conversation, Message
from drift.store import Store

MESSAGES = (Message("user", "hi"), Message("assistant", "hello"))


def fill(path, *times: str | None) -> None:
    Store(path).add(
        Conversation(f"{n * 7919 % 1000:03d}-{n}", "test", str(n), MESSAGES, "train", started_at=time)
        for n, time in enumerate(times)
    )


def test_training_is_earlier_than_what_is_held_out(tmp_path):
    fill(tmp_path / "s", *(f"2024-01-01T{n // 60:02d}:{n % 60:02d}:00+00:00" for n in range(200)), None)
    store = Store(tmp_path / "s", "time")
    assert store.counts().splits == {"train": 159 + 1, "stop": 10, "validation": 10, "test": 21}
    began = {
        split: [c.started_at for c in store.conversations(split) if c.started_at] for split in store.counts().splits
    }
    assert max(began["train"]) < min(began["stop"]) < min(began["validation"]) < min(began["test"])
    assert max(began["validation"]) < min(began["test"])
    every = list(store.conversations())
    assert [c.conversation_id for c in every] == sorted(c.conversation_id for c in every)
    assert Counter(c.split for c in every) == store.counts().splits
    assert Store(tmp_path / "s").counts().splits == {"train": 201}
    assert Store(tmp_path / "s").fingerprint() != store.fingerprint()  # a run that is held out otherwise is another run


def test_times_in_other_zones_are_compared_as_moments(tmp_path):
    fill(tmp_path / "s", *["2024-01-01T12:00:00+00:00"] * 9, "2024-01-01T12:30:00+02:00")  # 10:30 UTC: the earliest
    store = Store(tmp_path / "s", "time")
    assert "9" in {c.source_id for c in store.conversations("train")}


def test_logs_without_times_are_refused(tmp_path):
    fill(tmp_path / "s", None, "yesterday")
    with pytest.raises(
        DataError, match=r"evaluation\.split=time needs.*no conversation has one.*evaluation\.split=hash"
    ):
        list(Store(tmp_path / "s", "time").conversations("train"))
