"""The broker: its actors, its chain of middleware, and the way in for messages."""

import logging
from contextvars import copy_context
from datetime import date

import pytest
from werkzeug.datastructures import MultiDict

from flask_taskq import Message
from flask_taskq import Middleware
from flask_taskq import Status
from flask_taskq.actors.actor import Actor
from flask_taskq.errors import ActorNotFound
from flask_taskq.errors import BadArguments
from flask_taskq.errors import BrokerFull
from flask_taskq.errors import JobNotFound
from flask_taskq.errors import MiddlewareError
from flask_taskq.middleware.current_job import CurrentJob
from flask_taskq.middleware.retries import Retries
from tests.support.apps import declare
from tests.support.apps import make_broker
from tests.support.apps import messages
from tests.support.apps import run_of
from tests.support.apps import Watcher


@pytest.fixture
def broker(clock):
    return make_broker(clock)


@pytest.fixture
def add(broker):
    @declare(broker)
    def add(a, b):
        return a + b

    return add


class Cycles(Middleware):
    """A middleware with an option."""

    actor_options = {"cycles"}


class Refusing(Middleware):
    """Ends what is about to happen."""

    def __init__(self, hook):
        def refuse(*args, **kwargs):
            raise MiddlewareError(f"not this {hook}")

        setattr(type(self), hook, refuse)


def refusing(hook):
    return type("Refusing", (Refusing,), {})(hook)


# Actors


def test_a_declared_actor_is_known_by_its_name(broker, add):
    """Here, and nowhere else, names become functions."""
    assert broker.get_actor("add") is add
    assert broker.get_declared_actors() == {"add"}


def test_an_actor_that_is_not_declared_is_not_found(broker):
    """Whatever its name is the name of elsewhere."""
    with pytest.raises(ActorNotFound, match="'os.system'"):
        broker.get_actor("os.system")


def test_a_name_cannot_be_declared_twice(broker, add):
    """The error shows who has it."""
    with pytest.raises(ValueError, match="'add' is declared already.*add"):
        declare(broker, lambda: None, actor_name="add")


def test_an_actor_may_be_declared_again(broker, add):
    """Nothing changes by it."""
    broker.declare_actor(add)
    assert broker.get_actor("add") is add


@pytest.mark.needs("Retries")
def test_an_unknown_option_is_refused_with_the_nearest_name(broker):
    """A typing error must not look like an option that has no effect."""
    with pytest.raises(ValueError, match="'max_retires'.*did you mean 'max_retries'"):
        declare(broker, lambda: None, actor_name="a", max_retires=3)


@pytest.mark.parametrize(
    ("option", "near"),
    [("max_retires", "max_retries"), ("etta", "eta"), ("prioritty", "priority")],
)
@pytest.mark.needs("Retries")
def test_an_unknown_option_of_a_message_is_refused(broker, add, option, near):
    """With the nearest of those that a message can have; nothing is stored."""
    wrong = {option: 1}
    for send in (
        lambda: add.send_with_options(args=(1, 2), **wrong),
        lambda: broker.enqueue_many([add.message(1, 2), add.message(1, 2).copy(options=wrong)]),
    ):
        with pytest.raises(ValueError, match=f"actor 'add' has.*'{option}'.*mean '{near}'"):
            send()
    assert broker.engine.queues.depths() == {}


@pytest.mark.parametrize("option", ["eta", "delay"])
def test_an_option_of_one_call_is_none_of_an_actor(broker, option):
    """A moment that holds for each message would be a trap."""
    with pytest.raises(ValueError, match=f"option '{option}'"):
        declare(broker, lambda: None, actor_name="a", **{option: 1})


