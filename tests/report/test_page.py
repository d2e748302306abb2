"""The page says what the run folder holds, loads nothing from elsewhere, and lets no text of a log become markup."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.errors import DataError
from drift.evals.exploration.regions import RegionShare, RegionShares
from drift.evals.exploration.results import ExplorationSummary, MethodResult, read_exploration
from drift.evaluation.results import Evaluation, PreferenceResult, ReplyStatistics, write_result
from drift.records import ChatMessage, Counts, FeedbackLabel, PreferencePair, PromptItem, write_jsonl
from drift.report import write_report
from drift.report.contents import Disliked
from drift.report.page import mark_evidence
from drift.rundir import RunDir

MakeRun = Callable[..., Path]
SECTIONS = ("results", "disliked", "samples", "chosen", "exploration", "training", "data", "labels", "settings")


class Page(HTMLParser):
    """What a browser would see: tags, attributes, and the text without style sheets."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.marked: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "mark":
            self.marked.append("")

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")
        self.text += " " * (tag == "td")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags[-1:] == ["mark"]:
            self.marked[-1] += data


def test_every_section_is_there_with_its_numbers(make_run: MakeRun):
    page = Page(write_report(make_run()))
    ids = [value for name, value in page.attributes if name == "id"]
    assert [section for section in SECTIONS if section not in ids] == []
    assert page.tags.count("svg") == 7
    words = " ".join(page.text.split())
    assert "The new model is better 0.550→0.750+0.200 +0.200 to +0.200" in words
    assert "(temperature 1): base 0.550 0.530 to 0.570, iteration 1 0.750 0.730 to 0.770" in words
    assert "1 the world's truth" not in words
    assert "assumed: these pairs were not judged" in words
    assert "iteration-1/policy and loads with" in words
    assert "duplicate prompt 4" in words
    assert "iteration 1 3 20 30 3 0.690 0.300" in words  # pairs, median characters, steps, last loss, last margin
    assert "iteration 1 1.250 −2.500 0.400 3.500, 3.500 0.750, 0.750 0.900, 0.900" in words
    assert "Lima 0.55" in words
    assert "Lima 0.75" in words
    assert "name: test" in words
    assert " yet." not in words.replace("Not explored yet.", "")
    assert "iteration 1 1 0.100 1.500 0.690 – iteration 1 2 0.200 1.500 0.690 –" in words  # the numbers of the curves


def share(value: float) -> RegionShares:
    found = RegionShare(value, value - 0.01, value + 0.01)
    return RegionShares(10, found, found)


def method(reward: float, value: float) -> MethodResult:
    shares = (share(value),)
    return MethodResult(reward, 0.1, 0.2, 0.3, 0.85, 1.25, 9.0, 0.07, {1: 0.5, 4: 0.9}, shares, shares)


def test_the_exploration_map_stands_in_the_report(make_run: MakeRun):
    run = make_run()
    assert "drift eval exploration" in Page(write_report(run)).text
    places = tuple((x / 7, (x * x % 11) / 5, 0.1 + x / 40) for x in range(30))
    found = ExplorationSummary(
        methods={"base": method(0.4, 0.45), "<b>ours": method(0.7, 0.55)},
        prompts=10, samples=3, reward="oracle", embedder="embedded", good_from=1.0, figure="x.svg", left_out=0,
        points={"base": places, "<b>ours": tuple((y, x, w) for x, y, w in places)},
    )  # fmt: skip
    (run / "exploration.json").write_text(found.json())
    assert read_exploration(run / "exploration.json") == found
    page = Page(write_report(run))
    assert page.tags.count("svg") == 7 + 2
    assert "base 0.400 0.450 0.440 to 0.460 0.450 0.440 to 0.460" in " ".join(page.text.split())
    assert "<b>ours 0.500 0.900 0.850 1.250 0.070 0.100 0.200 0.300" in " ".join(page.text.split())
    (run / "exploration.json").write_text('{"methods": 3}')
    with pytest.raises(DataError, match=r"exploration\.json: invalid exploration: methods"):
        write_report(run)


