"""Options that several commands share. The judge's options are one set for every command with a judge."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from drift.cli.console import console
from drift.errors import ConfigError


def _more_than_zero(value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise typer.BadParameter(f"{value:g} allows no request: give more than 0, or leave it out for no limit.")
    return value


def finite(value: float | None) -> float | None:
    """A lower limit lets infinity through, and no limit also NaN."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value:g} is no finite number.")
    return value


StoreDir = Annotated[Path, typer.Option("--store", help="Folder of the store.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Also print the summary as one JSON object on stdout.")]
Gold = Annotated[Path | None, typer.Option(help="Gold labels: JSON Lines of source_id, message_index and label.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the requests, tokens and cost; send no request.")]

Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="local|HOST:PORT", help="Work on all cores of this machine, or on a Ray cluster."
    ),
]

Judge = Annotated[str | None, typer.Option("--judge", help="The judge, as URL#MODEL of an OpenAI-compatible server.")]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="Name of the environment variable that holds the API key of the judge.")
]
ModelKeyEnv = Annotated[
    str | None,
    typer.Option(
        "--model-api-key-env",
        help="Name of the environment variable that holds the API key of the models that are URL#MODEL.",
    ),
]
PriceInput = Annotated[float | None, typer.Option(min=0, help="Price per million input tokens of the judge.")]
PriceOutput = Annotated[float | None, typer.Option(min=0, help="Price per million output tokens of the judge.")]
MaxCost = Annotated[
    float | None,
    typer.Option(
        callback=_more_than_zero,
        help="Cost limit, in the currency of the prices: a request that could exceed it is not sent.",
    ),
]
JudgeMaxTokens = Annotated[
    int | None,
    typer.Option(
        "--judge-max-tokens",
        min=1,
        help="Least token limit of a judge's answer, thoughts included; for judges that think, 2048 or more.",
    ),
]
MaxConcurrency = Annotated[int | None, typer.Option(min=1, help="Maximum requests in flight; 8 if not given.")]

EarlierEndpoint = Annotated[str | None, typer.Option("--endpoint", hidden=True)]
EarlierModel = Annotated[str | None, typer.Option("--model", hidden=True)]

Dtype = Annotated[Literal["float32", "bfloat16"], typer.Option(help="Number type of models that run on this machine.")]
NewTokens = Annotated[int, typer.Option(min=1, help="Maximum tokens per generated reply.")]
Temperature = Annotated[
    float, typer.Option(min=0, callback=finite, help="Sampling temperature of the replies; 0 is greedy.")
]
LARGEST_SEED = 2**63 - 1  # the largest that a config may name
SamplingSeed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Random seed of the sampled replies.")]


OF_A_JUDGE = ("judge", "api_key_env", "price_input", "price_output", "max_cost", "max_concurrency", "judge_max_tokens")
"""The judge's options, by the names of their parameters."""


def given(context: typer.Context, *names: str) -> list[str]:
    """Those of these parameters that the command line gives, as a user writes them."""
    return [
        parameter.opts[0] if parameter.opts[0].startswith("-") else str(parameter.name).upper()
        for parameter in context.command.params
        if parameter.name in names
        and getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    ]


def refuse_unread(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Raises ConfigError if the command line gives one of these parameters: nothing would use it."""
    if unread := given(context, *names):
        verb = "is" if len(unread) == 1 else "are"
        raise ConfigError(f"{' and '.join(unread)} {verb} given, but {why}")


def refuse_without_judge(context: typer.Context, judge: str | None, others: Sequence[str]) -> None:
    """Raises ConfigError for a judge's options where no judge is asked. `others`: what else may be a server, which then
    has these options."""
    if judge is None and not any(map(_is_url, others)):
        refuse_unread(context, OF_A_JUDGE, "no judge is asked: add --judge URL#MODEL, or leave it out.")


def refuse_key_of_models(context: typer.Context, models: Sequence[str]) -> None:
    """Raises ConfigError for a key of models that no server answers for."""
    if not any(map(_is_url, models)):
        refuse_unread(context, ("model_api_key_env",), "no model is a server (URL#MODEL): leave it out.")


def _is_url(source: str) -> bool:
    from drift.evals.served import is_served

    return is_served(source)


def one_of(existing: str, files: object, model: str | None, judge: str | None) -> bool:
    """True: existing files are measured; False: a model is judged. Raises ConfigError unless exactly one is given."""
    if bool(files) == (model is not None) or (model is not None and judge is None):
        raise ConfigError(f"give either {existing}, or a MODEL and --judge URL#NAME to have it judged.")
    return bool(files)


@contextmanager
def working_on(address: str | None, store: Path) -> Iterator[None]:
    """Work where --cluster says. Raises ConfigError for an address that is none."""
    from drift.config import parse_config
    from drift.engine import open_engine

    with open_engine(parse_config({"cluster": {"address": address}}, "--cluster").cluster, store):
        yield


def with_urls(result: Any, twin: Path, target: str) -> Any:
    """A summary whose paths are those of the uploaded files, where `twin` was uploaded to a URL."""
    from drift.logs.files.remote import is_remote

    if not is_remote(target):
        return result
    place = target.rstrip("/").rpartition("/")[0]
    return orjson.loads(orjson.dumps(result, str, orjson.OPT_NON_STR_KEYS).replace(bytes(twin.parent), place.encode()))


def judge_or_earlier(judge: str | None, endpoint: str | None, model: str | None) -> str | None:
    """`--judge URL#MODEL`, or the same from the `--endpoint URL --model MODEL` of scripts for earlier versions."""
    if endpoint is None and model is None:
        return judge
    if judge is not None:
        raise typer.BadParameter("--judge URL#MODEL replaces --endpoint and --model: give --judge alone.")
    if endpoint is None or model is None:
        missing = "--model" if model is None else "--endpoint"
        raise ConfigError(f"{missing} is missing. Write both as one option: --judge URL#MODEL.")
    spec = f"{endpoint}#{model}"
    console.print(
        f"--endpoint and --model are deprecated. Write: --judge {spec}",
        soft_wrap=True,
        markup=False,
    )
    return spec


def named_numbers(option: str, given: list[str] | None) -> dict[str, float]:
    """`NAME=VALUE`, several times, as a mapping. Raises ConfigError."""
    numbers = {}
    for text in given or ():
        name, _, value = text.partition("=")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise ConfigError(f"{option} {text}: expected NAME=NUMBER, for example {option} arithmetic=0.05.") from None
    return numbers
