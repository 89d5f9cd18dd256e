"""What type checkers make of shared actors and of classes. Checked, and never run."""

from __future__ import annotations

from typing import assert_type

from flask_taskq import GenericActor
from flask_taskq import Job
from flask_taskq import Message
from flask_taskq import shared_actor
from flask_taskq import TaskQ

taskq = TaskQ()


@shared_actor
def bare(month: int) -> str:
    return str(month)


@shared_actor(actor_name="library.called", max_retries=0)
async def called(month: int) -> str:
    return str(month)


class Base(GenericActor, taskq=taskq):
    class Meta:
        abstract = True
        queue_name = "slow"


class Add(Base):
    class Meta(Base.Meta):
        priority = 1

    def perform(self, a: int, b: int = 2) -> str:
        return str(a + b)


class AddAsync(GenericActor):
    async def perform(self, a: int, b: int = 2) -> str:
        return str(a + b)


def check_shared() -> None:
    """As those of a TaskQ."""
    assert_type(bare.send(1), Job[str])
    assert_type(called.send(1), Job[str])
    bare.send("x")  # type: ignore[arg-type]


def check_classes() -> None:
    """They take what ``perform()`` takes, and jobs know what it returns."""
    assert_type(Add.send(1, b=2), Job[str])
    assert_type(AddAsync.send(1), Job[str])
    assert_type(Add.send_with_options(args=(1,), delay=5), Job[str])
    assert_type(AddAsync.send_with_options(args=(1,)), Job[str])
    assert_type(Add.message(1), Message)
    assert_type(Add().perform(1), str)
    Add.send("x")  # type: ignore[arg-type]
    AddAsync.send("x")  # type: ignore[call-overload]
    Add.message()  # type: ignore[call-arg]
    print(Add.taste)  # type: ignore[attr-defined]
