"""The pages as HTML: one reply or pair to decide on, and what was decided. They know no server.

Every text from a log is escaped here: it is shown, never run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from drift.records import ChatMessage, Conversation, FeedbackLabel, PreferencePair
from drift.review.audit import Audit, shown_of
from drift.review.comparison import BlindComparison, fresh_is_left
from drift.review.estimate import ReviewerAgreement
from drift.statistics import Share
from drift.store import Review, ReviewedPreference
from drift.turns import LONGEST_SHOWN, as_text

LABELS, LABEL, DECIDED = "/", "/reply", "/decided"
PAIRS, PAIR, DECIDED_PAIRS = "/compare", "/compare/pair", "/compare/decided"
UNDO, UNDO_PAIR = "/undo", "/compare/undo"
PLACE = "#reply"
"""Where the judged reply begins in a page: after a decision the browser goes there."""
SKIP = "SKIP"
LATEST, PER_PAGE = 5, 50  # decisions


@dataclass(frozen=True, slots=True)
class Action:
    """A button, and the key that presses it. `more`: the rest of its text, where the screen is wide."""

    key: str
    value: str
    text: str
    more: str = ""
    name: str = "verdict"
    pressed: bool = False


@dataclass(frozen=True, slots=True)
class Meaning:
    name: str
    short: str
    text: str
    example: str


MEANINGS = (
    Meaning(
        "DSAT",
        "dissatisfied",
        "The user says or shows that the reply was wrong, incomplete, unwanted or not what was asked.",
        "No, I asked for three lines and you wrote five.",
    ),
    Meaning("SAT", "satisfied", "The user thanks, praises or accepts.", "Perfect, that is what I needed."),
    Meaning(
        "NEUTRAL",
        "neither",
        "The user goes on without judging the reply: a new request, a question, more input.",
        "Now translate it into French.",
    ),
)
VERDICTS = (
    Action("d", "DSAT", "DSAT", ": dissatisfied"),
    Action("s", "SAT", "SAT", ": satisfied"),
    Action("n", "NEUTRAL", "NEUTRAL", ": neither"),
    Action("k", SKIP, "Skip"),
)
SIDES = (
    Action("1", "left", "Reply 1", " is better", "side"),
    Action("2", "right", "Reply 2", " is better", "side"),
    Action("t", "tie", "Tie", "", "side"),
    Action("k", SKIP, "Skip", "", "side"),
)
ASKED = (
    "Read the marked reply and the user's next message, and say whether that message shows that the user was "
    "dissatisfied with the reply, satisfied, or neither."
)
ASKED_PAIR = (
    "Say which of the two replies to the same request is better: one is the reply that a user disliked, the other a "
    "fresh one from the model."
)


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as the list shows it. `address`: the way back to it; empty if it is gone."""

    verdict: str
    guess: str
    excerpt: str
    address: str


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows. `shown`: HTML of what is asked about; `decision`: what was decided on it before."""

    title: str
    question: str
    decided: int
    total: int
    left: float | None
    address: str
    list_address: str
    undo_address: str
    latest: Sequence[Decided] = ()
    all_decisions: int = 0
    shown: Markup | None = None
    done: str = ""
    decision: Decided | None = None
    meanings: Sequence[Meaning] = ()
    measured: Sequence[str] = ()
    hidden: dict[str, str | int] = field(default_factory=dict)
    actions: Sequence[Action] = ()
    undo: Action = Action("u", "undo", "Undo", "", "undo")
    page: int = 1
    pages: int = 1


class Pages:
    """The pages of one reviewer. Each method returns a whole HTML document; `nonce` is of its style and script."""

    def __init__(self, audit: Audit, comparison: BlindComparison | None) -> None:
        self.audit, self.comparison = audit, comparison
        self._environment = Environment(
            loader=PackageLoader("drift.review"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"thousands": "{:,}".format, "time_left": time_left}

    def label(self, nonce: str, label: FeedbackLabel | None, review: Review | None = None) -> str:
        """A reply to decide on, or one that `review` decided on: only then the label itself is shown."""
        conversation = self.audit.store.conversation(label.conversation_id) if label else None
        shown = None
        if label:
            gone = Markup("<p class='done'>This conversation is no longer in the store: skip it.</p>")
            shown = Markup(conversation_html(conversation, label, review is not None)) if conversation else gone
        verdict = (review.label or SKIP) if review else None
        progress = self.audit.progress()
        view = self._audited(
            title="Was the user satisfied with this reply?",
            question=ASKED,
            shown=shown,
            done="No reply left to review. To label more conversations: drift label --store DIR.",
            decision=self._decided_label(review) if review else None,
            meanings=MEANINGS,
            measured=[
                f"precision of the labels {_share(progress.quality.precision)}",
                f"recall {_share(progress.quality.recall)}",
                f"random replies decided: {progress.quality.sampled}",
                *(_agreement(name, agreement) for name, agreement in sorted(progress.agreement.items())),
                *_do_not_count(progress.outdated, "words that have changed since"),
            ],
            hidden={
                "conversation": label.conversation_id,
                "reply": label.reply_index,
                "shown": shown_of(conversation, label),
            }
            if label
            else {},
            actions=[_pressed(action, verdict) for action in VERDICTS] if label else (),
        )
        return self._page("decide.html.jinja", nonce, view, LABELS if not review else LABEL)

    def decided_labels(self, nonce: str, page: int) -> str:
        view = self._audited(title="Your decisions on labels", question="Every decision can be changed.", page=page)
        return self._page("decided.html.jinja", nonce, view, DECIDED)

    def pair(self, nonce: str, pair: PreferencePair | None, preference: ReviewedPreference | None = None) -> str:
        """A pair to decide on, or one that `preference` decided on: only then it says which reply is the fresh one."""
        side = side_of(pair, preference) if pair and preference else None
        view = self._compared(
            title="Which reply is better?",
            question=ASKED_PAIR,
            shown=Markup(pair_html(pair, preference is not None)) if pair else None,
            done="All pairs of this iteration are decided.",
            decision=self._decided_pair(preference) if preference else None,
            hidden={"pair": pair.pair_id} if pair else {},
            actions=[_pressed(action, side) for action in SIDES] if pair else (),
        )
        return self._page("decide.html.jinja", nonce, view, PAIRS if not preference else PAIR)

    def decided_pairs(self, nonce: str, page: int) -> str:
        view = self._compared(title="Your decisions on replies", question="Every decision can be changed.", page=page)
        return self._page("decided.html.jinja", nonce, view, DECIDED_PAIRS)

    def _audited(self, page: int | None = None, **view) -> View:
        """`page`: of the list of all decisions; None: the latest few."""
        decisions, valid, progress = self.audit.decisions(), self.audit.valid_decisions(), self.audit.progress()
        shown, number, pages = _slice(decisions, page)
        return View(
            decided=progress.decided,
            total=progress.total,
            left=progress.seconds_left,
            address=LABELS,
            list_address=DECIDED,
            undo_address=UNDO,
            latest=[self._decided_label(review, review in valid) for review in shown],
            all_decisions=len(decisions),
            page=number,
            pages=pages,
            **view,
        )

    def _compared(self, page: int | None = None, **view) -> View:
        assert self.comparison is not None
        decisions, so_far = self.comparison.decisions(), self.comparison.improvement()
        shown, number, pages = _slice(decisions, page)
        return View(
            decided=so_far.decided,
            total=so_far.total,
            left=so_far.seconds_left,
            address=PAIRS,
            list_address=DECIDED_PAIRS,
            undo_address=UNDO_PAIR,
            latest=[self._decided_pair(preference) for preference in shown],
            all_decisions=len(decisions),
            measured=[
                f"the fresh reply wins {_share(so_far.p_imp)}",
                *_do_not_count(so_far.others, "other texts of these pairs, of an earlier or another run of this name"),
            ],
            page=number,
            pages=pages,
            **view,
        )

    def _decided_label(self, review: Review, is_valid: bool = True) -> Decided:
        if not is_valid:
            return Decided(review.label or "Skipped", "It does not count: what it judged has changed since.", "", "")
        label = self.audit.label(review.conversation_id, review.reply_index)
        conversation = self.audit.store.conversation(review.conversation_id)
        guess, excerpt, address = "Its label is no longer in the store.", "", ""
        if label:
            chance = "" if label.p_dsat is None else f", p(dissatisfied) {label.p_dsat:.2f}"
            guess = f"The label by {label.labeller}: {label.label}{chance}."
            address = f"{LABEL}?{urlencode({'conversation': review.conversation_id, 'reply': review.reply_index})}"
        if conversation and review.user_index is not None and review.user_index < len(conversation.messages):
            excerpt = _excerpt(as_text(conversation.messages[review.user_index]))
        return Decided(review.label or "Skipped", guess, excerpt, address)

    def _decided_pair(self, preference: ReviewedPreference) -> Decided:
        assert self.comparison is not None
        pair = next(pair for pair in self.comparison.pairs if pair.pair_id == preference.pair_id)
        names = {"chosen": "The fresh reply", "rejected": "The disliked reply", "tie": "Tie"}
        verdict = names.get(preference.winner or "", "Skipped")
        fresh = "1" if fresh_is_left(pair) else "2"
        request = next((message for message in reversed(pair.prompt) if message.role == "user"), pair.prompt[-1])
        address = f"{PAIR}?{urlencode({'pair': pair.pair_id})}"
        return Decided(verdict, f"The fresh reply was reply {fresh}.", _excerpt(as_text(request)), address)

    def _page(self, template: str, nonce: str, view: View, here: str) -> str:
        pages = [("Review labels", LABELS), ("Your decisions", DECIDED)]
        if self.comparison is not None:
            pages += [("Compare replies", PAIRS), ("Your decisions on replies", DECIDED_PAIRS)]
        values = {"view": view, "nonce": nonce, "reviewer": self.audit.reviewer, "pages": pages, "here": here}
        return self._environment.get_template(template).render(**values)


def side_of(pair: PreferencePair, preference: ReviewedPreference) -> str:
    """The value of the button that made this decision."""
    if preference.winner in (None, "tie"):
        return preference.winner or SKIP
    return "left" if (preference.winner == "chosen") == fresh_is_left(pair) else "right"


def time_left(seconds: float | None) -> str:
    if seconds is None:
        return "the time left is known after four decisions"
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute left at this pace" if seconds else "no time left"
    hours = f"{minutes // 60} h " if minutes >= 60 else ""
    return f"about {hours}{minutes % 60} min left at this pace"


def _slice(decisions: Sequence, page: int | None) -> tuple[Sequence, int, int]:
    """The decisions to show, the number of the page, and how many pages there are."""
    if page is None:
        return decisions[:LATEST], 1, 1
    pages = max(1, -(-len(decisions) // PER_PAGE))
    number = min(max(page, 1), pages)
    return decisions[(number - 1) * PER_PAGE : number * PER_PAGE], number, pages


def _pressed(action: Action, value: str | None) -> Action:
    return replace(action, pressed=action.value == value)


def _excerpt(text: str) -> str:
    words = " ".join(text[:400].split())
    return words if len(words) <= 120 and len(text) <= 400 else f"{words[:120]} …"


def _agreement(name: str, agreement: ReviewerAgreement) -> str:
    kappa = "undefined" if agreement.kappa is None else f"{agreement.kappa:.2f}"
    return f"kappa with {name}: {kappa} on {agreement.replies} replies"


def _do_not_count(decisions: int, why: str) -> list[str]:
    return [f"decisions on {why}, which do not count: {decisions}"] if decisions else []


def _share(share: Share | None) -> str:
    return "unknown yet" if share is None else f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"


MESSAGES_BEFORE, MESSAGES_AFTER = 20, 4  # around the judged reply


def conversation_html(conversation: Conversation, label: FeedbackLabel, decided: bool) -> str:
    """The judged reply and the user's reaction, with the messages around them.

    The evidence is marked only once it is `decided`: it is there for DSAT and SAT labels alone, so it tells the label.
    """
    messages = conversation.messages
    first = max(0, label.reply_index - MESSAGES_BEFORE)
    last = min(len(messages), (label.user_index or label.reply_index) + MESSAGES_AFTER + 1)
    return "".join(_message_parts(conversation, label, first, last, label.evidence if decided else None))


def _message_parts(
    conversation: Conversation, label: FeedbackLabel, first: int, last: int, evidence: str | None
) -> Iterator[str]:
    messages = conversation.messages
    if first:
        yield f"<p>… {first} earlier messages</p>"
    for index in range(first, last):
        if index == label.reply_index:
            yield message_html(messages[index], None, "judged", ": the reply to judge")
        elif index == label.user_index:
            yield message_html(messages[index], evidence, "reaction", ": what they wrote next")
        else:
            yield message_html(messages[index])
    if last < len(messages):
        yield f"<p>… {len(messages) - last} later messages</p>"


def pair_html(pair: PreferencePair, decided: bool) -> str:
    """The prompt and both replies. Which one is fresh is told only once it is `decided`."""
    prompt = "".join(message_html(message) for message in pair.prompt[-MESSAGES_BEFORE:])
    sides = [("fresh", pair.chosen), ("disliked", pair.rejected)]
    parts = []
    for number, (kind, messages) in enumerate(sides if fresh_is_left(pair) else sides[::-1], 1):
        heading = f"Reply {number}" + (f": the {kind} one" if decided else "")
        parts.append(f"<section><h2>{heading}</h2>{''.join(map(message_html, messages))}</section>")
    return f'{prompt}<div class="pair" id="reply">{"".join(parts)}</div>'


def message_html(message: ChatMessage, evidence: str | None = None, kind: str = "", note: str = "") -> str:
    """A message with its tool calls; thoughts are folded."""
    tool = f" {message.name}" if message.name else ""
    thoughts = ""
    if message.reasoning:
        thoughts = f"<details><summary>thoughts</summary>{marked(message.reasoning, None)}</details>"
    place = ' id="reply" tabindex="-1"' if kind == "judged" else ""
    return (
        f'<div class="message {kind}"{place}><div class="role">{escape(message.role + tool + note)}</div>'
        f'<div class="text" dir="auto">{thoughts}{marked(as_text(message), evidence)}</div></div>'
    )


def marked(text: str, evidence: str | None) -> str:
    """The text, escaped, with the evidence in <mark> if the text contains it."""
    cut = text[:LONGEST_SHOWN] + (
        f" … ({len(text) - LONGEST_SHOWN} more characters)" if len(text) > LONGEST_SHOWN else ""
    )
    before, match, after = cut.partition(evidence) if evidence else (cut, "", "")
    return escape(before) + (f"<mark>{escape(match)}</mark>" if match else "") + escape(after)
