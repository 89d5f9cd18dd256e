"""Actors that are classes."""

import pytest

from flask_taskq import GenericActor
from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.app import shared_actors as shared
from flask_taskq.testing import drain
from tests.support.apps import make_app


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """Declarations of a test end with it."""
    monkeypatch.setattr(shared, "_declared", {})


@pytest.fixture
def taskq(clock):
    return TaskQ(clock=clock)


@pytest.fixture
def app(taskq):
    return make_app(taskq)


def test_a_class_is_an_actor(taskq, app):
    """Of the name of the class; ``perform()`` is what runs."""

    class Add(GenericActor, taskq=taskq):
        def perform(self, a, b=1):
            return a + b

    with app.app_context():
        jobs = [
            Add.send(1, b=2),
            Add.send_with_options(args=(1,)),
            *taskq.send_many([Add.message(2), Add.message_with_options(args=(3,))]),
        ]
    drain(app)
    assert [job.get_result() for job in jobs] == [3, 2, 3, 4]
    assert jobs[0].record.actor == "Add"


def test_meta_has_the_options(taskq):
    """Those of the decorator, the name included."""

    class Add(GenericActor, taskq=taskq):
        class Meta:
            actor_name = "math.add"
            queue_name = "math"
            priority = -1
            max_retries = 0

    actor = Add.__actor__
    assert (actor.actor_name, actor.queue_name, actor.priority) == ("math.add", "math", -1)
    assert actor.options == {"max_retries": 0}


@pytest.mark.needs("Retries")
def test_options_of_meta_are_checked(taskq, app):
    """As those of the decorator."""
    with pytest.raises(ValueError, match="did you mean 'max_retries'"):

        class Add(GenericActor, taskq=taskq):
            class Meta:
                max_retires = 0


@pytest.mark.needs("Retries")
def test_an_abstract_class_is_a_base_only(taskq, app):
    """Its subclasses have its Meta and its TaskQ."""

    class Base(GenericActor, taskq=taskq):
        class Meta:
            abstract = True
            queue_name = "math"
            max_retries = 1

    class Add(Base):
        pass

    class Subtract(Base):
        class Meta(Base.Meta):
            queue_name = "slow"

    broker = taskq.broker_for(app)
    assert broker.get_declared_actors() == {"Add", "Subtract"}
    assert (Add.queue_name, Add.options) == ("math", {"max_retries": 1})
    assert (Subtract.queue_name, Subtract.options) == ("slow", {"max_retries": 1})
    with pytest.raises(TypeError, match="Base is abstract"):
        Base.send()


def test_without_a_taskq_the_actor_is_shared():
    """A library has none."""

    class Add(GenericActor):
        def perform(self, a, b):
            return a + b

    app = make_app(TaskQ())
    with app.app_context():
        job = Add.send(1, 2)
    drain(app)
    assert job.get_result() == 3


def test_what_the_class_has_is_its_own_and_the_rest_the_actors(taskq):
    """As in Dramatiq; what neither has is missing."""

    class Add(GenericActor, taskq=taskq):
        """Adds."""

        queue_name = "mine"
        colour = "red"

        def perform(self): ...

    assert (Add.colour, Add.queue_name, Add.actor_name) == ("red", "mine", "Add")
    assert Add.__doc__ == "Adds."
    for cls in (Add, GenericActor):
        with pytest.raises(AttributeError, match=rf"'{cls.__name__}.*'taste'|'taste'"):
            cls.taste  # noqa: B018


def test_a_class_can_be_called_as_python_would(taskq):
    """It makes an instance, which has what subclasses share."""

    class Add(GenericActor, taskq=taskq):
        def __init__(self):
            self.base = 10

        def perform(self, a):
            return self.base + a

    assert Add().perform(1) == 11


@pytest.mark.needs("Retries")
def test_a_class_without_perform_fails_its_jobs(taskq, app):
    """The error names it."""

    class Add(GenericActor, taskq=taskq):
        class Meta:
            max_retries = 0

    with app.app_context():
        job = Add.send()
    [job] = drain(app, raise_failures=False)
    assert job.status is Status.FAILED
    assert (job.record.error.type, job.record.error.message) == (
        "NotImplementedError",
        "Add has no perform()",
    )


def test_arguments_of_perform_are_checked_and_converted(taskq, app):
    """By its signature, without ``self``."""

    class Tell(GenericActor, taskq=taskq):
        def perform(self, it: set[int]) -> set[int]:
            return it

    with app.app_context():
        with pytest.raises(TypeError, match="actor 'Tell' takes"):
            Tell.send()
        job = Tell.send({1, 2})
        drain(app)
        assert job.get_result() == {1, 2}


def test_a_class_sends_with_options_as_an_actor_does(taskq, app):
    """Its perform() takes the arguments."""

    class Build(GenericActor, taskq=taskq):
        def perform(self, month: int) -> int:
            return month

    with app.app_context():
        record = Build.using(priority=-1, queue_name="fast").send(3).refresh().record
    assert (record.actor, record.priority, record.queue) == ("Build", -1, "fast")
