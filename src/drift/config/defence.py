"""Which pairs users who attack shall not make."""

from pydantic import PositiveInt

from drift.config.section import Settings


class DefenceSettings(Settings):
    """Steps against users who attack (docs/poisoning.md). Each one drops rows by name, and all are off by default;
    `labels.max_per_user` and `ingestion.near_duplicates` belong to the same defence.

    `drop_echoes`: drop a pair whose chosen reply takes words from the complaint that the model hardly ever uses by
    itself.

    `max_per_echo`: maximum pairs of one iteration whose chosen replies take the same words from a complaint or a
    correction, whoever wrote it; of a correction also how it begins and ends. Words that the model writes to others by
    itself may come more often, in proportion, and those that it uses all the time do not count.

    `drop_contested`: drop a disliked reply that other users got for the same request, if nearly all of them did not
    complain.
    """

    drop_echoes: bool = False
    max_per_echo: PositiveInt | None = None
    drop_contested: bool = False