@pytest.mark.needs("Retries")
def test_a_middleware_is_asked_about_its_own_options_only(broker):
    """When an actor is declared, and with each message that has any."""
    asked = []

    class Asking(Cycles):
        def check_options(self, options):
            asked.append(options)

    broker.add_middleware(Asking())
    actor = declare(broker, lambda: None, actor_name="a", cycles=3, max_retries=1)
    actor.send()
    actor.send_with_options(max_retries=2)
    actor.send_with_options(cycles=4, max_retries=2, delay=1)
    assert asked == [{"cycles": 3}, {"cycles": 4}]


def test_an_unknown_option_like_no_other_is_refused(broker):
    """Without a bad guess."""
    with pytest.raises(ValueError, match="'zzz'.*none is like it"):
        declare(broker, lambda: None, actor_name="a", zzz=3)


def test_a_refused_actor_is_not_declared(broker):
    """Nor is its queue."""
    with pytest.raises(ValueError, match="zzz"):
        declare(broker, lambda: None, actor_name="a", queue_name="slow", zzz=3)
    assert broker.get_declared_actors() == set()
    assert broker.get_declared_queues() == set()


def test_a_middleware_brings_its_options(broker):
    """They are known from then on."""
    broker.add_middleware(Cycles())
    declare(broker, lambda: None, actor_name="a", cycles=3)
    assert broker.get_actor("a").options == {"cycles": 3}


def test_an_actor_declares_its_queue(broker, add):
    """A worker serves it by default."""
    declare(broker, lambda: None, actor_name="slow", queue_name="slow")
    assert broker.get_declared_queues() == {"default", "slow"}


# Middleware


def test_before_hooks_run_in_order_and_after_hooks_in_reverse(broker):
    """As layers do."""
    seen = []
    for name in ("one.", "two."):
        watcher = Watcher(name)
        watcher.seen = seen
        broker.add_middleware(watcher)
    broker.emit_before("process_message", None)
    broker.emit_after("process_message", None)
    assert seen == [
        "one.before_process_message",
        "two.before_process_message",
        "two.after_process_message",
        "one.after_process_message",
    ]


def test_a_middleware_that_was_removed_hears_of_nothing_more(broker):
    """The others do."""
    removed, kept = Watcher(), Watcher()
    broker.add_middleware(removed)
    broker.add_middleware(kept)
    removed.seen.clear()
    kept.seen.clear()
    broker.remove_middleware(removed)
    broker.emit_before("ack", None)
    sent = Message(queue_name="default", actor_name="nobody", args=(), kwargs={}, options={})

    def run() -> None:
        with broker.chain.contexts(broker.chain.any_run, run_of(sent)):
            broker.emit_after("ack", None)

    copy_context().run(run)
    assert kept.seen == ["before_ack", "enter", "after_ack", "leave"]
    assert removed.seen == []


def test_a_middleware_that_is_not_there_cannot_be_removed(broker):
    """It says so, as a list does."""
    with pytest.raises(ValueError):
        broker.remove_middleware(Watcher())


