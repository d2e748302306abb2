"""The simulated deployment that writes the logs of an experiment, and what of it is a setting."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from drift.config import Settings
from drift.errors import ConfigError
from drift.sandbox.instructions.users import UserSettings

World = Literal["first", "long", "instructions"]


def _users(named: object, build: ValidatorFunctionWrapHandler) -> UserSettings:
    """The users with the settings that are named. Raises ValueError for an unknown one, or for a wrong value."""
    if isinstance(named, Mapping):
        names = [field.name for field in fields(UserSettings)]
        unknown = sorted(set(map(str, named)) - set(names))
        if unknown:
            raise ValueError(f"no setting {unknown[0]!r} of the users; there are {', '.join(names)}")
    try:
        return build(named)
    except ConfigError as error:  # of the users themselves, who know no arm
        raise ValueError(str(error).removeprefix("users.").removeprefix("users: ")) from None


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
    users: Annotated[UserSettings, WrapValidator(_users)] = UserSettings()

    @field_validator("noise", "mistaken", "users", mode="after")
    @classmethod
    def _is_of_this_world(cls, value: Any, info: ValidationInfo) -> Any:
        """Settings of another world would change nothing, without a word."""
        world, name = info.data.get("world", "first"), str(info.field_name)
        if name == "mistaken" and value and world != "first":
            raise ValueError(f"only the first world has mistaken users, and this is the world {world}: set 0")
        if name == "noise" and value and world == "instructions":
            raise ValueError("the instructions world has no noise: set 0, or deployment.users.wrong_complaints")
        if name == "users" and value != UserSettings() and world != "instructions":
            raise ValueError(f"only the instructions world has such users, and this is the world {world}: remove them")
        return value
