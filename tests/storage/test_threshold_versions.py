"""Threshold versions: nothing is lost, and database, model row and model folder say the same."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from ssn_core import operating_point
from ssn_core.errors import ModelFolderError, SettingError, SsnError
from storage import projects, registry, thresholds
from storage.tables import ModelRow, ThresholdEventRow
from tests.model_seed import add_model


@pytest.fixture
def model(db):
    folder = db.data_dir / "models" / "1" / "1"
    folder.mkdir(parents=True)
    return registry.register(
        db,
        project_id=projects.create(db, name="Commutators").id,
        job_id=None,
        name="First",
        folder="models/1/1",
        recipe="cam",
        backbone="resnet18",
        held_out="out_of_fold",
        threshold=0.25,
        suggested_threshold=0.25,
        scale_low=0.0,
        scale_high=4.0,
        summary={},
    )


def save(db, model, threshold=1.5, threshold_low=None, how="By hand", inspector="Ada"):
    return thresholds.save(
        db, model_id=model.id, threshold=threshold, threshold_low=threshold_low, how=how, inspector=inspector
    )


def in_folder(db, model):
    """Thresholds and version that the model folder carries."""
    point = operating_point.read(registry.model_path(db, model))
    return None if point is None else (point.threshold, point.threshold_low, point.version)


def in_row(db, model):
    row = registry.get(db, model_id=model.id)
    return row.threshold, row.threshold_low


def make_old(db, model, **values):
    """As a model of an installation from before versions were kept."""
    with db.write() as session:
        session.execute(delete(ThresholdEventRow).where(ThresholdEventRow.model_id == model.id))
        session.execute(update(ModelRow).where(ModelRow.id == model.id).values(**values))


def test_the_trainings_suggestion_is_the_first_version(db, model):
    [first] = thresholds.history(db, model_id=model.id)
    assert (first.threshold, first.threshold_low, first.inspector) == (0.25, None, "")
    assert first.how == "Suggested by the training: Youden's J"
    assert first.created_at == model.created_at
    assert first.id > 0


def test_saved_thresholds_are_in_force_everywhere_and_the_suggestion_stays(db, model):
    version = save(db, model, 1.5, -0.5, how="Escape rate at most 2 %")
    assert (version.model_id, version.threshold, version.threshold_low) == (model.id, 1.5, -0.5)
    assert (version.how, version.inspector) == ("Escape rate at most 2 %", "Ada")
    row = registry.get(db, model_id=model.id)
    assert (row.threshold, row.threshold_low, row.suggested_threshold) == (1.5, -0.5, 0.25)
    assert [row.verdict(score) for score in (-0.6, -0.5, 1.49, 1.5)] == ["good", "check", "check", "bad"]
    point = operating_point.read(registry.model_path(db, model))
    assert point == operating_point.OperatingPoint(
        1.5, -0.5, version.how, version.inspector, version.created_at, version.id
    )
    save(db, model, 0.75)
    assert in_row(db, model) == (0.75, None)
    assert [found.threshold for found in thresholds.history(db, model_id=model.id)] == [0.75, 1.5, 0.25]


def test_versions_are_numbered_within_their_model(db, model):
    other = add_model(db, model.project_id, name="Second", threshold=0.5)
    save(db, other)
    assert save(db, model).number == 2
    assert [version.number for version in thresholds.history(db, model_id=model.id)] == [2, 1]
    first = thresholds.history(db, model_id=other.id)[-1]
    assert (first.number, first.threshold) == (1, 0.5)
    assert thresholds.restore(db, version_id=first.id, inspector="Ada").how.startswith("Version 1 restored: ")


def test_an_old_version_comes_back_as_a_new_one(db, model):
    old = save(db, model, 1.5, -0.5, how="Lowest cost")
    save(db, model, 9.0)
    back = thresholds.restore(db, version_id=old.id, inspector="Grace")
    assert (back.threshold, back.threshold_low, back.inspector) == (1.5, -0.5, "Grace")
    assert back.how == "Version 2 restored: Lowest cost"
    assert back.id > old.id
    again = thresholds.restore(db, version_id=back.id, inspector="Grace")
    assert again.how == "Version 4 restored: Lowest cost"
    assert in_row(db, model) == (1.5, -0.5)
    assert in_folder(db, model) == (1.5, -0.5, again.number)
    assert len(thresholds.history(db, model_id=model.id)) == 5


@pytest.mark.parametrize(("threshold", "how"), [(0.25, "Suggested by the training"), (3.0, "Set before versions")])
def test_a_model_from_before_versions_shows_the_threshold_it_has_and_keeps_it(db, model, threshold, how):
    make_old(db, model, threshold=threshold)
    [only] = thresholds.history(db, model_id=model.id)
    assert (only.id, only.threshold) == (0, threshold)
    assert only.how.startswith(how)
    newest = save(db, model, 1.0)
    history = thresholds.history(db, model_id=model.id)
    assert [found.threshold for found in history] == [1.0, threshold]
    assert history[1].how == only.how
    assert history[1].created_at == model.created_at
    assert 0 < history[1].id < newest.id
    assert thresholds.restore(db, version_id=history[1].id, inspector="Ada").threshold == threshold


@pytest.mark.parametrize(
    ("threshold", "low"), [(float("nan"), None), (float("inf"), None), (1.0, float("-inf")), (1.0, 1.1)]
)
def test_thresholds_that_judge_nothing_are_refused_and_nothing_changes(db, model, threshold, low):
    with pytest.raises(SettingError, match="threshold"):
        save(db, model, threshold, low)
    assert in_row(db, model) == (0.25, None)
    assert len(thresholds.history(db, model_id=model.id)) == 1
    assert in_folder(db, model) is None


def test_models_and_versions_that_do_not_exist_are_named(db, model):
    for call in (
        lambda: thresholds.history(db, model_id=77),
        lambda: thresholds.save(db, model_id=77, threshold=0.0, how="x", inspector="y"),
        lambda: thresholds.restore(db, version_id=77, inspector="y"),
        lambda: thresholds.restore(db, version_id=0, inspector="y"),
    ):
        with pytest.raises(SsnError, match="There is no such"):
            call()


def test_words_are_one_line_and_no_longer_than_the_database_keeps(db, model):
    version = save(db, model, how="a\nb\x1b[31m " + "c" * 500, inspector="\u202eAda" + "d" * 500)
    assert version.how.startswith("a b [31m c")
    assert (len(version.how), len(version.inspector)) == (200, 100)
    assert version.how.isprintable()
    assert version.inspector.isprintable()
    assert in_folder(db, model) == (1.5, None, version.number)
    back = thresholds.restore(db, version_id=version.id, inspector="Ada")
    assert len(back.how) == 200


def test_a_model_whose_folder_is_gone_keeps_its_versions_and_the_folder_is_not_made(db, model):
    folder = registry.model_path(db, model)
    folder.rename(db.data_dir / "elsewhere")
    version = save(db, model)
    assert not folder.exists()
    (db.data_dir / "elsewhere").rename(folder)
    assert thresholds.folder_in_force(db, model) == folder
    assert in_folder(db, model) == (1.5, None, version.number)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b"[" * 10_000])
def test_a_copy_that_is_missing_or_damaged_is_repaired_when_the_model_is_used(db, model, content):
    version = save(db, model, 1.5, 1.0)
    path = registry.model_path(db, model) / operating_point.FILE_NAME
    path.unlink() if content is None else path.write_bytes(content)
    thresholds.folder_in_force(db, model)
    assert in_folder(db, model) == (1.5, 1.0, version.number)


def test_an_older_copy_is_repaired_when_the_model_is_used(db, model):
    save(db, model, 1.5)
    path = registry.model_path(db, model) / operating_point.FILE_NAME
    older = path.read_bytes()
    newest = save(db, model, 2.5)
    path.write_bytes(older)
    thresholds.folder_in_force(db, model)
    assert in_folder(db, model) == (2.5, None, newest.number)


def test_a_copy_that_is_right_is_not_written_again(db, model):
    save(db, model)
    path = registry.model_path(db, model) / operating_point.FILE_NAME
    os.utime(path, (1, 1))
    thresholds.folder_in_force(db, model)
    assert path.stat().st_mtime == 1


def test_a_full_disk_is_said_and_the_copy_follows_when_the_model_is_next_used(db, model, monkeypatch, caplog):
    save(db, model, 1.5)

    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(thresholds, "write_atomically", full)
        with pytest.raises(ModelFolderError, match=r"saved and in force here.*No space left"):
            save(db, model, 2.5)
        assert thresholds.folder_in_force(db, model).is_dir()  # the model can still be used
        assert "No space left" in caplog.text
    assert in_row(db, model) == (2.5, None)
    assert in_folder(db, model)[0] == 1.5  # the old one, whole
    newest = thresholds.history(db, model_id=model.id)[0]
    thresholds.folder_in_force(db, model)
    assert in_folder(db, model) == (2.5, None, newest.number)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind an administrator")
def test_a_folder_that_cannot_be_written_to_is_said(db, model):
    folder = registry.model_path(db, model)
    folder.chmod(0o500)
    try:
        with pytest.raises(ModelFolderError, match="Permission denied"):
            save(db, model, 2.5)
    finally:
        folder.chmod(0o700)
    assert [path.name for path in folder.iterdir()] == []
    newest = save(db, model, 3.5)
    assert in_folder(db, model) == (3.5, None, newest.number)


def test_a_folder_in_the_files_place_is_said_and_leaves_no_debris(db, model):
    folder = registry.model_path(db, model)
    (folder / operating_point.FILE_NAME / "x").mkdir(parents=True)
    with pytest.raises(ModelFolderError, match="not yet in the model's folder"):
        save(db, model, 2.5)
    assert [path.name for path in folder.iterdir()] == [operating_point.FILE_NAME]
    assert in_row(db, model) == (2.5, None)


SAVING = """
import sys
from pathlib import Path
from storage import thresholds
from storage.db import connect
from storage.settings import Settings

