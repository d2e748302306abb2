"""The simulated deployment that writes the logs of an experiment, and what of it is a setting."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from drift.config import Settings
from drift.sandbox.instructions.users import UserSettings

World = Literal["first", "long", "instructions"]


def _users(named: object) -> object:
    """The users with the settings that are named. Raises ValueError for an unknown one."""
    if not isinstance(named, Mapping):
        return named
    known = [field.name for field in fields(UserSettings)]
    unknown = sorted(set(map(str, named)) - set(known))
    if unknown:
        raise ValueError(f"no setting {unknown[0]!r} of the users; there are {', '.join(known)}")
    values: dict[str, Any] = {str(name): tuple(value) if name == "kinds" else value for name, value in named.items()}
    return UserSettings(**values)


class DeploymentSettings(Settings):
    """The simulated deployment that writes the logs of an experiment.

    `turns`: replies of the model in the logs. `noise`: share of complaints that are about a random reply (not in the
    instructions world). `mistaken`: share of the users who are wrong: they also contradict right replies (the first
    world alone). `model`: the model that answers the users; null uses the policy to be trained. `temperature`:
    its sampling temperature. `users`: what the users of the instructions world want, and how they react.
    """

    world: World = "first"
    turns: PositiveInt = 5000
    noise: float = Field(default=0.0, ge=0.0, le=1.0)
    mistaken: float = Field(default=0.0, ge=0.0, le=1.0)
    model: str | None = None
    temperature: PositiveFloat = 1.0
    users: Annotated[UserSettings, BeforeValidator(_users)] = UserSettings()

    @field_validator("mistaken")
    @classmethod
    def _has_wrong_answers(cls, share: float, info: ValidationInfo) -> float:
        world = info.data.get("world", "first")
        if share and world != "first":
            raise ValueError(f"only the first world has mistaken users, and this is the world {world}: set 0")
        return share
