"""A job that is sent before the commit, in debug mode."""

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_taskq import TaskQ

db = SQLAlchemy()


class Order(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    state = db.Column(db.String, default="new")


def make_app(taskq, *, debug=True):
    app = Flask("app")
    app.debug = debug
    app.config["TASKQ_BROKER_URL"] = "memory://"
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    taskq.init_app(app)
    db.init_app(app)
    return app


@pytest.fixture
def taskq():
    return TaskQ()


@pytest.fixture
def ship(taskq):
    @taskq.actor
    def ship(order_id: int) -> None:
        pass

    return ship


@pytest.fixture
def app(taskq):
    app = make_app(taskq)
    with app.app_context():
        db.create_all()
        yield app
        db.session.remove()
        db.drop_all()
        db.engine.dispose()


def new_order():
    order = Order()
    db.session.add(order)
    db.session.commit()
    return order


def add(order):
    db.session.add(Order())


def flush(order):
    db.session.add(Order())
    db.session.flush()


def flush_and_end_a_savepoint(order):
    flush(order)
    with db.session.begin_nested():
        pass


def change(order):
    order.state = "paid"


def delete(order):
    db.session.delete(order)


@pytest.mark.parametrize("work", [add, flush, flush_and_end_a_savepoint, change, delete])
def test_a_job_that_is_sent_before_the_commit_is_warned_of(app, ship, caplog, work):
    """Once, with the name of its actor, and sent all the same."""
    order = new_order()
    number = order.id
    work(order)

    jobs = [ship.send(number), ship.send(number)]

    [record] = caplog.records
    assert "a job of actor 'ship' is sent while the database session has changes" in caplog.text
    assert "Call db.session.commit() first" in caplog.text
    assert record.levelname == "WARNING"
    assert [job.refresh().status for job in jobs] == ["queued", "queued"]


def commit(order):
    flush(order)
    db.session.commit()


def roll_back(order):
    flush(order)
    db.session.rollback()


def begin_anew(order):
    flush(order)
    db.session.remove()


def read(order):
    assert db.session.get(Order, order.id).state == "new"


@pytest.mark.parametrize("work", [commit, roll_back, begin_anew, read])
def test_a_job_that_is_sent_when_all_is_committed_is_not_warned_of(app, ship, caplog, work):
    """Nor after a rollback, nor when rows were only read."""
    order = new_order()
    number = order.id
    work(order)
    ship.send(number)
    assert caplog.records == []


def test_sending_begins_no_session(app, ship, caplog):
    """An app that uses none in a request does not connect to its database."""
    ship.send(1)
    assert not db.session.registry.has()
    assert caplog.records == []


def test_without_debug_mode_nobody_looks(taskq, ship, caplog):
    """It costs a production server nothing."""
    app = make_app(taskq, debug=False)
    hooks = [type(one).__name__ for one in taskq.broker_for(app).middleware]
    assert "Uncommitted" not in hooks
    with app.app_context():
        db.session.add(Order())
        ship.send(1)
    assert caplog.records == []


def test_an_app_without_a_database_is_not_looked_at(taskq, ship, caplog):
    """Though another one of the process has one."""
    app = Flask("other")
    app.debug = True
    app.config["TASKQ_BROKER_URL"] = "memory://"
    taskq.init_app(app)
    with app.app_context():
        ship.send(1)
    assert caplog.records == []
