"""Chats that are trees of messages: each path from a root to a leaf is a conversation.

Several replies to one message are regenerations of each other. All but the last count as disliked, unless the user
answered them or returned to them. A path keeps its id when it grows: the chat's, with the message where it leaves the
older path. A turn of the assistant may be several nodes (thoughts, calls, answers of tools, the reply).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from drift.logs.draft import ConversationDraft, last_reply
from drift.logs.files.rows import MAX_ROW_BYTES, Place, Reject, Unusable, short_form
from drift.logs.judgements import no_reply
from drift.records import Message, Rating, Reason

_MAX_MESSAGES = 100_000  # in all paths of a chat together: a tree can have as many paths as messages


@dataclass(frozen=True, slots=True)
class Node:
    """A message of a tree, or several; without any it only holds its children together.

    `ratings`: of its last reply (or, if it is the answer of a tool, of that which called it), whatever their
    `reply_index`. `seat`: which of several models that were asked at once wrote it; None if the log does not show which
    of their replies is later. `children`: in the order of time.
    """

    messages: tuple[Message, ...]
    parent: str | None
    model: str | None = None
    ratings: tuple[Rating, ...] = ()
    seat: str | None = ""
    children: list[str] = field(default_factory=list)

    @property
    def is_reply(self) -> bool:
        """Whether it ends with a reply, or with the answer of a tool that one called."""
        return bool(self.messages) and self.messages[-1].role in ("assistant", "tool")


def connect(nodes: Mapping[str, Node], listed: Mapping[str, object]) -> None:
    """Fill in the children. Only `parent` makes the tree; `listed` (ids of children by node) only gives their order."""
    for name, node in nodes.items():
        if node.parent is not None:
            nodes[node.parent].children.append(name)
    for name, node in nodes.items():
        given = listed.get(name)
        order: dict[str, int] = {}
        for place, child in enumerate(given if isinstance(given, list) else ()):
            if isinstance(child, str):
                order[child] = place
        node.children.sort(key=lambda child, order=order: order.get(child, len(order)))


def paths(at: Place, nodes: Mapping[str, Node], current: str | None, chat: str) -> Iterator[ConversationDraft | Reject]:
    """Yield the draft of each path of the chat with the id `chat`, and what became of judgements of no reply and
    of messages outside of all paths.

    `current`: the message at which the user was last. Raises Unusable if there are no messages.
    """
    tree = _Tree(nodes)
    if not any(node.messages for node in nodes.values()):
        raise Unusable(Reason.NO_MESSAGES, "an empty chat")
    disliked = tree.regenerated(current)
    budget, left_out = _Budget(), 0
    for leaf, depth in tree.leaves():
        path = tree.path(leaf) if budget.has_room_for(depth) else []
        if not path or not budget.takes(path, nodes):
            left_out += 1
            continue
        branch = next((name for name in reversed(path) if tree.leaves_older_path(name)), None)
        draft = _draft(at, [(name, nodes[name], name in disliked) for name in path])
        yield replace(draft, source_id=chat if branch is None else f"{chat}/{branch}", family=chat)
    for node in nodes.values():
        if not node.is_reply:
            yield from (no_reply(at) for _ in node.ratings)
    if left_out:
        yield Reject(at, Reason.TOO_LARGE, f"{left_out} more paths of a tree of {len(nodes)} messages")
    if lost := tree.lost():
        detail = f"{len(lost)} messages lead to no root, for example {short_form(lost[0])}"
        yield Reject(at, Reason.CYCLIC_TREE, detail)


class _Tree:
    """What is known about the nodes, each computed once: trees can be as deep as they are large."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        roots = [name for name, node in nodes.items() if node.parent is None]
        self._depth = self._reach(roots)
        self._speaker: dict[str, str | None] = {}  # who speaks first, in the node or below it: user or assistant
        self._answered: set[str] = set()  # nodes below which the user speaks
        self._living: dict[str, list[str]] = {}  # children that hold messages, or lead to some
        for name in reversed(self._depth):
            self._look_at(name)
        self._roots = [name for name in roots if self._is_alive(name)]

    def _reach(self, roots: list[str]) -> dict[str, int]:
        """The length of the path to each node that leads to a root, parents first. Missing nodes are in a cycle."""
        depth = dict.fromkeys(roots, 1)
        waiting = list(reversed(roots))
        while waiting:
            name = waiting.pop()
            for child in reversed(self._nodes[name].children):
                depth[child] = depth[name] + 1
                waiting.append(child)
        return depth

    def _look_at(self, name: str) -> None:
        """Note what is known about a node; its children are known."""
        node = self._nodes[name]
        living = self._living[name] = [child for child in node.children if self._is_alive(child)]
        own = next((message.role for message in node.messages if message.role in ("user", "assistant")), None)
        self._speaker[name] = own or (self._speaker[living[0]] if living else None)
        if any(self._has_user(child) or child in self._answered for child in living):
            self._answered.add(name)

    def _is_alive(self, name: str) -> bool:
        return bool(self._nodes[name].messages or self._living[name])

    def _has_user(self, name: str) -> bool:
        return any(message.role == "user" for message in self._nodes[name].messages)

    def leaves(self) -> Iterator[tuple[str, int]]:
        """Yield the last node of each path, and its depth."""
        for name, depth in self._depth.items():
            if self._nodes[name].messages and not self._living[name]:
                yield name, depth

    def path(self, leaf: str) -> list[str]:
        """The nodes from the root to the leaf."""
        path, name = [], leaf
        while name is not None:
            path.append(name)
            name = self._nodes[name].parent
        return path[::-1]

    def leaves_older_path(self, name: str) -> bool:
        """Whether an older sibling holds messages: then the path leaves another one here."""
        parent = self._nodes[name].parent
        siblings = self._roots if parent is None else self._living[parent]
        return siblings[0] != name

    def lost(self) -> list[str]:
        """The nodes that lead to no root."""
        return [name for name in self._nodes if name not in self._depth]

    def regenerated(self, current: str | None) -> set[str]:
        """The first nodes of replies that were asked for again, and that the user neither answered nor came back to."""
        current_path: set[str] = set()
        while current is not None and current in self._nodes and current not in current_path:
            current_path.add(current)
            current = self._nodes[current].parent
        wanted = current_path | self._answered
        disliked: set[str] = set()
        for living in self._living.values():
            by_model: dict[str, list[str]] = {}
            for child in living if len(living) > 1 else ():
                seat = self._nodes[child].seat
                if self._speaker[child] == "assistant" and seat is not None:
                    by_model.setdefault(seat, []).append(child)
            for replies in by_model.values():
                disliked.update(name for name in replies[:-1] if name not in wanted)
        return disliked


