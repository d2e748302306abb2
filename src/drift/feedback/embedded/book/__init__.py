"""The project's own phrase book: how people complain, approve and carry on, and the tasks they do it about.

Plain text in sections. `expand` turns it into training examples, on which the embedded labeller is fitted; the lists of
words serve the labeller's features. It shares no text with the sandbox's simulated users. Some of the neutral patterns
were written after reading real chats, but no sentence is copied from them.
"""

from importlib.resources import files

from drift.errors import DataError


def read_sections(name: str) -> dict[str, list[str]]:
    """The lines of a page of the book under its `[section]` headings; `#` begins a remark.

    Raises DataError where a line stands before the first section.
    """
    sections: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for number, line in enumerate(files(__name__).joinpath(name).read_text("utf-8").splitlines(), 1):
        if line.startswith("[") and line.endswith("]"):
            lines = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            if lines is None:
                raise DataError(f"{name}:{number}: {line!r} stands before the first [section].")
            lines.append(line)
    return sections
