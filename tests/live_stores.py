"""Stores whose labels are known: each chat has one user, one model, one day and a verdict on each of its replies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drift.records import Conversation, FeedbackLabel, Message, Verdict
from drift.store import Store


@dataclass
class Deployment:
    """Collects chats; `store` writes them with their labels."""

    path: Path
    conversations: list[Conversation] = field(default_factory=list)
    labels: list[FeedbackLabel] = field(default_factory=list)

    def chat(
        self,
        model: str | None,
        day: str | None,
        verdicts: Sequence[Verdict | None],
        *,
        user: str | None = None,
        version: str = "1",
        subtype: str | None = None,
        language: str | None = None,
        **more: object,
    ) -> str:
        """One reply for each verdict, judged by the user's next message. None: judged, but not labelled."""
        name = f"c{len(self.conversations):05d}"
        messages = [Message("user", f"request {name}", source_index=0)]
        for place, verdict in enumerate(verdicts):
            messages.append(Message("assistant", "reply", source_index=2 * place + 1))
            messages.append(Message("user", "reaction", source_index=2 * place + 2))
            if verdict:
                kind = subtype if verdict == "DSAT" else None
                self.labels.append(
                    FeedbackLabel(name, 2 * place + 1, 2 * place + 2, verdict, "embedded", version, subtype=kind)
                )
        started = day and f"{day}T10:00:00Z"
        self.conversations.append(
            Conversation(
                name, "messages", name, tuple(messages), "train", user_key=user, model=model, language=language,
                started_at=started, **more,
            )  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        return name

    def days(self, model: str, days: Sequence[str], judged: int, dsat: int) -> None:
        """On each day, `judged` chats of new users; the first `dsat` of them are complaints."""
        for day in days:
            for number in range(judged):
                self.chat(model, day, ["DSAT" if number < dsat else "NEUTRAL"])

    def store(self) -> Store:
        store = Store(self.path)
        store.add(self.conversations)
        if self.labels:
            store.add_labels(self.labels)
        return store


def days(first: int, last: int) -> list[str]:
    """Days of March 2026."""
    return [f"2026-03-{day:02d}" for day in range(first, last + 1)]
