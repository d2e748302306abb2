"""`drift run` and what works on run folders: runs, report, export, trace."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drift.cli.console import console, progress, summary, watching_stages
from drift.cli.options import JsonFlag, with_urls
from drift.cli.plans import show_plan
from drift.cli.views import show_influence, show_run, show_trace

if TYPE_CHECKING:
    from drift.rundir import RunView

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, for example configs/real_logs.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/NAME-HASH.")] = None,
    parent: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="Start from this run's policy and store; learn from what came since."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, for example training.beta=0.2; repeatable."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would be done and what it would cost; do nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Learn from chat logs: ingest, label, warm start, then K iterations of sampling, pairing and training.

    The same command again resumes. With --from, nothing is trained if nothing came since (docs/production.md).

    Example: drift run configs/real_logs.yaml --set logs='\\[chats.json]'
    """
    from drift.config import load_config

    chain = () if parent is None else (f"from={json.dumps(str(parent))}",)
    settings = load_config(config, (*(overrides or ()), *chain))  # report a typo before torch loads, in seconds
    if plan:
        from drift.plan import make_plan

        show_plan(make_plan(settings, out), as_json)
        return
    from drift.run import run_config

    with watching_stages() as on_stage:
        result = run_config(settings, out, on_stage)
    show_run(result, as_json)


def runs(
    root: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    store: Annotated[
        Path | None, typer.Option(help="Store whose forgotten data to look for; default: the store of each run.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the runs with their place in a chain and main results; mark those that learned from data forgotten since.

    Example: drift runs --root runs
    """
    from dataclasses import asdict

    from drift.lineage import forgotten_in
    from drift.rundir import list_runs
    from drift.rundir.chain import link_of
    from drift.store import Store

    opened = store and Store(store)
    if opened is not None and not (opened.forgotten().users | opened.forgotten().conversations):
        opened.require_conversations()  # else a misspelt path marks nothing
    views = list_runs(root, skip_damaged=True, nested=True)
    if not views:
        console.print(f"{root}: no runs. Start one with `drift run CONFIG`, or name another --root.", soft_wrap=True)
    forgotten = {
        path: {"learned_from_forgotten": asdict(traces)} for path, traces in forgotten_in(views, opened).items()
    }
    rows = {run.path: {**_under_way(run), **asdict(link_of(run)), **run.state.headline} for run in views}
    summary({str(path): row | forgotten.get(path, {}) for path, row in rows.items()}, as_json, keep_names=True)


def _under_way(run: "RunView") -> dict[str, str | None]:
    """The state; of a run that is not finished also its stage and the host, where both are known."""
    state = run.state
    return {"state": state.state} | ({} if state.state == "done" else {"stage": state.stage, "where": state.where})


def report(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run or of a comparison.")],
    as_json: JsonFlag = False,
) -> None:
    """Write the HTML report of a run (finished or not) or of a comparison.

    Example: drift report runs/demo-seed-1
    """
    from drift.report import report_on

    with progress("drawing"):
        file = report_on(path)
    summary({"report": str(file)}, as_json)


def export(
    path: RunPath,
    to: Annotated[
        str,
        typer.Option(metavar="DIR|URL", help="New folder for model/ (with its card), pairs.jsonl and report.html."),
    ],
    merge: Annotated[bool, typer.Option("--merge", help="Add a LoRA adapter to the weights of its base.")] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="Also model/model.gguf, by llama.cpp's converter.")] = False,
    converter: Annotated[
        Path | None, typer.Option(help="llama.cpp's convert_hf_to_gguf.py; default: the one on the PATH.")
    ] = None,
    ollama: Annotated[bool, typer.Option("--ollama", help="Also model/Modelfile, for `ollama create`.")] = False,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Push model/ to the Hugging Face Hub; a new one is private."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the files that --push would send and delete; change nothing there.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the model with its card, the pairs in TRL's format and the report to a folder for others to use.

    Only model/ is pushed: pairs.jsonl and report.html quote conversations (docs/production.md).

    Example: drift export runs/demo-seed-1 --to exported
    """
    from drift.delivery import Delivery, deliver
    from drift.logs.files.remote import local_twin

    with progress("exporting"), local_twin(to, "--to", keep_on_error=True) as folder:
        done = deliver(path, folder, Delivery(merge, gguf, converter, ollama, push, dry_run))
    summary(with_urls(done, folder, to), as_json)


def trace(
    path: RunPath,
    pair_id: Annotated[
        str | None, typer.Argument(metavar="[PAIR_ID]", help="Id of a pair, a prompt or a conversation.")
    ] = None,
    behaviour: Annotated[
        Path | None,
        typer.Option("--to", metavar="BEHAVIOUR.jsonl", help="Replies, to see whose pairs moved the policy to them."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show where a pair came from and which policies learned from it. A conversation id shows all of its pairs.

    With --to, show which users' pairs moved the policy towards the replies in a file (docs/poisoning.md).

    Example: drift trace runs/demo-seed-1 4501f386bce20cde
    """
    if (pair_id is None) == (behaviour is None):
        raise typer.BadParameter("give either an id, or --to BEHAVIOUR.jsonl.")
    if behaviour is not None:
        from drift.training.influence import trace_behaviour

        show_influence(trace_behaviour(path, behaviour), as_json)
        return
    from drift.lineage import trace

    show_trace(trace(path, str(pair_id)), as_json)
