"""What a finished run says of itself in `--json` and `drift runs`: the figures of the base and of the kept policy."""

from pathlib import Path

import pytest

from drift.evaluation.evaluate import copy_evaluation
from drift.evaluation.results import Evaluation, PreferenceResult, ReplyStatistics, write_result
from drift.progress import listening
from drift.records import Counts
from drift.report.contents import read_contents
from drift.run import OF_PREFERENCE, OF_REPLIES, _measured
from drift.rundir import RunDir


def replies(finished: float) -> ReplyStatistics:
    return ReplyStatistics(
        prompts=10, finished=finished, finished_low=0.1, finished_high=1.0, median_tokens=21.5, p90_tokens=40.25,
        repetition=0.125, same_language=0.75,
    )  # fmt: skip


def counted(out: Path, finished: float, preference: PreferenceResult | None = None) -> Counts:
    measured = Evaluation(replies=replies(finished), preference=preference)
    write_result(out.with_name("measured.json"), measured)
    return copy_evaluation(out, out.with_name("measured.json"))


def keep(out: Path, iteration: int) -> Counts:
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"kept")
    return {"iteration": iteration}


def test_how_replies_end_their_length_repetition_and_language_stand_beside_the_base(tmp_path):
    with RunDir.open(tmp_path / "run", "name: test\n", 42) as run:
        for folder, finished in (("base", 0.9), ("warm-start", 0.8)):
            run.folder(folder).stage("evaluation.json", counted, finished)
        run.iteration(1).stage("evaluation.json", counted, 0.7)
        run.stage("policy", keep, 1)
    measured = _measured(read_contents(tmp_path / "run"))
    figures = {"median_tokens": 21.5, "p90_tokens": 40.2, "repetition": 0.125, "same_language": 0.75}
    assert measured == {"base": {"finished": 0.9, **figures}, "kept": {"finished": 0.7, **figures}}
    assert set(OF_REPLIES) == measured["base"].keys()


def test_where_no_iteration_is_kept_the_warm_start_counts(tmp_path):
    with RunDir.open(tmp_path / "run", "name: test\n", 42) as run:
        for folder, finished in (("base", 0.9), ("warm-start", 0.8)):
            run.folder(folder).stage("evaluation.json", counted, finished)
        run.stage("policy", keep, 0)
    assert _measured(read_contents(tmp_path / "run"))["kept"]["finished"] == 0.8


def preference(accuracy: float, pairs: int, length: float) -> PreferenceResult:
    return PreferenceResult(
        accuracy=accuracy, accuracy_low=accuracy - 0.02, accuracy_high=1.0, margin=1.0, logps_chosen=-3.0, pairs=pairs,
        length_accuracy=length,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kept", "quoted", "note"),
    [
        (preference(0.9, 50, 0.6), True, None),
        (preference(0.96, 50, 0.98), False, "length alone tells the fresh reply from the disliked one in 98 %"),
        (preference(1.0, 2, 0.5), False, "only 2 pairs are held out"),
    ],
)
def test_preference_accuracy_is_quoted_only_where_it_says_something(tmp_path, kept, quoted, note):
    with RunDir.open(tmp_path / "run", "name: test\n", 42) as run:
        run.folder("base").stage("evaluation.json", counted, 0.9, preference(0.5, kept.pairs, kept.length_accuracy))
        run.iteration(1).stage("evaluation.json", counted, 0.7, kept)
        run.stage("policy", keep, 1)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        measured = _measured(read_contents(tmp_path / "run"))
    assert [name in figures for figures in measured.values() for name in OF_PREFERENCE] == [quoted] * 4
    assert measured["kept"]["finished"] == 0.7
    assert [note in each for each in notes] == [True] * (note is not None)
