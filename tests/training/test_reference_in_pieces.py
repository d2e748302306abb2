"""The reference's log-probs by several workers: the file that one process writes, byte for byte."""

from pathlib import Path

import pytest

from drift.config import PolicySettings, TrainerSettings
from drift.engine import using_engine
from drift.policy import spread
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.training import reference
from drift.training.reference import ReferenceSettings, measure_reference
from policy.samplers.test_spread import TwoModels


def pair(n: int) -> PreferencePair:
    asked, *replies = (
        (ChatMessage(role, text),)
        for role, text in (
            ("user", f"question {n} " + "why " * (n % 4)),
            ("assistant", "yes " * (1 + n % 3)),
            ("assistant", "no, never"),
        )
    )
    return PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", asked, *replies)


@pytest.mark.parametrize("loss", ["sigmoid", "kto"])
def test_the_same_file(tiny_policy: Path, tmp_path: Path, loss: str):
    write_jsonl(tmp_path / "pairs.jsonl", [pair(n) for n in range(12)])
    settings = ReferenceSettings.of(TrainerSettings(micro_batch_tokens=60, loss=loss), PolicySettings())

    def measured(name: str) -> tuple[object, bytes]:
        counts = measure_reference(tmp_path / name, (tiny_policy, tiny_policy), tmp_path / "pairs.jsonl", settings)
        return counts, (tmp_path / name).read_bytes()

    expected = measured("one")
    for held in (spread._load, reference._packed):
        held.cache_clear()
    engine = TwoModels()
    with using_engine(engine):
        assert measured("two") == expected
    assert len(engine.done) > 4
