"""The keys of an app, read once and checked."""

from __future__ import annotations

import warnings
from datetime import timedelta

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import milliseconds
from flask_taskq.config import redact_url
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.errors import ConfigurationError

INSTANCE = "/srv/app/instance"

DURATIONS = [
    "lease",
    "grace",
    "min_backoff",
    "max_backoff",
    "result_ttl",
    "failed_ttl",
    "unknown_actor_ttl",
]
NUMBERS = [*DURATIONS, "max_retries", "max_crashes", "max_message_size", "max_result_size"]


def read(**values) -> Settings:
    return Settings.from_mapping(values, INSTANCE)


def test_without_any_key_the_defaults_hold() -> None:
    """They are the documented ones."""
    settings = read()

    assert settings == Settings(broker_url=f"sqlite:///{INSTANCE}/taskq.sqlite3")
    assert settings.broker_options == {}
    assert settings.namespace == "taskq"
    assert (settings.lease, settings.grace) == (30_000, 25_000)
    assert settings.max_retries == 3
    assert (settings.min_backoff, settings.max_backoff) == (15_000, 604_800_000)
    assert settings.max_crashes == 3
    assert (settings.result_ttl, settings.failed_ttl) == (86_400_000, 604_800_000)
    assert settings.max_message_size == 262_144
    assert settings.max_result_size == 1_048_576
    assert settings.jobs_url_prefix == "/jobs"
    assert settings.expose == ("actor", "result", "error", "progress", "metadata")


def test_settings_cannot_be_changed() -> None:
    """Configuration is read once."""
    with pytest.raises(AttributeError):
        read().lease = 1


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [5_000, "5000"])
def test_a_number_may_come_as_text(name: str, value) -> None:
    """As it does from the environment."""
    assert getattr(read(**{name: value}), name) == 5_000


@pytest.mark.parametrize("name", DURATIONS)
def test_a_duration_may_come_as_a_timedelta(name: str) -> None:
    """It is kept in milliseconds."""
    assert getattr(read(**{name: timedelta(seconds=1.5)}), name) == 1_500


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_retries", 0), ("min_backoff", 0), ("max_backoff", 0), ("grace", 0)],
)
def test_zero_is_a_value(name: str, value: int) -> None:
    """It does not mean the default."""
    assert getattr(read(**{name: value}), name) == 0


@pytest.mark.parametrize("value", [None, "null"])
def test_retries_may_be_without_limit(value) -> None:
    """None says so."""
    assert read(max_retries=value).max_retries is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("actor,result", ("actor", "result")),
        (" actor , queue ,", ("actor", "queue")),
        ("error", ("error",)),
        ("", ()),
        (["actor", "queue"], ("actor", "queue")),
        (("actor",), ("actor",)),
        ([], ()),
    ],
)
def test_a_list_may_come_as_text(value, expected) -> None:
    """Separated by commas."""
    assert read(expose=value).expose == expected


@pytest.mark.parametrize("value", [None, "/jobs", "/api/v1/jobs"])
def test_the_blueprint_has_a_prefix_or_is_off(value) -> None:
    """None means that there is none."""
    assert read(jobs_url_prefix=value).jobs_url_prefix == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lease", 999),
        ("lease", "soon"),
        ("lease", None),
        ("lease", 1.5),
        ("lease", True),
        ("grace", -1),
        ("grace", timedelta(seconds=-1)),
        ("max_retries", -1),
        ("max_crashes", 0),
        ("max_message_size", 0),
        ("max_result_size", "1M"),
        ("result_ttl", []),
        ("namespace", ""),
        ("namespace", "a-b"),
        ("namespace", "1a"),
        ("namespace", "a" * 33),
        ("namespace", "taskq\n"),
        ("jobs_url_prefix", ""),
        ("jobs_url_prefix", "jobs"),
        ("jobs_url_prefix", "/jobs/"),
        ("jobs_url_prefix", "/jobs/<id>"),
        ("jobs_url_prefix", "/jobs\n"),
        ("expose", 3),
        ("expose", [1]),
        ("expose", {"a": 1}),
        ("broker_url", 7),
        ("broker_options", "a=1"),
        ("results_url", 7),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_key(name: str, value) -> None:
    """As it stands in the app's configuration, with what was found there."""
    with pytest.raises(ConfigurationError, match=f"TASKQ_{name.upper()}:") as caught:
        read(**{name: value})

    if name not in ("broker_url", "broker_options", "results_url"):
        assert "got" in str(caught.value)


@pytest.mark.parametrize("name", [*DURATIONS, "time_limit", "hard_limit_grace"])
@pytest.mark.parametrize("value", [timedelta.max, 10**17, "100000000000000000"])
def test_a_duration_beyond_all_dates_is_refused(name: str, value) -> None:
    """What ends after the year 9999 could be neither stored everywhere nor shown."""
    with pytest.raises(ConfigurationError, match=f"TASKQ_{name.upper()}:"):
        read(**{name: value})


def test_a_duration_beyond_all_dates_is_refused_with_its_unit() -> None:
    """It is likely in another one."""
    with pytest.raises(ConfigurationError, match="is in milliseconds, and at most 6,000 years"):
        read(result_ttl=10**17)


@pytest.mark.parametrize(
    ("name", "value"),
    [("jobs_url_prefix", ""), ("jobs_url_prefix", "None"), ("max_retries", "None")],
)
def test_the_environments_word_for_none_is_told(name: str, value: str) -> None:
    """Flask reads JSON there."""
    with pytest.raises(ConfigurationError, match="in the environment, None is written null"):
        read(**{name: value})