def test_evidence_is_marked_in_the_complaint(make_run: MakeRun):
    page = Page(write_report(make_run()))
    assert page.marked == ["marked", "I said JSON"]
    assert "No. I said JSON, please." in page.text


ATTACK = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload=alert(1) {{ 7 * 7 }} \x00"


def test_no_text_of_a_run_becomes_markup(make_run: MakeRun, text_names: list[str]):
    harmless = Page(write_report(make_run()))
    texts = [f"{name}: {ATTACK}" for name in text_names]
    hostile = Page(write_report(make_run(*texts, name="<script>alert(2)<img src=x>", config=f"name: {ATTACK}")))
    assert set(hostile.tags) - set(harmless.tags) == set()
    assert hostile.tags.count("script") == 0
    assert [name for name, _ in hostile.attributes if name.startswith("on")] == []
    assert [name for name in text_names if f"{name}: </style></script><script>" not in hostile.text] == []
    assert "\x00" not in hostile.text


def test_nothing_is_loaded_from_elsewhere(make_run: MakeRun):
    path = write_report(make_run())
    links = [value for name, value in Page(path).attributes if name in ("src", "href", "xlink:href", "action", "data")]
    assert links
    assert [link for link in links if not link.startswith("#")] == []
    assert re.findall(r"@import|url\((?!#)", path.read_text()) == []


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun, tmp_path: Path):
    run = make_run()
    assert write_report(run, tmp_path / "a.html").read_bytes() == write_report(run, tmp_path / "b.html").read_bytes()


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), RunDir.open(tmp_path / "run", "name: test\n", 1):
        raise KeyboardInterrupt
    page = Page(write_report(tmp_path / "run"))
    assert "This run is not finished" in page.text
    for file in ("data/funnel.json", "data/labels.jsonl", "evaluation.json", "metrics.jsonl", "No policy"):
        assert file in page.text
    assert "svg" not in page.tags


def test_long_texts_are_folded_and_huge_ones_cut(make_run: MakeRun):
    page = Page(
        write_report(make_run("request", "word " * 200_000, "so long " * 500 + "I said JSON" + " and on" * 500))
    )
    assert ("data-closed", "show all 1,000,000 characters") in page.attributes
    assert "980,000 more characters" in page.text
    assert page.marked.count("I said JSON") == 2  # in the folded and in the whole text
    assert len(page.text) < 100_000


def test_a_damaged_file_is_named(make_run: MakeRun):
    run = make_run()
    (run / "iteration-1/metrics.jsonl").write_text('{"step": "first"}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:1: invalid TrainingStep: step"):
        write_report(run)
    with pytest.raises(DataError, match="not a run"):
        write_report(run / "data")


def said(complaint: str, evidence: str | None) -> Disliked:
    item = PromptItem("p", "c", 1, (), "train", complaint=ChatMessage("user", complaint))
    return Disliked(item, FeedbackLabel("c", 1, 2, "DSAT", "embedded", "1", evidence=evidence))


def test_evidence_is_found_however_it_is_spaced():
    found = mark_evidence(said("Well, THAT  is\nwrong (again)!", "that is wrong (again)"))
    assert (found.before, found.evidence, found.after) == ("Well, ", "THAT  is\nwrong (again)", "!")
    stray = mark_evidence(said("No.", "repeated request"))
    assert (stray.before, stray.evidence, stray.loose) == ("No.", "repeated request", True)
    assert mark_evidence(said("No.", None)).evidence == ""


@given(st.text(), st.text(), st.text())
def test_marking_never_changes_what_was_said(before: str, evidence: str, after: str):
    complaint = before + evidence + after
    found = mark_evidence(said(complaint, evidence))
    assert found.before + ("" if found.loose else found.evidence) + found.after == complaint
    assert not (found.loose and evidence.strip())


def write_replies(out: Path) -> Counts:
    replies = ReplyStatistics(
        prompts=3,
        finished=1.0,
        finished_low=0.9,
        finished_high=1.0,
        median_tokens=21.0,
        p90_tokens=40.0,
        repetition=0.1,
    )
    write_result(out, Evaluation(replies=replies))
    return {}


def write_liked(out: Path) -> Counts:
    reply = PreferencePair(
        pair_id="liked", prompt_id="p", conversation_id="c", reply_index=1, recipe="liked", iteration=0,
        policy_id="logs", prompt=(ChatMessage("user", "x"),), chosen=(ChatMessage("assistant", "yes"),), rejected=(),
    )  # fmt: skip
    return {"rows": write_jsonl(out, [reply])}


def train_on_liked(out: Path) -> Counts:
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"weights")
    write_jsonl(out.parent / "metrics.jsonl", [{"step": step, "loss": 2.75 - step} for step in (1, 2)])
    return {"steps": 2}


