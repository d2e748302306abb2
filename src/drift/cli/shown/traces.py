"""How a pair's lineage reads: a few lines for people, all of it as JSON."""

from collections.abc import Iterator

import orjson
import typer

from drift.cli.console import console
from drift.rundir.lineage import Lineage, Made, Traced


def show_trace(traced: Traced, as_json: bool) -> None:
    for lineage in traced.pairs:
        for name, told in _lines(lineage):
            console.print(f"{name:13}{told}", soft_wrap=True, markup=False)
        console.print()
    console.print(f"{'learned by':13}{', '.join(traced.policies) or 'no policy yet'}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(orjson.dumps(traced).decode())


def _lines(lineage: Lineage) -> Iterator[tuple[str, str]]:
    pair, origin = lineage.pair, lineage.origin
    yield "pair", f"{pair.pair_id} ({pair.recipe}, iteration {pair.iteration}) in {lineage.file}"
    log = origin.missing or f"{origin.source}, there {origin.source_id!r}, message {origin.message_index}"
    yield "conversation", f"{pair.conversation_id}, reply {pair.reply_index}: {log}"
    if origin.user_key:
        yield "user", f"{origin.user_key} (salted hash)"
    if label := lineage.label:
        chance = "" if label.p_dsat is None else f", p_dsat {label.p_dsat:.3f}"
        yield "label", f"{label.label}{chance} by {label.labeller} {label.labeller_version}: {label.evidence!r}"
    yield "rejected", repr(pair.rejected[-1].content)
    yield "chosen", repr(pair.chosen[-1].content)
    if done := lineage.completion:
        how = "guided" if done.guided else "unguided"
        yield "sampler", f"{done.sampler}, {how}, sample {done.sample}, seed {done.seed}, finish {done.finish}"
    yield "weights", f"policy_id {pair.policy_id}"
    if lineage.trained:
        yield "trained", _told(lineage.trained)
    if lineage.also:
        yield "also in", ", ".join(lineage.also)


def _told(made: Made) -> str:
    weights = next((digest for file, digest in made.outputs.items() if file.endswith(".safetensors")), "")
    return f"{made.path} (sha256 {weights[:16]}), stage {made.key[:16]}, code {made.code_version}"
