"""The report as a page: Markdown for the terminal and for repositories, HTML that needs no other file."""

from collections.abc import Iterable, Sequence

from jinja2 import Environment, PackageLoader, select_autoescape

from drift.feedback.trust.agreement import Agreement
from drift.feedback.trust.results import TrustReport
from drift.statistics import Share

WIDTH = 260


def as_html(report: TrustReport) -> str:
    """Every text of the chats is escaped; nothing is loaded from anywhere."""
    environment = Environment(
        loader=PackageLoader("drift.feedback.trust", ""), autoescape=select_autoescape(default=True)
    )
    environment.filters.update(share=_share, number=_number)
    return environment.get_template("page.html").render(report=report, reliability=_reliability, curve=_curve)


def as_markdown(report: TrustReport) -> str:
    lines = [f"# Labels of {report.store}", "", *_counts(report)]
    for name, told in report.compared.items():
        lines += ["", f"## Against {name}: {told.turns} turns of {told.conversations} conversations", ""]
        lines += [*_figures(told, report.prevalence.get(name)), "", *_confusion(told)]
        if told.calibration:
            lines += ["", "p_dsat, how often it was so, turns:"]
            lines += [f"- {b.predicted:.2f}: {b.observed:.2f} ({b.turns})" for b in told.calibration.bins]
        if told.curve:
            lines += ["", "threshold: precision, recall, coverage:"]
            lines += [f"- {p.threshold:.2f}: {p.precision:.2f}, {p.recall:.2f}, {p.coverage:.2f}" for p in told.curve]
    if not report.compared:
        lines += ["", "Nobody has checked these labels yet: `drift review --store DIR`, or give a gold file by --gold."]
    for title, examples in (("Where the label differs", report.mistakes), ("Examples", report.examples)):
        lines += ["", f"## {title}", ""] if examples else []
        for one in examples:
            truth = f", truth {one.truth}" if one.truth else ""
            said = f"{one.before}**[{one.evidence}]**{one.after}" if one.evidence else one.after
            lines += [f"- {one.label} {one.subtype or ''} by {one.labeller}{truth}: {_line(said)}"]
    return "\n".join(lines) + "\n"


def _counts(report: TrustReport) -> Iterable[str]:
    parts = {
        "labels": report.labels, "subtypes": report.subtypes, "by": report.labellers, "abstained": report.abstained,
        "left out of the comparison": report.left_out,
    }  # fmt: skip
    for name, counts in parts.items():
        told = ", ".join(f"{key} {n}" for key, n in counts.items() if n)
        if told:
            yield f"- {name}: {told}"


def _figures(told: Agreement, prevalence: Share | None) -> Iterable[str]:
    yield f"- precision of DSAT {_share(told.precision)}, recall {_share(told.recall)}"
    kappas = f"kappa {_number(told.kappa)} (DSAT against the rest {_number(told.kappa_dsat)})"
    yield f"- agreement {_share(told.agreement)}, {kappas}"
    if told.calibration:
        skill, error = told.calibration.skill, told.calibration.error
        yield f"- AUROC {_number(told.auroc)}, Brier skill {_number(skill)}, calibration error {_number(error)}"
    if prevalence:
        yield f"- true share of dissatisfied turns in the store (Rogan-Gladen) {_share(prevalence)}"


def _confusion(told: Agreement) -> Iterable[str]:
    names = ("DSAT", "SAT", "NEUTRAL", "ABSTAIN")
    yield f"| truth \\ label | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for truth, row in told.confusion.items():
        yield f"| {truth} | " + " | ".join(str(row.get(name, 0)) for name in names) + " |"


def _share(share: Share | None) -> str:
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]" if share else "not known"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _line(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("<", "&lt;").split())


def _reliability(told: Agreement) -> str:
    return _points([(b.predicted, b.observed) for b in told.calibration.bins] if told.calibration else [])


def _curve(told: Agreement) -> str:
    return _points([(p.recall, p.precision) for p in told.curve])


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    """Of an SVG polyline in a square of WIDTH, y upwards."""
    return " ".join(f"{x * WIDTH:.1f},{(1 - y) * WIDTH:.1f}" for x, y in pairs)