data_dir, url, model_id, name = sys.argv[1:]
db = connect(Settings(data_dir=Path(data_dir), database_url=url, weights_dir=None))
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    low = -number if number % 2 else None
    thresholds.save(db, model_id=int(model_id), threshold=number, threshold_low=low, how=name, inspector=name)
"""


def test_two_processes_that_save_at_once_lose_nothing_and_leave_the_newest_in_force(db, settings, model):
    command = [sys.executable, "-c", SAVING, str(settings.data_dir), settings.database_url, str(model.id)]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([*command, name], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("Ada", "Grace")
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=120)
        assert process.returncode == 0
    history = thresholds.history(db, model_id=model.id)
    for name in ("Ada", "Grace"):
        assert [found.threshold for found in history if found.inspector == name] == list(range(24, -1, -1))
    newest = history[0]
    assert in_row(db, model) == (newest.threshold, newest.threshold_low)
    assert in_folder(db, model) == (newest.threshold, newest.threshold_low, newest.number)


def test_a_slow_writer_does_not_leave_an_older_version_in_the_folder(db, model, monkeypatch):
    write, other = thresholds.write_atomically, []

    def overtaken(path, data):
        if not other:  # while this one is about to write, another process saves and is done
            other.append(None)
            other.append(save(db, model, 7.0, inspector="Grace"))
        write(path, data)

    monkeypatch.setattr(thresholds, "write_atomically", overtaken)
    save(db, model, 5.0)
    assert in_folder(db, model) == (7.0, None, other[1].number)
    assert json.loads((registry.model_path(db, model) / operating_point.FILE_NAME).read_text())["inspector"] == "Grace"
