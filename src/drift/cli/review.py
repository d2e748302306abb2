"""People's verdicts: review."""

import getpass
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from drift.cli.console import JsonFlag, console, summary


def review(
    store: Annotated[Path, typer.Option("--store", help="The store whose labels are audited.")],
    run: Annotated[Path | None, typer.Option(help="Also compare this run's disliked and fresh replies.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Your name; two people's agreement is measured.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Audit labels in a web page on this machine. Decisions are kept at once and win over other labels.

    Example: drift review --store stores/mine
    """
    from drift.review.server import serve
    from drift.store import Store

    def tell(address: str) -> None:
        console.print(f"open {address} (works once; Ctrl-C ends)", soft_wrap=True, markup=False)
        if browser:
            webbrowser.open(address)

    summary(serve(Store(store), reviewer or getpass.getuser(), run, port, tell), as_json)
