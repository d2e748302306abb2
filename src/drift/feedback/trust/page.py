"""Renders the report: Markdown for the terminal and for repositories, or one self-contained HTML page."""

from collections.abc import Iterable, Sequence

from jinja2 import Environment, PackageLoader, select_autoescape

from drift.feedback.trust.agreement import Agreement
from drift.feedback.trust.results import TrustReport
from drift.statistics import Share

WIDTH = 260


def as_html(report: TrustReport) -> str:
    """The report as HTML. Text from chats is escaped, and the page loads nothing."""
    environment = Environment(
        loader=PackageLoader("drift.feedback.trust", ""), autoescape=select_autoescape(default=True)
    )
    environment.filters.update(share=_share, number=_number)
    return environment.get_template("page.html").render(report=report, reliability=_reliability, curve=_curve)


def as_markdown(report: TrustReport) -> str:
    lines = [f"# Labels of {report.store}", "", *_counts(report)]
    for name, agreement in report.compared.items():
        lines += ["", f"## Against {name}: {agreement.turns} turns of {agreement.conversations} conversations", ""]
        lines += [*_figures(agreement, report.prevalence.get(name)), "", *_confusion(agreement)]
        if agreement.calibration:
            lines += ["", "p_dsat: observed share of DSAT (turns):"]
            lines += [f"- {b.predicted:.2f}: {b.observed:.2f} ({b.turns})" for b in agreement.calibration.bins]
        if agreement.curve:
            lines += ["", "threshold: precision, recall, coverage:"]
            lines += [
                f"- {p.threshold:.2f}: {p.precision:.2f}, {p.recall:.2f}, {p.coverage:.2f}" for p in agreement.curve
            ]
    if not report.compared:
        lines += [
            "",
            "Nobody has checked these labels yet: `drift review --store DIR`, or give a gold file with --gold FILE.",
        ]
    for title, examples in (("Where the label differs", report.mistakes), ("Examples", report.examples)):
        lines += ["", f"## {title}", ""] if examples else []
        for example in examples:
            truth = f", truth {example.truth}" if example.truth else ""
            quoted = f"{example.before}**[{example.evidence}]**{example.after}" if example.evidence else example.after
            lines += [f"- {example.label} {example.subtype or ''} by {example.labeller}{truth}: {_line(quoted)}"]
    return "\n".join(lines) + "\n"


def _counts(report: TrustReport) -> Iterable[str]:
    parts = {
        "labels": report.labels, "subtypes": report.subtypes, "by": report.labellers, "abstained": report.abstained,
        "left out of the comparison": report.left_out,
    }  # fmt: skip
    for name, counts in parts.items():
        listed = ", ".join(f"{key} {n}" for key, n in counts.items() if n)
        if listed:
            yield f"- {name}: {listed}"


def _figures(agreement: Agreement, prevalence: Share | None) -> Iterable[str]:
    yield f"- precision of DSAT {_share(agreement.precision)}, recall {_share(agreement.recall)}"
    kappas = f"kappa {_number(agreement.kappa)} (DSAT against the rest {_number(agreement.kappa_dsat)})"
    yield f"- agreement {_share(agreement.agreement)}, {kappas}"
    if agreement.calibration:
        skill, error = agreement.calibration.skill, agreement.calibration.error
        yield f"- AUROC {_number(agreement.auroc)}, Brier skill {_number(skill)}, calibration error {_number(error)}"
    if prevalence:
        yield f"- true share of dissatisfied turns in the store (Rogan-Gladen) {_share(prevalence)}"


def _confusion(agreement: Agreement) -> Iterable[str]:
    names = ("DSAT", "SAT", "NEUTRAL", "ABSTAIN")
    yield f"| truth \\ label | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for truth, row in agreement.confusion.items():
        yield f"| {truth} | " + " | ".join(str(row.get(name, 0)) for name in names) + " |"


def _share(share: Share | None) -> str:
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]" if share else "unknown"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _line(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("<", "&lt;").split())


def _reliability(agreement: Agreement) -> str:
    return _points([(b.predicted, b.observed) for b in agreement.calibration.bins] if agreement.calibration else [])


def _curve(agreement: Agreement) -> str:
    return _points([(p.recall, p.precision) for p in agreement.curve])


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    """The points of an SVG polyline in a square of WIDTH pixels, y upwards."""
    return " ".join(f"{x * WIDTH:.1f},{(1 - y) * WIDTH:.1f}" for x, y in pairs)
