"""The two pages: the audit of labels and, for a run, disliked reply against fresh one. Each button has a key.

Every text from a log is escaped here: it is shown, never run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from nicegui import events, ui

from drift.records import ChatMessage, Conversation, FeedbackLabel, Verdict
from drift.review.audit import Audit
from drift.review.comparison import BlindComparison, Side, fresh_is_left
from drift.review.estimate import ReviewerAgreement
from drift.statistics import Share
from drift.turns import as_text

VERDICT_KEYS: dict[str, Verdict | None] = {"s": "SAT", "d": "DSAT", "n": "NEUTRAL", "k": None}
SIDE_KEYS: dict[str, Side | None] = {"1": "left", "2": "right", "t": "tie", "k": None}
UNDO = "u"


@dataclass(frozen=True, slots=True)
class Action:
    """What a button and its key do."""

    name: str
    do: Callable[[], None]


def audit_page(audit: Audit, compares: bool) -> None:
    """Each decision is durable first, then the page is drawn again."""
    _head()

    def decide(verdict: Verdict | None) -> None:
        label = audit.current()
        if label is not None:
            audit.decide(label, verdict)
        body.refresh()

    def undo() -> None:
        audit.undo()
        body.refresh()

    actions = {
        key: Action(verdict or "skip", lambda verdict=verdict: decide(verdict)) for key, verdict in VERDICT_KEYS.items()
    } | {UNDO: Action("undo", undo)}

    @ui.refreshable
    def body() -> None:
        label = audit.current()
        conversation = audit.store.conversation(label.conversation_id) if label else None
        _bar(_audit_progress(audit), actions)
        if label is None or conversation is None:
            _done("No reply left to review. To label more conversations: drift label --store DIR.")
        else:
            ui.html(conversation_html(conversation, label), sanitize=False)
            ui.run_javascript("document.querySelector('.judged')?.scrollIntoView({block: 'center'})")

    if compares:
        ui.link("Compare disliked and fresh replies", "/compare")
    body()
    _keys(actions)


def comparison_page(comparison: BlindComparison) -> None:
    _head()

    def decide(side: Side | None) -> None:
        pair = comparison.current()
        if pair is not None:
            comparison.decide(pair, side)
        body.refresh()

    def undo() -> None:
        comparison.undo()
        body.refresh()

    names = {"left": "left is better", "right": "right is better", "tie": "tie"}
    actions = {
        key: Action(names.get(side or "", "skip"), lambda side=side: decide(side)) for key, side in SIDE_KEYS.items()
    } | {UNDO: Action("undo", undo)}

    @ui.refreshable
    def body() -> None:
        so_far = comparison.improvement()
        progress = [f"{so_far.decided} of {so_far.total} decided", f"the fresh reply wins: {_share(so_far.p_imp)}"]
        _bar(progress, actions)
        pair = comparison.current()
        if pair is None:
            _done("All pairs of this iteration are decided.")
            return
        ui.html(chat_html(pair.prompt), sanitize=False)
        sides = (pair.chosen, pair.rejected) if fresh_is_left(pair) else (pair.rejected, pair.chosen)
        with ui.row().classes("w-full no-wrap"):
            for side in sides:
                ui.html("".join(map(message_html, side)), sanitize=False).classes("w-1/2")

    ui.link("Audit the labels", "/")
    body()
    _keys(actions)


def _audit_progress(audit: Audit) -> list[str]:
    progress = audit.progress()
    quality = progress.quality
    return [
        f"{progress.decided} of {progress.total} decided by {audit.reviewer}",
        f"precision {_share(quality.precision)}",
        f"recall {_share(quality.recall)}",
        f"from {quality.sampled} random replies",
        *(_agreement(name, agreement) for name, agreement in sorted(progress.agreement.items())),
    ]


def _agreement(name: str, agreement: ReviewerAgreement) -> str:
    kappa = "undefined" if agreement.kappa is None else f"{agreement.kappa:.2f}"
    return f"kappa with {name}: {kappa} on {agreement.replies} replies"


def _share(share: Share | None) -> str:
    return "unknown yet" if share is None else f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"


def _head() -> None:
    ui.page_title("DRIFT review")
    ui.add_css(STYLE)


def _bar(progress: list[str], actions: Mapping[str, Action]) -> None:
    """Progress and buttons; they stay visible while the conversation scrolls."""
    with ui.element("div").classes("bar"):
        ui.html(" · ".join(map(escape, progress)), sanitize=False).classes("progress")
        with ui.row():
            for key, action in actions.items():
                ui.button(f"{action.name} ({key})", on_click=action.do).props("outline dense no-caps")


def _done(text: str) -> None:
    ui.label(text).classes("done")


def _keys(actions: Mapping[str, Action]) -> None:
    def pressed(event: events.KeyEventArguments) -> None:
        action = actions.get(str(event.key).lower())
        plain = not (event.modifiers.ctrl or event.modifiers.alt or event.modifiers.meta)
        if action and plain and event.action.keydown and not event.action.repeat:
            action.do()

    ui.keyboard(on_key=pressed)


MESSAGES_BEFORE, MESSAGES_AFTER = 20, 4  # around the judged reply
LONGEST = 20_000  # characters of one message: a pasted log must not make the page unusable

STYLE = """
.message { border-left: 4px solid #d0d5dd; margin: .5rem 0; padding: .3rem .8rem; }
.message .role { font-size: .75rem; color: #667085; }
.message .text { white-space: pre-wrap; overflow-wrap: anywhere; font-family: inherit; }
.message.judged { border-color: #b54708; background: #fffaeb; }
.message.reaction { border-color: #175cd3; background: #eff8ff; }
.bar { position: sticky; top: 0; z-index: 1; background: white; padding: .5rem 0; }
.nicegui-content { max-width: 60rem; margin: auto; }
mark { background: #fde272; }
"""


def conversation_html(conversation: Conversation, label: FeedbackLabel) -> str:
    """The judged reply and the user's reaction, marked, with the messages around them."""
    messages = conversation.messages
    first = max(0, label.reply_index - MESSAGES_BEFORE)
    last = min(len(messages), (label.user_index or label.reply_index) + MESSAGES_AFTER + 1)
    return "".join(_message_parts(conversation, label, first, last))


def _message_parts(conversation: Conversation, label: FeedbackLabel, first: int, last: int) -> Iterator[str]:
    messages = conversation.messages
    if first:
        yield f"<p>… {first} earlier messages</p>"
    for index in range(first, last):
        kind, note = "", ""
        evidence = None
        if index == label.reply_index:
            kind, note = "judged", ": the judged reply"
        elif index == label.user_index:
            kind, note, evidence = "reaction", ": reaction", label.evidence
        yield message_html(messages[index], evidence, kind, note)
    if last < len(messages):
        yield f"<p>… {len(messages) - last} later messages</p>"


def chat_html(messages: Sequence[ChatMessage]) -> str:
    return "".join(message_html(message) for message in messages[-MESSAGES_BEFORE:])


def message_html(message: ChatMessage, evidence: str | None = None, kind: str = "", note: str = "") -> str:
    """A message with its tool calls; thoughts are folded."""
    tool = f" {message.name}" if message.name else ""
    thoughts = ""
    if message.reasoning:
        thoughts = f"<details><summary>thoughts</summary>{marked(message.reasoning, None)}</details>"
    return (
        f'<div class="message {kind}"><div class="role">{escape(message.role + tool + note)}</div>'
        f'<div class="text">{thoughts}{marked(as_text(message), evidence)}</div></div>'
    )


def marked(text: str, evidence: str | None) -> str:
    """The text, escaped, with the evidence in <mark> if the text contains it."""
    cut = text[:LONGEST] + (f" … ({len(text) - LONGEST} more characters)" if len(text) > LONGEST else "")
    before, match, after = cut.partition(evidence) if evidence else (cut, "", "")
    return escape(before) + (f"<mark>{escape(match)}</mark>" if match else "") + escape(after)
