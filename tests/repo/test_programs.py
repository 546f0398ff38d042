"""The command `leptond`, as its user meets it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from leptond import __version__
from leptond.base.errors import StartRefused
from leptond.base.paths import data_dir
from leptond.config import Settings, parse
from leptond.docs_build.reference import files
from leptond.store.database.migrate import available

PYTHON = sys.executable
TOP = Path(__file__).parents[2]


def leptond(*arguments: str, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", "leptond", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(TOP), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version(tmp_path):
    assert leptond("--version", tmp_path=tmp_path).stdout.strip() == f"leptond, version {__version__}"


def test_check_config_prints_what_counts_and_it_reads_back(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[queue]\ncpu_slots = 3\n")
    done = leptond("check-config", "--config", str(file), tmp_path=tmp_path, LEPTOND_JOBS__GRACE_S="7")
    assert done.returncode == 0, done.stderr
    settings = parse(done.stdout, {})
    assert (settings.queue.cpu_slots, settings.jobs.grace_s) == (3, 7.0)
    assert settings.http == Settings().http


@pytest.mark.parametrize(
    ("text", "env", "words"),
    [
        ("[queue]\ncpu_slot = 3", {}, "cpu_slot"),
        ("[queue]\ncpu_slots = -1", {}, "$.queue.cpu_slots"),
        ("[queue", {}, "not TOML"),
        ("", {"LEPTOND_QUEUE__CPU_SLOTS": "many"}, "$.queue.cpu_slots"),
        ("", {"LEPTOND_NOPE__X": "1"}, "no section [nope]"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(tmp_path, text, env, words):
    file = tmp_path / "c.toml"
    file.write_text(text)
    done = leptond("run", "--config", str(file), tmp_path=tmp_path, **env)
    assert done.returncode == 78
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".local").exists(), "nothing was made"


def test_a_missing_configuration_that_was_named(tmp_path):
    assert leptond("check-config", "--config", "/no/such.toml", tmp_path=tmp_path).returncode == 78


def test_migrate_makes_the_schema_and_then_has_nothing_to_do(tmp_path):
    first = leptond("migrate", tmp_path=tmp_path)
    assert "applied 0001_queue.sql" in first.stdout
    database = tmp_path / ".local/state/leptond/leptond.db"
    assert database.stat().st_mode & 0o777 == 0o600
    assert database.parent.stat().st_mode & 0o777 == 0o700
    assert "nothing to do" in leptond("migrate", tmp_path=tmp_path).stdout


def test_a_file_that_is_no_database_is_refused_and_left(tmp_path):
    place = tmp_path / ".local/state/leptond"
    place.mkdir(parents=True, mode=0o700)
    (place / "leptond.db").write_bytes(b"something else entirely, and not a database at all" * 100)
    before = (place / "leptond.db").read_bytes()
    done = leptond("run", "--simulate-gpus", "1", tmp_path=tmp_path)
    assert done.returncode == 78
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert (place / "leptond.db").read_bytes() == before


def test_a_state_directory_that_others_can_write_is_refused(tmp_path):
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    done = leptond("run", "--state-dir", str(place), tmp_path=tmp_path)
    assert done.returncode == 78
    assert "chmod 700" in done.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:8370", "nonsense", "192.168.1.1:80"])
def test_tcp_listens_on_loopback_only(tmp_path, listen):
    done = leptond("run", "--listen", listen, "--simulate-gpus", "1", tmp_path=tmp_path)
    assert done.returncode == 78
    assert "Traceback" not in done.stderr


def test_lists_and_tables_can_come_from_the_environment():
    settings = parse("", {"LEPTOND_HTTP__ALLOWED_HOSTS": '["gpu-box"]', "LEPTOND_QUEUE__CPU_SLOTS": "5"})
    assert settings.http.allowed_hosts == ["gpu-box"]
    assert settings.queue.cpu_slots == 5
    with pytest.raises(StartRefused):
        parse("", {"LEPTOND_HTTP__ALLOWED_HOSTS": "[broken"})


def test_what_of_the_documentation_is_made_is_up_to_date():
    made = files(TOP)
    assert {"docs/http.md", "docs/operations.md", "docs/concepts.md", "docs/man/leptonctl.1"} <= set(made)
    for name, text in made.items():
        assert (TOP / name).read_text() == text, f"{name}: run python -m leptond.docs_build.reference ."


def test_every_command_of_the_daemon_stands_in_the_docs(tmp_path):
    listed = re.findall(
        r"^  ([a-z-]+) ", leptond("--help", tmp_path=tmp_path).stdout.split("Commands:")[1], re.M
    )
    docs = (TOP / "docs" / "operations.md").read_text()
    assert listed
    assert all(f"leptond {name}" in docs for name in listed)


def test_migrations_have_numbers_without_gaps():
    numbers = [number for number, _ in available(data_dir("migrations"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_daemon_never_imports_torch():
    script = "import sys, leptond.daemon.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([PYTHON, "-c", script], cwd=TOP, check=False).returncode == 0
