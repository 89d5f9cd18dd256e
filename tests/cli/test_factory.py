"""How a process of a worker finds the app of a program with a ``FlaskGroup`` of its own."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup
from flask.cli import ScriptInfo

from flask_taskq.cli import worker
from flask_taskq.cli.factory import FactoryNotFound
from flask_taskq.cli.factory import locate_factory

#: What an app shows of itself. Flask makes the file of the jobs from the last one.
FACTS = """
import json, sys
import click

def show(app, place=None):
    names = app.name, app.root_path, app.instance_path, app.config.get("ARGUMENTS")
    print(json.dumps([names, place]))

@click.command()
@click.pass_context
def where(context):
    import msgspec
    from flask.cli import ScriptInfo
    from flask_taskq.cli.factory import locate_factory
    info = context.ensure_object(ScriptInfo)
    place = locate_factory(info.create_app, info.set_debug_flag)
    show(info.load_app(), msgspec.json.encode(place).decode())
"""

#: As the program of a child: it is told what the parent has found.
CHILD = """
import sys
import msgspec
from flask_taskq.cli.factory import FactoryPath, load_factory
factory = load_factory(msgspec.json.decode(sys.argv[1], type=FactoryPath))
from facts import show
show(factory())
"""

PLAIN = """
import sys
from flask import Flask
from flask.cli import FlaskGroup
from facts import where

def create_app():
    app = Flask(__name__)
    app.config["ARGUMENTS"] = sys.argv[1:]
    return app

cli = FlaskGroup(create_app=create_app)
cli.add_command(where)
if __name__ == "__main__":
    cli()
"""

#: The factory has no name, and the group has.
NAMELESS = PLAIN.replace("create_app=create_app", "create_app=lambda: create_app()")

#: The group has no name, and the factory has.
LOCAL = PLAIN.replace(
    "cli = FlaskGroup(create_app=create_app)\ncli.add_command(where)\n",
    "def cli():\n"
    "    group = FlaskGroup(create_app=create_app)\n"
    "    group.add_command(where)\n"
    "    group()\n",
)


def run(folder, *words, cwd=None):
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd or folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def child():
    """Builds the app as a process of a worker does, somewhere else on the ``sys.path``."""

    def child(place, cwd):
        return run(cwd, "-c", CHILD, place)[0]

    return child


@pytest.mark.parametrize(
    ("program", "file", "text"),
    [
        (["manage.py"], "manage.py", PLAIN),
        (["manage.py"], "manage.py", NAMELESS),
        (["manage.py"], "manage.py", LOCAL),
        (["bin/manage"], "bin/manage", PLAIN),
        (["-m", "package.manage"], "package/manage.py", PLAIN),
        (["-m", "package.manage"], "package/manage.py", NAMELESS),
    ],
)
def test_a_child_has_the_app_of_the_program(tmp_path, child, program, file, text):
    """With its name, its folders and its arguments, however the program was started."""
    for name in ("facts.py", "bin/facts.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(FACTS)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    (path.parent / "__init__.py").touch()
    path.write_text(text)
    names, place = run(tmp_path, *program, "where")
    assert child(place, tmp_path) == names
    assert names[3] == ["where"]


def test_a_child_has_the_app_of_a_package_that_is_run(tmp_path, child):
    """But for its name, ``__main__``, which is the child's own."""
    (tmp_path / "facts.py").write_text(FACTS)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(PLAIN)
    (_, *facts), place = run(tmp_path, "-m", "package", "where")
    assert child(place, tmp_path)[1:] == facts


def test_a_program_is_found_from_another_folder(tmp_path, child):
    """Flask then makes the instance folder where the command was given, in both."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "facts.py").write_text(FACTS)
    (tmp_path / "shop" / "manage.py").write_text(PLAIN)
    names, place = run(tmp_path, "shop/manage.py", "where")
    assert names[2] == str(tmp_path / "instance")
    assert child(place, tmp_path) == names


def test_a_factory_in_a_module_is_imported_from_there(tmp_path, child):
    """With the ``sys.path`` that the program has set up, and without running it again."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.py").write_text(PLAIN)
    (tmp_path / "facts.py").write_text(FACTS)
    (tmp_path / "manage.py").write_text(
        "import sys\n"
        "sys.path.insert(0, 'src')\n"
        "from shop import cli\n"
        "assert __name__ == '__main__'\n"
        "cli()\n"
    )
    names, place = run(tmp_path, "manage.py", "where")
    assert json.loads(place)["module"] == "shop"
    assert child(place, tmp_path) == names


def test_a_program_that_is_imported_by_its_own_parts_is_there_once(tmp_path, child):
    """A second one would have another TaskQ."""
    (tmp_path / "facts.py").write_text(FACTS)
    (tmp_path / "manage.py").write_text(PLAIN)
    _, place = run(tmp_path, "manage.py", "where")
    run(tmp_path, "-c", f"{CHILD}\nimport manage\nassert manage.create_app is factory", place)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (PLAIN.replace('if __name__ == "__main__"', "if True"), "ends when it is imported"),
        ("cli = None", "has no 'create_app' when it is imported"),
    ],
)
def test_a_program_that_a_child_cannot_use_is_told_what_to_change(tmp_path, text, hint):
    """It has become so since."""
    (tmp_path / "facts.py").write_text(FACTS)
    (tmp_path / "manage.py").write_text(PLAIN)
    _, place = run(tmp_path, "manage.py", "where")
    (tmp_path / "manage.py").write_text(text)
    command = [sys.executable, "-c", CHILD, place]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"{tmp_path}/manage.py {hint}" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr


def test_a_factory_that_nobody_could_find_again_is_refused():
    """With what to do."""
    with pytest.raises(FactoryNotFound, match="a function that has a name in a module"):
        locate_factory(lambda: Flask("app"), True)


def test_the_command_refuses_such_a_factory_as_wrong_usage():
    """Before anything is started."""
    group = FlaskGroup(create_app=lambda: Flask("app"))
    info = ScriptInfo(create_app=group.create_app)
    result = CliRunner().invoke(worker, [], obj=info)
    assert result.exit_code == 2
    assert "cannot find <function" in result.output
