"""`drift export` on a run that trained an adapter: the merged weights are the model of the adapter, the card has the
figures of the run and no text of any conversation, and what cannot be exported is one line and leaves nothing."""

import json
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from drift.config import PolicySettings
from drift.delivery import Delivery, DeliverySummary, deliver
from drift.delivery.card import render_card
from drift.delivery.converter import convert
from drift.delivery.facts import Origins, Withdrawn, hub_id, read_facts_of
from drift.errors import ConfigError, DataError, PrerequisiteError, disk_trouble
from drift.gate.results import GateResult, GuardResult, LostItem
from drift.policy.model import load_policy
from drift.records import PreferencePair, read_jsonl
from drift.run import run_config
from drift.rundir import RunDir, load_run
from drift.statistics import Share
from drift.store import Store, store_of
from small_runs import STAGE, settings, write_chats

IDS = torch.tensor([[5, 60, 7, 80, 9, 100, 11, 120]])
WORDS = ("marzipan", "quagmire", "zeppelin", "obelisk", "tarantula", "juniper", "cobalt", "falafel")


@dataclass(frozen=True)
class AdapterRun:
    """`run`: of the adapter; `base`: the folder of the model that it was trained on."""

    run: Path
    base: Path

    @property
    def store(self) -> Store:
        store = store_of(load_run(self.run))
        assert store is not None
        return store


def chat(number: int) -> dict:
    """A chat whose first reply was disliked and, every fourth time, mended. Texts are long and unusual, and some tags
    hold a text of the conversation."""
    words = " ".join(WORDS[(number + step) % len(WORDS)] for step in range(5))
    messages = [
        {"role": "user", "content": f"Please bring the {words} number {number} to order."},
        {"role": "assistant", "content": f"The {words} is lost since {number} days.", "feedback": -1},
        {"role": "user", "content": f"No, I wanted the {words} sorted for {number} guests."},
    ]
    if number % 4 == 0:
        messages.append({"role": "assistant", "content": f"Sorted {words} for you, {number} times.", "feedback": 1})
    licence = "CC-BY-4.0" if number % 2 else f"<b>{messages[0]['content']}</b>\n# free"
    tags = {"consent": "training" if number % 3 else "yes", "license": licence, "consent_time": f"12:{number}"}
    return {"id": f"chat-{number}", "user": f"u{number % 5}", "messages": messages, **tags}


@pytest.fixture(scope="module")
def adapter_run(tiny_policy, tmp_path_factory) -> AdapterRun:
    folder = tmp_path_factory.mktemp("adapter-run")
    shutil.copytree(tiny_policy, folder / "base")
    cfg = settings(
        write_chats(folder, map(chat, range(40))),
        folder / "base",
        iterations=1,
        policy={"model": str(folder / "base"), "lora": {"r": 4, "alpha": 8}},
        training={**STAGE, "learning_rate": 1e-2},
        evaluation={"max_prompts": 4},
    )
    run_config(cfg, folder / "run")
    return AdapterRun(folder / "run", folder / "base")


CONVERTER = """
import sys
from pathlib import Path
import gguf, numpy
model, out = Path(sys.argv[1]), sys.argv[sys.argv.index("--outfile") + 1]
assert (model / "config.json").is_file() and sys.argv[-2:] == ["--outtype", "auto"], sys.argv
writer = gguf.GGUFWriter(out, "qwen2")
writer.add_tensor("a", numpy.zeros((2, 2), dtype=numpy.float32))
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
"""


@pytest.fixture(scope="module")
def exported(adapter_run, tmp_path_factory) -> DeliverySummary:
    """The run, merged, converted and with a Modelfile."""
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("export")
    script = folder / "convert_hf_to_gguf.py"
    script.write_text(CONVERTER)
    return deliver(adapter_run.run, folder / "out", Delivery(merge=True, gguf=True, converter=script, ollama=True))


def test_the_merged_export_is_the_adapters_model(adapter_run, exported):
    out = Path(exported.model)
    policy = load_policy(adapter_run.run / "policy", PolicySettings())
    base = AutoModelForCausalLM.from_pretrained(adapter_run.base)
    merged = AutoModelForCausalLM.from_pretrained(out)
    with torch.inference_mode():
        wanted, found, before = (model(IDS).logits for model in (policy.model, merged, base))
    assert float((found - wanted).abs().max()) <= 1e-5
    assert float((found - before).abs().max()) > 1e-3  # the adapter does something
    assert exported.largest_difference is not None
    assert exported.largest_difference <= 1e-5
    assert sorted(path.name for path in out.parent.iterdir()) == ["model", "pairs.jsonl", "report.html"]
    assert not [path.name for path in out.iterdir() if "adapter" in path.name]
    assert AutoTokenizer.from_pretrained(out).chat_template == policy.tokenizer.chat_template
    assert "library_name: transformers" in Path(exported.card).read_text()


