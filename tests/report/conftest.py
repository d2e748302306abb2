"""A small run folder with every file that the report reads. A test may give each text in it, to make it hostile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import pytest
from markupsafe import Markup

from drift.evaluation.results import Evaluation, PreferenceResult, SampleResult, UtilityResult, write_result
from drift.records import ChatMessage, Counts, FeedbackLabel, PreferencePair, PromptItem, write_jsonl
from drift.report import page
from drift.report.figures import phases_chart, steps_chart
from drift.report.files import Funnel, FunnelStep
from drift.rundir import RunDir


@dataclass(frozen=True)
class Texts:
    request: str = "Name the capital of Peru as JSON."
    rejected: str = "It is Lima."
    complaint: str = "No. I said JSON, please."
    evidence: str = "I said JSON"
    subtype: str = "reformulate"
    sampled: str = "Lima"
    reason: str = "duplicate_prompt"
    number: str = "pairs"
    label_hash: str = "3f9ac1"


def write_data(out: Path, *texts: str) -> Counts:
    said = Texts(*texts)
    prompt = (ChatMessage("user", "hello"), ChatMessage("assistant", "hi"), ChatMessage("user", said.request))
    item = PromptItem(
        prompt_id="p1",
        conversation_id="c1",
        reply_index=3,
        prompt=prompt,
        split="train",
        rejected=ChatMessage("assistant", said.rejected),
        complaint=ChatMessage("user", said.complaint),
        p_dsat=0.9,
    )
    label = FeedbackLabel("c1", 3, 4, "DSAT", "embedded", "1", said.subtype, 0.9, 0.0, said.evidence)
    write_jsonl(out.parent / "labels.jsonl", [label, FeedbackLabel("c2", 1, 2, "SAT", "rating", "1")])
    funnel = Funnel(steps=(FunnelStep(name=said.request, count=9, note=said.request),), drops={said.reason: 4})
    (out.parent / "funnel.json").write_text(funnel.model_dump_json())
    (out.parent / "label_quality.json").write_text('{"precision": 0.93, "recall": 0.87, "n": 200, "seed": 1}')
    return {"rows": write_jsonl(out, [item]), said.reason: 4}


def evaluate(out: Path, utility: float, *texts: str) -> Counts:
    said = Texts(*texts)
    sample = SampleResult(
        prompt=(ChatMessage("user", said.request),), completion=f"{said.sampled} {utility}", utility=utility
    )
    measured = UtilityResult(
        temperature=1.0, mean=utility, low=utility - 0.02, high=utility + 0.02, prompts=2, scores=(utility,) * 2
    )
    preference = PreferenceResult(
        accuracy=0.5, accuracy_low=0.4, accuracy_high=0.6, margin=0.1, logps_chosen=-30.0, pairs=20
    )
    write_result(out, Evaluation(preference=preference, utility=(measured,), samples=(sample,)))
    return {}


def write_pairs(out: Path) -> Counts:
    prompt = (ChatMessage("user", "x"),)
    lengths = ((10, 30), (20, 30), (60, 90))
    rows = [
        PreferencePair(
            pair_id=f"pair-{i}",
            prompt_id="p1",
            conversation_id="c1",
            reply_index=3,
            recipe="drift",
            iteration=1,
            policy_id="h",
            prompt=prompt,
            chosen=(ChatMessage("assistant", "a" * chosen),),
            rejected=(ChatMessage("assistant", "b" * rejected),),
        )
        for i, (chosen, rejected) in enumerate(lengths)
    ]
    return {"rows": write_jsonl(out, rows)}


def train(out: Path) -> Counts:
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"weights")
    rows = [{"step": i, "loss": 0.69, "rewards/margins": i / 10, "grad_norm": 1.5, "other": "x"} for i in (1, 2, 3)]
    rows[-1] |= {"sigma/mean": 0.4, "logps/chosen_since_warm_start": 1.25, "logps/rejected_since_warm_start": -2.5}
    lemma = [{"step": i, "lemma_1/gradient_norm": 3.5, "lemma_1/bound": 0.75, "lemma_1/p0": 0.9} for i in (0, 3)]
    write_jsonl(out.parent / "metrics.jsonl", [lemma[0], *rows, lemma[1]])
    return {"steps": 3}


def keep(out: Path, iteration: int) -> Counts:
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"kept")
    return {"iteration": iteration}


@pytest.fixture
def text_names() -> list[str]:
    return [field.name for field in fields(Texts)]


@pytest.fixture(scope="session")
def make_run_in() -> Callable[..., Path]:
    """`make_run_in(folder, *texts)`: the run, in a folder of any test's own."""

    def make(
        folder: Path, *texts: str, name: str = "run", config: str = "name: test\n", kept: int | None = None
    ) -> Path:
        said = Texts(*texts)
        with RunDir.open(folder / name, config, 42) as run:
            run.pin(label_hash=said.label_hash)
            run.headline(**{said.number: 3})
            run.stage("data/prompts.jsonl", write_data, *texts)
            run.stage("base/evaluation.json", evaluate, 0.55, *texts)
            it = run.iteration(1)
            it.stage("pairs.jsonl", write_pairs)
            it.stage("policy", train)
            it.stage("evaluation.json", evaluate, 0.75, *texts)
            if kept is not None:
                run.iteration(2).stage("evaluation.json", evaluate, 0.65, *texts)
                run.stage("policy", keep, kept)
        return folder / name

    return make


@pytest.fixture
def make_run(tmp_path: Path, make_run_in: Callable[..., Path]) -> Callable[..., Path]:
    return partial(make_run_in, tmp_path)


DRAWN: dict[str, Markup] = {}


@pytest.fixture(scope="session", autouse=True)
def equal_charts_are_drawn_once() -> Iterator[None]:
    """Most runs here have the same figures, and their charts are what takes long in a report."""

    def once(draw: Callable[..., Markup], *figures: object) -> Markup:
        key = f"{draw.__name__}{figures}"
        if key not in DRAWN:
            DRAWN[key] = draw(*figures)
        return DRAWN[key]

    with pytest.MonkeyPatch.context() as patch:
        for draw in (phases_chart, steps_chart):
            patch.setattr(page, draw.__name__, partial(once, draw))
        yield