def test_a_hook_that_fails_does_not_keep_others_from_running(broker, caplog):
    """It is logged with its traceback."""

    class Broken(Middleware):
        def before_ack(self, broker, message):
            raise RuntimeError("broken before")

        def after_ack(self, broker, message):
            raise RuntimeError("broken after")

    watcher = Watcher()
    broker.add_middleware(watcher)
    broker.add_middleware(Broken())
    broker.add_middleware(watcher)
    broker.emit_before("ack", None)
    broker.emit_after("ack", None)
    assert watcher.seen == ["before_ack", "before_ack", "after_ack", "after_ack"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "RuntimeError: broken after" in messages(caplog)[1]


def test_a_before_hook_ends_what_follows_with_a_middleware_error(broker):
    """It is the one exception that is taken seriously."""
    watcher = Watcher()
    broker.add_middleware(refusing("before_ack"))
    broker.add_middleware(watcher)
    with pytest.raises(MiddlewareError, match="not this before_ack"):
        broker.emit_before("ack", None)
    assert watcher.seen == []


def test_an_after_hook_cannot_end_anything(broker, caplog):
    """It has happened already."""
    broker.add_middleware(refusing("after_ack"))
    broker.emit_after("ack", None)
    assert "not this after_ack" in messages(caplog)[0]


def test_an_exception_that_is_no_exception_passes(broker):
    """Ctrl-C is not for a hook to swallow."""

    class Stopping(Middleware):
        def after_ack(self, broker, message):
            raise KeyboardInterrupt

    broker.add_middleware(Stopping())
    with pytest.raises(KeyboardInterrupt):
        broker.emit_after("ack", None)


def test_middleware_is_added_at_the_end(broker):
    """Unless a place is given."""
    cycles = Cycles()
    broker.add_middleware(cycles)
    assert broker.middleware[-1] is cycles


def test_middleware_can_be_added_before_another():
    """The place is given by class."""
    broker = make_broker(None, habits=(CurrentJob, Retries))
    broker.add_middleware(Cycles(), before=Retries)
    assert [type(one) for one in broker.middleware] == [CurrentJob, Cycles, Retries]


def test_middleware_can_be_added_after_another():
    """The place is given by class."""
    broker = make_broker(None, habits=(CurrentJob, Retries))
    broker.add_middleware(Cycles(), after=CurrentJob)
    assert [type(one) for one in broker.middleware] == [CurrentJob, Cycles, Retries]


def test_a_place_that_does_not_exist_is_refused(broker):
    """As in Dramatiq."""
    with pytest.raises(ValueError, match="no Cycles among"):
        broker.add_middleware(Retries(), before=Cycles)


def test_two_places_are_refused(broker):
    """As in Dramatiq."""
    with pytest.raises(ValueError, match="one of before and after"):
        broker.add_middleware(Cycles(), before=Retries, after=CurrentJob)


def test_late_middleware_hears_of_what_is_declared(broker, add):
    """It can prepare for actors and queues that came before it."""
    watcher = Watcher()
    broker.add_middleware(watcher)
    assert watcher.seen == ["after_declare_actor", "after_declare_queue"]
    assert watcher.given["after_declare_actor"] == ((add,), {})
    assert watcher.given["after_declare_queue"] == (("default",), {})


def test_declaring_emits_dramatiqs_hooks_in_its_order(broker):
    """The queue is declared within the actor's declaration."""
    watcher = Watcher()
    broker.add_middleware(watcher)
    declare(broker, lambda: None, actor_name="a")
    declare(broker, lambda: None, actor_name="b")
    assert watcher.seen == [
        "before_declare_actor",
        "before_declare_queue",
        "after_declare_queue",
        "after_declare_actor",
        "before_declare_actor",
        "after_declare_actor",
    ]


def test_hooks_that_nobody_overrides_are_not_called(broker):
    """They cost nothing."""
    assert not broker.chain.has("before_ack")
    broker.add_middleware(Watcher())
    assert broker.chain.has("before_ack")


def test_a_plan_that_is_forgotten_while_it_is_made_is_made_anew(broker, add):
    """What it went by has changed meanwhile, in another thread."""

    class Changing(Middleware):
        applies = False

        def applies_to(self, broker, actor):
            before, self.applies = self.applies, True
            broker.forget_resolved()
            return before

        def before_process_message(self, broker, message):
            pass

    changing = Changing()
    broker.add_middleware(changing)
    broker.resolve(add.actor_name)
    assert changing.before_process_message in broker.resolve(add.actor_name).hooks.before


# Messages


def test_sending_emits_hooks_with_the_message_and_its_delay(broker, add):
    """The delay is milliseconds, or None."""
    watcher = Watcher()
    broker.add_middleware(watcher)
    message = add.message(1, 2)
    broker.enqueue(message, delay=5)
    assert watcher.seen[-2:] == ["before_enqueue", "after_enqueue"]
    assert watcher.given["before_enqueue"] == ((message, 5), {})
    broker.enqueue(add.message(1, 2))
    assert watcher.given["after_enqueue"][0][1] is None


def test_a_hook_can_refuse_a_message(broker, add):
    """Nothing is stored, and the sender sees the error."""
    broker.add_middleware(refusing("before_enqueue"))
    with pytest.raises(MiddlewareError, match="not this"):
        add.send(1, 2)
    assert broker.engine.queues.depths() == {}


def test_many_messages_are_stored_in_order(broker, add):
    """The handles come in the same order."""
    made = [add.message(n, n) for n in range(5)]
    jobs = broker.enqueue_many(iter(made))
    assert [job.id for job in jobs] == [message.message_id for message in made]
    broker.engine.workers.register("w")
    fetched = broker.engine.consumer(["default"], "w").fetch(5, 0)
    assert [delivery.id for delivery in fetched] == [job.id for job in jobs]


def test_many_messages_are_all_stored_or_none(broker, add):
    """One that cannot be encoded keeps the others out."""
    with pytest.raises(BadArguments, match="argument 'b'"):
        broker.enqueue_many([add.message(1, 2), add.message(1, object())])
    assert broker.engine.queues.depths() == {}


def test_no_messages_are_no_jobs(broker):
    """A list that happens to be empty is no error."""
    assert broker.enqueue_many([]) == []


def test_after_hooks_do_not_hear_of_a_message_that_was_not_stored(broker, add, monkeypatch):
    """And the sender sees what the engine said."""

    def refuse(envelopes):
        raise BrokerFull("no room")

    watcher = Watcher()
    broker.add_middleware(watcher)
    monkeypatch.setattr(broker.engine, "enqueue", refuse)
    with pytest.raises(BrokerFull, match="no room"):
        add.send(1, 2)
    assert "after_enqueue" not in watcher.seen


def test_a_message_for_an_actor_of_another_program_can_be_sent(broker):
    """The worker may be another program with another list of actors."""
    job = broker.enqueue(Message("other", "elsewhere", (1,), {}, {}))
    assert job.refresh().status is Status.QUEUED


@pytest.mark.parametrize(
    "change",
    [
        {"queue_name": "a b"},
        {"queue_name": "evil\nINFO all is well"},
        {"actor_name": "a b"},
        {"actor_name": "evil\r\n"},
        {"message_id": "7"},
        {"message_id": "Z" * 32},
        {"message_id": "a" * 32 + "\n"},
    ],
)
def test_a_message_made_by_hand_with_a_bad_name_is_refused(broker, add, change):
    """A worker would refuse it, when its sender is long gone."""
    with pytest.raises(ValueError, match="queue name|actor name|job's id"):
        broker.enqueue(add.message(1, 2).copy(**change))
    assert broker.engine.queues.depths() == {}


@pytest.mark.parametrize("actor_name", ["add", "elsewhere"])
@pytest.mark.parametrize(
    "change",
    [
        {"args": None},
        {"args": "ab"},
        {"args": {1, 2}},
        {"kwargs": None},
        {"kwargs": []},
        {"options": []},
        {"message_timestamp": "now"},
    ],
    ids=str,
)
def test_a_message_made_by_hand_of_other_types_is_refused(broker, add, actor_name, change):
    """The text names the field. No worker could read such a message."""
    fields = {"queue_name": "default", "actor_name": actor_name, "args": (1, 2)}
    message = Message(**{**fields, "kwargs": {}, "options": {}, **change})
    [name] = change
    with pytest.raises(BadArguments, match=f"^{name} of a message for actor '{actor_name}' is"):
        broker.enqueue(message)
    assert broker.engine.queues.depths() == {}


def test_the_arguments_of_a_message_made_by_hand_may_be_a_list(broker, add):
    """As in its JSON."""
    message = Message("default", "add", [1, 2], {}, {})
    assert broker.enqueue(message).refresh().status is Status.QUEUED


@pytest.mark.parametrize("what", [None, "add", (1, 2)])
def test_what_is_no_message_is_refused(broker, add, what):
    """An actor, or its arguments, instead of what its ``message()`` makes."""
    for one in (what, add, add.send(1, 2)):
        with pytest.raises(BadArguments, match=f"a {type(one).__name__}; it must be a message"):
            broker.enqueue_many([add.message(1, 2), one])


def test_what_no_annotation_can_bring_back_is_not_sent_to_an_unknown_actor(broker):
    """A date may be told by an annotation there; a form or a proxy never is."""
    assert broker.enqueue(Message("default", "elsewhere", (date(2026, 1, 1),), {}, {}))
    for args, kwargs, name in [(("a", MultiDict()), {}, "'number 2'"), ((), {"b": "c"}, "'b'")]:
        message = Message("default", "elsewhere", args, kwargs and {"b": MultiDict()}, {})
        with pytest.raises(BadArguments, match=f"{name} of actor 'elsewhere' is a MultiDict"):
            broker.enqueue(message)


def test_sending_the_same_message_twice_makes_one_job(broker, add):
    """A call whose outcome is unknown can be repeated."""
    message = add.message(1, 2)
    assert broker.enqueue(message).id == broker.enqueue(message).id
    assert broker.engine.queues.depths() == {"default": 1}


@pytest.mark.parametrize(
    ("settings", "actor_options", "options", "expected"),
    [
        ({}, {}, {}, 4),
        ({"max_retries": 7}, {}, {}, 8),
        ({"max_retries": 7}, {"max_retries": 2}, {}, 3),
        ({"max_retries": 7}, {"max_retries": 2}, {"max_retries": 0}, 1),
        ({"max_retries": 0}, {}, {}, 1),
        ({"max_retries": None}, {}, {}, None),
        ({}, {"max_retries": None}, {}, None),
    ],
)
@pytest.mark.needs("Retries")
def test_a_record_says_how_many_runs_it_may_have(
    clock, settings, actor_options, options, expected
):
    """One more than there are retries, and None for any number."""
    broker = make_broker(clock, **settings)
    actor = declare(broker, lambda: None, actor_name="a", **actor_options)
    record = actor.send_with_options(**options).refresh().record
    assert record.max_attempts == expected


@pytest.mark.needs("Retries")
def test_an_option_of_the_message_wins_over_the_actors(broker):
    """And that one over the configuration."""
    actor = declare(broker, lambda: None, actor_name="a", max_retries=2)
    plain = Message("default", "b", (), {}, {})
    assert broker.option(plain, "max_retries") == broker.settings.max_retries
    assert broker.option(actor.message(), "max_retries") == 2
    own = actor.message_with_options(max_retries=7)
    assert broker.option(own, "max_retries") == 7


@pytest.mark.needs("Retries")
def test_none_among_the_options_of_a_message_is_as_if_not_given(broker):
    """What a view passes on may be None: the actor's own option holds."""
    declared = {name for one in broker.middleware for name in one.declared_options}
    names = [*broker.actor_options - declared, "delay", "eta", "priority"]
    actor = declare(broker, lambda: None, actor_name="a", max_retries=2)
    message = actor.message_with_options(queue_name=None, **dict.fromkeys(names))
    assert message.options == {}
    assert broker.option(message, "max_retries") == 2
    assert broker.enqueue(message).record.max_attempts == 3


@pytest.mark.needs("Retries")
def test_none_among_the_options_of_an_actor_is_a_value_where_it_stands_for_one(broker):
    """For no limit; for other options it is as if they were not given."""
    options = dict.fromkeys(broker.actor_options)
    actor = declare(broker, lambda: None, actor_name="a", **options)
    message = actor.message()
    assert broker.option(message, "max_retries") is None
    assert broker.option(message, "time_limit") is None
    assert broker.option(message, "min_backoff") == broker.settings.min_backoff
    assert broker.option(message, "keep_logs") is broker.settings.keep_logs


def test_an_option_without_limit_is_for_a_message_too(broker):
    """JSON has no infinity: in the record it is null."""
    actor = declare(broker, lambda: None, actor_name="a", time_limit=5)
    job = actor.send_with_options(time_limit=float("inf"), max_age=float("inf"))
    assert job.message.options == {"time_limit": None, "max_age": None}
    assert broker.option(job.message, "time_limit") is None


def test_an_infinity_for_which_none_does_not_stand_is_refused(broker):
    """It would be as if the option had not been given."""
    broker.add_middleware(Cycles())
    actor = declare(broker, lambda: None, actor_name="a")
    with pytest.raises(BadArguments, match="option 'cycles' of actor 'a' cannot be sent"):
        actor.send_with_options(cycles=float("inf"))


def test_a_priority_of_none_in_a_message_made_by_hand_is_as_if_not_given(broker):
    """The actor's own holds."""
    actor = declare(broker, lambda: None, actor_name="a", priority=3)
    job = broker.enqueue(actor.message().copy(options={"priority": None}))
    assert job.record.priority == 3


def test_an_option_of_the_middleware_wins_over_the_configuration(broker):
    """An instance was made for it; the record shows it, too."""
    broker.add_middleware(Retries(max_retries=9, min_backoff=0))
    actor = declare(broker, lambda: None, actor_name="a")
    assert broker.option(actor.message(), "max_retries") == 9
    assert broker.option(actor.message(), "min_backoff") == 0
    assert broker.option(actor.message(), "max_backoff") == broker.settings.max_backoff
    assert broker.enqueue(actor.message()).record.max_attempts == 10


# Records


def test_an_unknown_job_is_not_found(broker):
    """It is never pending."""
    for ask in (
        broker.get_record,
        broker.cancel,
        lambda job_id: broker.wait_for_record(job_id, 0),
    ):
        with pytest.raises(JobNotFound, match="0" * 32):
            ask("0" * 32)


def test_every_call_of_the_engine_takes_the_way_of_the_worker(broker, add):
    """A worker routes them through threads of its own."""
    calls = []

    def call(function, *args):
        calls.append(function.__name__)
        return function(*args)

    broker.call_engine = call
    job = add.send(1, 2)
    job.refresh()
    job.cancel()
    broker.wait_for_record(job.id, 0)
    broker.enqueue_many([add.message(1, 2)])
    assert calls == ["enqueue", "get", "get", "cancel", "wait", "enqueue"]


def test_two_brokers_can_know_the_same_actor(clock):
    """Actors belong to the extension, brokers to apps."""
    actor = Actor(lambda: None, resolver=lambda: None, actor_name="a")
    for broker in (make_broker(clock), make_broker(clock)):
        broker.declare_actor(actor)
        assert broker.get_actor("a") is actor


# Queues that nobody has declared


def send_to(broker, queue_name, actor_name="add"):
    return broker.enqueue(Message(queue_name, actor_name, (1, 2), {}, {}))


def test_a_message_to_a_queue_that_no_actor_has_is_warned_of_once(broker, add, caplog):
    """For each queue; the names of the actor, the queue and the nearest one are said."""
    for queue in ("defaults", "defaults", "reports"):
        send_to(broker, queue)
    first, second = messages(caplog, logging.WARNING)
    assert "actor 'add' goes to the queue 'defaults'" in first
    assert "did you mean 'default'?" in first
    assert "the queue 'reports'" in second and "did you mean" not in second


def test_a_queue_that_is_declared_is_not_warned_of(broker, add, caplog):
    """By an actor, or by the app."""
    declare(broker, lambda: None, actor_name="slow", queue_name="slow")
    broker.declare_queue("reports")
    for queue in ("default", "slow", "reports"):
        send_to(broker, queue)
    assert messages(caplog, logging.WARNING) == []


def test_a_message_for_another_app_is_not_warned_of(broker, add, caplog):
    """It was made by hand, for an actor that is not here."""
    send_to(broker, "billing", "charge")
    assert messages(caplog, logging.WARNING) == []