@pytest.mark.parametrize("name", ["broker_url", "results_url"])
@pytest.mark.parametrize("value", [b"redis://u:hunter2@h", ["redis://u:hunter2@h"]])
def test_a_bad_url_is_not_repeated(name: str, value) -> None:
    """It may carry a password."""
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: value})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["password=hunter2", ["hunter2"]])
def test_bad_options_are_not_repeated(value) -> None:
    """They may carry one, too."""
    with pytest.raises(ConfigurationError) as caught:
        read(broker_options=value)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redsi://user:hunter2@host:6379/0",
        "redsi://:hunter2@host",
        "redsi:/user:hunter2@host",
        "redsi:user:hunter2@host",
        "user:hunter2@host",
        "redsi://user:hunter2/@host",
        "redsi://user:hunt@hunter2@host",
        "redsi://user:\nhunter2@host",
        "//user:hunter2@host",
        "redsi://us/er:hunter2@host",
        "redsi://us?er:hunter2@host",
        "redsi://:hunter2?hunter2@host",
        "redsi://:hunter2",
        "redsi://host/0?password=hunter2",
        "redsi://host:6379/0?passwrt=hunter2&x=1",
        "redsi://host:6379/0?password=hunt@hunter2",
        "redsi://host/0?password=a&hunter2",
        "redsi://user:hunter2@host/0?x=a@hunter2",
        "redsi://host/0#hunter2",
        "redsi:host?\nhunter2",
    ],
)
def test_a_url_for_no_engine_is_shown_without_its_password(url: str) -> None:
    """However badly it is written."""
    with pytest.raises(ConfigurationError, match="TASKQ_BROKER_URL") as caught:
        make_engine(Settings(broker_url=url), Clock())

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:6379/0",
        "redis://user@host:6379/0",
        "sqlite:////srv/app/a.sqlite3",
        "memory://",
    ],
)
def test_a_url_without_a_password_is_shown_whole(url: str) -> None:
    """There is nothing to hide."""
    assert redact_url(url) == url


def test_a_url_with_a_query_still_says_where() -> None:
    """Whatever is in the query is hidden: a name may be misspelled."""
    assert redact_url("redis://host:6379/0?password=secret&db=1") == "redis://host:6379/0?***"


def test_settings_can_be_shown() -> None:
    """In a log, or in the variables of a traceback: without passwords."""
    settings = read(
        broker_url="redis://u:hunter2@h/0?password=hunter2",
        results_url="redis://:hunter2@h",
        broker_options={"password": "hunter2"},
        result_ttl=5,
    )

    for shown in (repr(settings), str(settings)):
        assert "hunter2" not in shown
        assert "result_ttl=5" in shown
        assert "redis://" in shown


def test_a_url_with_a_password_still_says_where() -> None:
    """Only the password is gone."""
    assert redact_url("amqp://me:secret@host:5672/v") == "amqp://me:***@host:5672/v"


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_url_means_the_default(value) -> None:
    """As when a variable of the environment is not set."""
    assert read(broker_url=value, results_url=value) == read()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///jobs.db", f"sqlite:///{INSTANCE}/jobs.db"),
        ("sqlite:///data/jobs.db", f"sqlite:///{INSTANCE}/data/jobs.db"),
        ("sqlite:////var/jobs.db", "sqlite:////var/jobs.db"),
        ("sqlite:///jobs.db?timeout=1", f"sqlite:///{INSTANCE}/jobs.db?timeout=1"),
        ("memory://", "memory://"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_a_path_is_relative_to_the_instance_folder(url: str, expected: str) -> None:
    """Three slashes; with four it is absolute. Other URLs are left alone."""
    settings = read(broker_url=url, results_url=url)
    assert (settings.broker_url, settings.results_url) == (expected, expected)


def test_the_path_does_not_depend_on_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    """A relative instance folder is resolved when the keys are read."""
    monkeypatch.chdir(tmp_path)

    settings = Settings.from_mapping({}, "instance")

    assert settings.broker_url == f"sqlite:///{tmp_path}/instance/taskq.sqlite3"


@pytest.mark.parametrize("url", ["sqlite:///?key=hunter2", "sqlite:///:memory:?key=hunter2"])
def test_a_url_that_names_no_file_is_shown_without_its_query(url: str) -> None:
    """As others are."""
    with pytest.raises(ConfigurationError) as caught:
        read(broker_url=url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite:///?x=1"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    """Each process would see jobs of its own; the text says what to use."""
    with pytest.raises(ConfigurationError, match="TASKQ_BROKER_URL.*memory://"):
        read(broker_url=url)
    with pytest.raises(ConfigurationError, match="TASKQ_RESULTS_URL.*memory://"):
        read(results_url=url)


@pytest.mark.parametrize(("name", "near"), [("broker_ur", "BROKER_URL"), ("leases", "LEASE")])
def test_an_unknown_key_is_a_warning_with_the_nearest_name(name: str, near: str) -> None:
    """It is likely a slip of the pen."""
    with pytest.warns(UserWarning, match=f"TASKQ_{name.upper()} .* TASKQ_{near}\\?"):
        assert read(**{name: "x"}) == read()


def test_an_unknown_key_that_is_like_no_other_has_no_hint() -> None:
    """A wild guess helps nobody."""
    with pytest.warns(UserWarning) as caught:
        read(zzzzz=1)

    assert "did you mean" not in str(caught[0].message)


def test_known_keys_warn_of_nothing() -> None:
    """Every field has its key."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(**{name: "5000" for name in NUMBERS})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        (timedelta(milliseconds=7), 7),
        (timedelta(microseconds=1_600), 2),
        (timedelta(days=30), 2_592_000_000),
    ],
)
def test_a_duration_is_whole_milliseconds(value, expected: int) -> None:
    """Given as such, or as a timedelta."""
    assert milliseconds(value) == expected
