"""Three roles: look, act on alarms, and what changes how a line is watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["view", "operate", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks. `name` stands in the audit log."""

    name: str
    role: Role


def allows(has: Role, needed: Role) -> bool:
    """Whether a role may do what another may.

    >>> allows("admin", "operate"), allows("view", "operate")
    (True, False)
    """
    return ROLES.index(has) >= ROLES.index(needed)
