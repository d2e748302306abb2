"""What a finished run says of itself in `--json` and `drift runs`: the figures of the base and of the kept policy."""

from pathlib import Path

from drift.evaluation.evaluate import copy_evaluation
from drift.evaluation.results import Evaluation, ReplyStatistics, write_result
from drift.records import Counts
from drift.run import OF_REPLIES, _measured
from drift.rundir import RunDir, load_run


def replies(finished: float) -> ReplyStatistics:
    return ReplyStatistics(
        prompts=10, finished=finished, finished_low=0.1, finished_high=1.0, median_tokens=21.5, p90_tokens=40.25,
        repetition=0.125, same_language=0.75,
    )  # fmt: skip


def counted(out: Path, finished: float) -> Counts:
    write_result(out.with_name("measured.json"), Evaluation(replies=replies(finished)))
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
    measured = _measured(load_run(tmp_path / "run"))
    figures = {"median_tokens": 21.5, "p90_tokens": 40.2, "repetition": 0.125, "same_language": 0.75}
    assert measured == {"base": {"finished": 0.9, **figures}, "kept": {"finished": 0.7, **figures}}
    assert set(OF_REPLIES) == measured["base"].keys()


def test_where_no_iteration_is_kept_the_warm_start_counts(tmp_path):
    with RunDir.open(tmp_path / "run", "name: test\n", 42) as run:
        for folder, finished in (("base", 0.9), ("warm-start", 0.8)):
            run.folder(folder).stage("evaluation.json", counted, finished)
        run.stage("policy", keep, 0)
    assert _measured(load_run(tmp_path / "run"))["kept"]["finished"] == 0.8
