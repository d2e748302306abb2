"""What the user did, or has, that we cannot work with: one line each, always with the remedy."""


class DriftError(Exception):
    """The command cannot go on. The message names the place, the value, what was allowed and the next command."""


class ConfigError(DriftError):
    """A setting is unknown, misspelt or out of range."""


class DataError(DriftError):
    """A file, a row or a whole funnel of rows cannot be used."""


class NothingToTrainOn(DataError):
    """No preference pair came through; whoever knows the whole run adds the funnel."""


class PrerequisiteError(DriftError):
    """Something outside the project is missing: an extra, a model folder, a device."""