def test_without_merge_the_adapter_stays_one(adapter_run, tmp_path):
    done = deliver(adapter_run.run, tmp_path / "out")
    assert (tmp_path / "out/model/adapter_config.json").is_file()
    assert (done.largest_difference, done.gguf, done.modelfile, done.files, done.pushed) == (None,) * 5
    assert "library_name: peft" in Path(done.card).read_text()


def test_the_card_names_the_adapter_that_was_trained(adapter_run, tmp_path):
    """A later generation goes on training the adapter that it starts from, whatever its config says of LoRA."""
    run = shutil.copytree(adapter_run.run, tmp_path / "run")
    rank = json.loads((run / "policy/adapter_config.json").read_text())["r"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    for lora in ({"r": 2 * rank, "alpha": 4 * rank}, None):
        config["policy"]["lora"] = lora
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        assert read_facts_of(load_run(run)).lora_rank == rank
    (run / "policy/adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match=r"adapter_config.json: not the settings of a LoRA adapter"):
        read_facts_of(load_run(run))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Delivery(converter=Path("x")), "--converter names what --gguf runs: add --gguf"),
        (Delivery(dry_run=True), "--dry-run shows what --push would send: add --push OWNER/NAME"),
        (Delivery(gguf=True), r"--gguf needs a whole model, and .*policy is a LoRA adapter\. Add --merge"),
        (Delivery(ollama=True), r"--ollama needs a whole model, and .*policy is a LoRA adapter\. Add --merge"),
        (Delivery(push="no id at all"), r"--push no id at all: no id of a repository .*Write OWNER/NAME"),
        (Delivery(push="alone"), r"--push alone: no id of a repository\. Write OWNER/NAME"),
    ],
)
def test_options_that_do_not_fit(adapter_run, tmp_path, wanted, message):
    with pytest.raises(ConfigError, match=message):
        deliver(adapter_run.run, tmp_path / "out", wanted)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported(adapter_run, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: not a run, run\.json is missing"):
        deliver(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("")
    with pytest.raises(DataError, match=r"mine: already exists\. Name a new or empty folder: --to DIR"):
        deliver(adapter_run.run, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    unfinished = shutil.copytree(adapter_run.run, tmp_path / "unfinished")
    with pytest.raises(KeyboardInterrupt), RunDir.open(unfinished, (unfinished / "config.yaml").read_text(), 42):
        raise KeyboardInterrupt
    with pytest.raises(DataError, match=r"no policy to export yet \(interrupted\)\. Run its `drift run` again"):
        deliver(unfinished, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_base_that_changed_under_its_adapter_is_refused(adapter_run, tmp_path):
    weights = adapter_run.base / "model.safetensors"
    former = weights.read_bytes()
    try:
        weights.write_bytes(former[:-4] + b"\0\0\0\0")
        with pytest.raises(
            PrerequisiteError, match=r"trained on .*base, whose files have changed since.*Put the former"
        ):
            deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True))
    finally:
        weights.write_bytes(former)
    assert not (tmp_path / "out").exists()


def test_a_step_that_fails_leaves_no_half_export(adapter_run, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr("drift.report.export.write_report", full)
    (tmp_path / "there").mkdir()
    for folder in ("there", "new"):
        with pytest.raises(OSError, match="No space") as error:
            deliver(adapter_run.run, tmp_path / folder, Delivery(merge=True))
        assert "the disk is full" in str(disk_trouble(error.value))
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []


def test_gguf_is_made_by_the_users_converter(exported):
    assert exported.gguf == f"{exported.model}/model.gguf"
    assert Path(exported.gguf).read_bytes()[:4] == b"GGUF"
    assert Path(exported.model, "Modelfile").read_text().startswith("FROM ./model.gguf\n")


def test_a_converter_that_is_missing_or_fails_is_one_line(adapter_run, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrerequisiteError, match=r"no convert_hf_to_gguf\.py is on the PATH\. git clone .*llama\.cpp"):
        deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True, gguf=True))
    with pytest.raises(PrerequisiteError, match=r"--converter .*nowhere: no such file.*git clone"):
        deliver(adapter_run.run, tmp_path / "out", Delivery(merge=True, gguf=True, converter=tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text("import sys; print('unknown pre-tokenizer'); sys.exit('Model Foo is not supported')")
    model = shutil.copytree(exported.model, tmp_path / "copy/model")
    again = rf"The rest of the export is in .*copy\. To try again: {sys.executable} .*to_gguf\.py .*model --outfile"
    with pytest.raises(PrerequisiteError, match=rf"status 1: \.\.\.Model Foo is not supported .*{again}") as error:
        convert(script, model)
    assert "\n" not in str(error.value)
    assert not (model / "model.gguf").exists()


@pytest.mark.parametrize("body", [None, b"", b"no weights", b"GGU"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_converter_that_ends_well_without_a_gguf_file_is_one_line(tmp_path, body, is_there):
    script, model = tmp_path / "convert_hf_to_gguf.py", tmp_path / "model"
    model.mkdir()
    if is_there:  # from an earlier converter
        (model / "model.gguf").write_bytes(b"GGUF and weights")
    write = "" if body is None else f"open(sys.argv[3], 'wb').write({body!r})"
    script.write_text(f"import sys; print('written'); {write}")
    with pytest.raises(PrerequisiteError, match=r"ended with 0 and wrote no GGUF file: \.\.\.written .*To try again"):
        convert(script, model)
    assert list(model.iterdir()) == []


@pytest.fixture(scope="module")
def facts(adapter_run):
    return read_facts_of(load_run(adapter_run.run))


def runs_of_words(text: str, length: int) -> set[str]:
    words = text.split()
    return {" ".join(words[at : at + length]) for at in range(len(words) - length + 1)}


def test_no_text_of_any_conversation_of_the_store_is_in_the_card(adapter_run, facts):
    card = render_card(facts, True, None)
    shown = " ".join(card.split())
    texts = [message.content for each in adapter_run.store.conversations() for message in each.messages]
    assert len(texts) >= 120
    assert not [text for text in texts if text in card]
    assert not [part for text in texts for part in runs_of_words(text, 3) if part in shown]
    assert "marzipan" not in card.lower()
    for secret in (str(adapter_run.run.parent), "logs.jsonl", "<b>", "u1", "chat-1"):
        assert secret not in card


def test_the_figures_are_the_runs(adapter_run, facts):
    pairs = [
        pair
        for name in load_run(adapter_run.run).learned_from
        for pair in read_jsonl(adapter_run.run / name, PreferencePair)
    ]
    ids = {pair.conversation_id for pair in pairs}
    assert sum(count for _, count in facts.pairs) == len(pairs)
    assert sum(row.conversations for row in facts.origins) == 40
    assert sum(row.trained_on for row in facts.origins) == len(ids)
    # by hand: odd chats have the licence CC-BY-4.0, even ones a text; every third says yes; 40 times differ
    counts = {(dict(row.consent)["license"], dict(row.consent)["consent"]): row.conversations for row in facts.origins}
    assert counts == {
        ("CC-BY-4.0", "training"): 13,
        ("CC-BY-4.0", "yes"): 7,
        ("(different values)", "training"): 13,
        ("(different values)", "yes"): 7,
    }
    assert {dict(row.consent)["consent_time"] for row in facts.origins} == {"(different values)"}
    assert dict(facts.steps)["conversations"] == 40
    assert facts.languages == ()
    assert facts.withdrawn == Withdrawn(0, 0, 0, False)
    assert facts.settings["training"]["learning_rate"] == 0.01
    assert facts.settings["policy"] == {"dtype": "float32", "thinking": "off", "lora": facts.settings["policy"]["lora"]}
    assert "logs" not in facts.settings


def test_the_header_is_the_hubs(facts):
    plain = ModelCard(render_card(replace(facts, hub_base="org/base", licence="mit"), True, None)).data
    assert (plain.base_model, plain.library_name, plain.license) == ("org/base", "peft", "mit")
    assert (plain.pipeline_tag, plain.to_dict()["base_model_relation"]) == ("text-generation", "adapter")
    whole = ModelCard(render_card(replace(facts, hub_base="org/base"), False, None)).data.to_dict()
    assert (whole["library_name"], whole["base_model_relation"]) == ("transformers", "finetune")
    local = yaml.safe_load(render_card(facts, False, None).split("---")[1])
    assert not {"license", "base_model"} & local.keys()  # what is not known is not claimed


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("embedded", None),
        ("/home/me/model", None),
        ("./models/mine", None),
        ("models/mine.gguf", None),
    ],
)
def test_only_an_id_of_the_hub_is_a_base_there(model, found):
    assert hub_id(model) == found


def test_a_toy_says_so(facts):
    assert "This is a toy" in render_card(replace(facts, base="embedded", is_toy=True), False, None)
    assert "toy" not in render_card(facts, False, None)


def test_what_was_forgotten_is_said(adapter_run, tmp_path):
    run = shutil.copytree(adapter_run.run, tmp_path / "run")
    view = load_run(run)
    store = type(adapter_run.store)(next((run / "store").iterdir()))
    learned = next(iter(read_jsonl(run / view.learned_from[-1], PreferencePair)))
    pairs = [
        pair
        for name in view.pair_files
        for pair in read_jsonl(run / name, PreferencePair)
        if pair.conversation_id == learned.conversation_id
    ]
    store.forget(conversation=learned.conversation_id)
    facts = read_facts_of(view)
    assert facts.withdrawn is not None
    assert (facts.withdrawn.users, facts.withdrawn.pairs, facts.withdrawn.in_policy) == (0, len(pairs), True)
    assert facts.withdrawn.conversations >= 1
    assert "**This policy learned from conversations that were forgotten since**" in render_card(facts, True, None)
    shutil.rmtree(run / "store")
    gone = read_facts_of(view)
    assert (gone.origins, gone.withdrawn) == (None, None)
    card = render_card(gone, True, None)
    assert "the store of this run is gone" in card
    assert "Languages of the conversations it learned from: not known." in card


def test_a_comparison_stands_in_the_card_once(facts):
    """In a chain the verdict's comparison is also the first of the two with earlier generations."""
    share = Share(0.5, 0.4, 0.6)
    before, base, after = (SimpleNamespace(name=name) for name in ("generation 1", "base", "iteration 2"))
    compared = tuple(
        SimpleNamespace(measure="utility", first=first, before=share, last=after, after=share, gain=share)
        for first in (before, base)
    )
    chain = replace(facts, verdict=replace(facts.verdict, measured=compared[0]), compared=compared)
    rows = render_card(chain, True, None).splitlines()
    assert [row.split("|")[2].split(":")[0].strip() for row in rows if row.startswith("| utility |")] == [
        "generation 1",
        "base",
    ]


def test_the_gate_is_in_the_card_without_its_requests(adapter_run, facts, tmp_path):
    assert "`drift gate` was not run" in render_card(facts, True, None)
    lost = LostItem(request="a private request", old="a private answer", new="worse", why="a private reason")
    guard = GuardResult(
        name="arithmetic", kind="rate", verdict="fail", items=200, old=0.9, new=0.8, change=-0.1, low=-0.15, high=-0.05,
        margin=0.03, lost=(lost,), note="a private note",
    )  # fmt: skip
    result = GateResult(
        new="/home/me/new", against="/home/me/old", new_id="1", against_id="2", verdict="fail", why=("a private line",),
        target=None, guards=(guard,), left_out=("refusal",), look=1, confidence=0.975, error_rate=0.025, seed=1,
        items=200, seen_in_training=0, policy_hash=load_run(adapter_run.run).policy_hash,
    )  # fmt: skip
    run = shutil.copytree(adapter_run.run, tmp_path / "run")
    (run / "gate.json").write_text(result.model_dump_json())
    card = render_card(read_facts_of(load_run(run)), True, None)
    assert "| arithmetic | fail | 200 | 0.900 | 0.800 | -0.100 [-0.150, -0.050] | 0.030 |" in card
    assert "replace: **fail**" in card
    assert "Left out: refusal." in card
    assert "private" not in card
    assert "/home" not in card
    (run / "gate.json").write_text(result.model_copy(update={"policy_hash": "of another policy"}).model_dump_json())
    assert "`drift gate` was not run" in render_card(read_facts_of(load_run(run)), True, None)


def test_names_of_a_log_cannot_write_into_the_card(facts):
    hostile = Origins("(other text)", (("licence", "MIT"),), 1, 1)
    card = render_card(replace(facts, origins=(hostile,)), True, None)
    assert "| (other text) | licence: MIT | 1 | 1 |" in card
    assert facts.kinds