def test_a_run_without_held_out_complaints_says_so_and_shows_what_it_measured(tmp_path: Path):
    with RunDir.open(tmp_path / "run", "name: test\n", 42) as run:
        run.stage("base/evaluation.json", write_replies)
    words = " ".join(Page(write_report(tmp_path / "run")).text.split())
    assert "No complaint is held out, so there is no preference accuracy" in words
    assert "base 1 0.900 to 1" in words
    assert "No evaluation.json yet" not in words


def test_training_on_liked_replies_is_shown(tmp_path: Path):
    with RunDir.open(tmp_path / "run", "name: test\n", 42) as run:
        run.stage("base/evaluation.json", write_replies)
        liked = run.folder("liked-start")
        liked.stage("pairs.jsonl", write_liked)
        liked.stage("policy", train_on_liked)
    words = " ".join(Page(write_report(tmp_path / "run")).text.split())
    assert "liked replies – – – 2 0.750 – –" in words


def write_explained(out: Path) -> Counts:
    """Length tells the sides apart as often as the policy does."""
    preference = PreferenceResult(
        accuracy=0.96, accuracy_low=0.9, accuracy_high=1.0, margin=5.0, logps_chosen=-3.0, pairs=50,
        length_accuracy=0.98,
    )  # fmt: skip
    write_result(out, Evaluation(preference=preference))
    return {"preference_accuracy": 0.96, "length_accuracy": 0.98}


def test_an_accuracy_that_length_explains_is_not_quoted(tmp_path: Path):
    with RunDir.open(tmp_path / "explained", "name: test\n", 42) as run:
        run.headline(preference_accuracy=0.96, length_accuracy=0.98, finished=1.0)
        run.stage("base/evaluation.json", write_explained)
        run.iteration(1).stage("evaluation.json", write_explained)
    words = " ".join(Page(write_report(tmp_path / "explained")).text.split())
    assert "length alone tells the fresh reply from the disliked one in 98 % of the held-out pairs" in words
    assert "0.960" not in words.rsplit("Settings and versions", 1)[0]  # what stages counted is listed there
    assert "No complaint is held out" not in words


def write_preference(out: Path, accuracy: float, length: float) -> Counts:
    preference = PreferenceResult(
        accuracy=accuracy, accuracy_low=accuracy - 0.02, accuracy_high=1.0, margin=5.0, logps_chosen=-3.0, pairs=50,
        length_accuracy=length,
    )  # fmt: skip
    write_result(out, Evaluation(preference=preference))
    return {}


def keep(out: Path, iteration: int) -> Counts:
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"kept")
    return {"iteration": iteration}


@pytest.mark.parametrize(("accuracies", "quoted"), [((0.80, 0.99), False), ((0.99, 0.80), True)])
def test_whether_length_explains_is_asked_of_the_kept_policy(tmp_path: Path, accuracies: tuple, quoted: bool):
    """Iteration 1 is kept, of two; length reaches .8."""
    with RunDir.open(tmp_path / "run", "name: test\n", 42) as run:
        run.stage("base/evaluation.json", write_preference, 0.7, 0.8)
        for k, accuracy in enumerate(accuracies, 1):
            run.iteration(k).stage("evaluation.json", write_preference, accuracy, 0.8)
        run.stage("policy", keep, 1)
    words = " ".join(Page(write_report(tmp_path / "run")).text.split())
    assert ("Preference accuracy is not shown, because it says nothing here: length alone" in words) is not quoted
    assert (f"iteration 1 {accuracies[0]:.3f} {accuracies[0] - 0.02:.3f} to" in words) is quoted