class _Budget:
    """The size that all paths of one chat may have together."""

    def __init__(self) -> None:
        self._messages, self._characters = _MAX_MESSAGES, MAX_ROW_BYTES

    def has_room_for(self, messages: int) -> bool:
        return messages <= self._messages

    def takes(self, path: list[str], nodes: Mapping[str, Node]) -> bool:
        messages = len(path)
        characters = sum(message.size for name in path for message in nodes[name].messages)
        if messages > self._messages or characters > self._characters:
            return False
        self._messages -= messages
        self._characters -= characters
        return True


def _draft(at: Place, path: list[tuple[str, Node, bool]]) -> ConversationDraft:
    """The draft of one path. Each node comes with its id and whether it begins a reply that was asked for again."""
    messages: list[Message] = []
    ratings: list[Rating] = []
    models: list[str] = []
    ids: list[tuple[str, int]] = []
    unwanted = False
    for name, node, is_disliked in path:
        unwanted = unwanted or is_disliked
        messages += node.messages
        if node.is_reply and (place := last_reply(messages)) is not None:
            models += [node.model] if node.model else []
            ratings += [replace(rating, reply_index=place) for rating in node.ratings]
            ids.append((name, place))
    if unwanted and (place := last_reply(messages)) is not None:
        ratings.append(Rating(place, "regeneration", -1.0))
    merged, places = join_thoughts(messages)
    ratings = [replace(rating, reply_index=places[rating.reply_index]) for rating in ratings]
    return ConversationDraft(
        at=at,
        messages=tuple(merged),
        ratings=tuple(ratings),
        model=models[-1] if models else None,
        reply_ids=tuple((name, places[place]) for name, place in ids),
    )


def join_thoughts(messages: list[Message]) -> tuple[list[Message], list[int]]:
    """The messages, with thoughts that are a message of their own put into the reply or call that follows them; and
    the new place of each message."""
    joined: list[Message] = []
    places: list[int] = []
    for message in messages:
        before = joined[-1] if joined else None
        if before is not None and message.role == before.role == "assistant" and _is_thought(before):
            thoughts = "\n".join(filter(None, (before.reasoning, message.reasoning)))
            joined[-1] = replace(message, reasoning=thoughts)
        else:
            joined.append(message)
        places.append(len(joined) - 1)
    return joined, places


def _is_thought(message: Message) -> bool:
    return bool(message.reasoning) and not message.content and not message.tool_calls
