"""Imports: by content, in batches, resumable; one bad file never stops them and no person's label is overridden."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssn_core.errors import LayoutError, SettingError, SsnError
from ssn_core.splits import part_for
from storage import archives, files, images, imports, jobs, labels, projects, thumbnails
from storage.db import Database

KOLEKTORSDD = Path(__file__).parents[3] / "shared" / "data" / "kolektorsdd"


class StoppedError(Exception):
    """Raised in place of a cancel."""


def ignore(_phase: str, _done: int, _total: int) -> None:
    """A progress that nobody watches."""


def picture(seed: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def put(root: Path, name: str, seed: int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)


def put_mask(root: Path, name: str, *, size: tuple[int, int] = (32, 24), value: int = 255) -> None:
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    mask[3:6, 4:9] = value
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def csv(root: Path, *lines: str, columns: str = "image,label") -> Path:
    path = root / "labels.csv"
    path.write_text("\n".join([columns, *lines]) + "\n")
    return root


def do(db: Database, project: int, source: Path, **changes: Any) -> tuple[int, imports.ImportReport]:
    job_id = queue(db, project, source, **changes)
    return job_id, imports.run(db, job_id=job_id, progress=ignore)


def queue(db: Database, project: int, source: Path, **changes: Any) -> int:
    given = {"layout": None, "staged": False, "inspector": "Ada", **changes}
    return imports.submit(db, project_id=project, source=source, **given)


def by_name(db: Database, project: int) -> dict[str, images.Image]:
    return {image.name: image for image in images.page(db, project_id=project, limit=1000)}


def reasons(db: Database, job_id: int, outcome: str) -> dict[str, str]:
    return {entry.name: entry.reason for entry in imports.entries(db, job_id=job_id, outcome=outcome)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three good images, two bad ones."""
    root = tmp_path / "source"
    for number in range(3):
        put(root, f"good/{number}.png", seed=number)
    for number in range(2):
        put(root, f"bad/{number}.png", seed=100 + number)
    return root


def test_a_preview_says_what_would_come_in_and_changes_nothing(db: Database, project: int, source: Path) -> None:
    (source / "good" / "notes.txt").write_text("hello")
    found = imports.preview(source=source)
    assert (found.layout, found.n_images, found.n_good, found.n_bad, found.n_unlabelled) == ("folders", 5, 3, 2, 0)
    assert found.ignored[0][0] == "good/notes.txt"
    assert len(found.sample_names) == 5
    assert projects.counts(db, project_id=project).total == 0


def test_images_come_in_with_files_thumbnails_and_labels(db: Database, project: int, source: Path) -> None:
    job_id, done = do(db, project, source)
    assert done == imports.ImportReport(added=5, already_there=0, rejected=0, labelled=5)
    image = by_name(db, project)["bad/0.png"]
    assert (image.label, image.label_inspector, image.width, image.height) == ("bad", "Ada", 32, 24)
    assert image.group_key == image.sha256
    assert image.part == part_for(image.sha256, None)
    stored = files.image_path(db.data_dir, sha256=image.sha256, extension=image.extension)
    assert stored.read_bytes() == (source / "bad" / "0.png").read_bytes()
    assert thumbnails.thumbnail_path(db.data_dir, sha256=image.sha256).exists()
    (event,) = labels.history(db, image_id=image.id)
    assert (event.origin, event.verdict, event.inspector) == ("import", "bad", "Ada")
    assert [entry.name for entry in imports.entries(db, job_id=job_id, limit=2)] == ["bad/0.png", "bad/1.png"]


def test_importing_twice_adds_nothing(db: Database, project: int, source: Path) -> None:
    do(db, project, source)
    (source / "good" / "0.png").rename(source / "good" / "renamed.png")
    job_id, done = do(db, project, source)
    assert done == imports.ImportReport(added=0, already_there=5, rejected=0, labelled=0)
    assert "Same content as good/0.png" in reasons(db, job_id, "already_there")["good/renamed.png"]
    assert projects.counts(db, project_id=project).total == 5


def test_two_projects_do_not_share_their_images(db: Database, project: int, source: Path) -> None:
    do(db, project, source)
    _, done = do(db, projects.create(db, name="Other").id, source)
    assert (done.added, done.labelled) == (5, 5)


def test_one_bad_file_never_stops_an_import_and_every_reason_is_given(db: Database, project: int, source: Path) -> None:
    stream = io.BytesIO()
    picture(7).save(stream, "PNG")
    (source / "good" / "cut.png").write_bytes(stream.getvalue()[:-40])
    (source / "good" / "cut copy.png").write_bytes(stream.getvalue()[:-40])
    (source / "good" / "empty.png").write_bytes(b"")
    (source / "good" / "text.jpg").write_text("no image")
    (source / "good" / "notes.txt").write_text("hello")
    picture(8).save(source / "good" / "moving.gif", save_all=True, append_images=[picture(9)])
    job_id, done = do(db, project, source)
    assert (done.added, done.rejected) == (5, 6)
    said = reasons(db, job_id, "rejected")
    assert "damaged or cut short" in said["good/cut.png"] == said["good/cut copy.png"]
    assert "empty" in said["good/empty.png"]
    assert "not an image" in said["good/text.jpg"]
    assert "2 frames" in said["good/moving.gif"]
    assert "not an image file" in said["good/notes.txt"]


def test_the_extension_comes_from_the_content_and_conversions_are_noted(
    db: Database, project: int, tmp_path: Path
) -> None:
    root = tmp_path / "source"
    root.mkdir()
    picture(1).convert("CMYK").save(root / "a.png", "JPEG")
    job_id, _ = do(db, project, root)
    (image,) = by_name(db, project).values()
    assert (image.name, image.extension) == ("a.png", ".jpg")
    assert "CMYK" in reasons(db, job_id, "added")["a.png"]


def test_masks_are_stored_as_they_will_be_shown(db: Database, project: int, tmp_path: Path) -> None:
    root = tmp_path / "source"
    for number in range(5):
        put(root, f"{number}.png", seed=number)
    put_mask(root, "m0.bmp", value=1)
    put_mask(root, "m1.png", size=(31, 24))
    put_mask(root, "m2.png", value=0)
    (root / "m3.png").write_text("no mask")
    source = csv(
        root,
        "0.png,bad,m0.bmp", "1.png,bad,m1.png", "2.png,bad,m2.png", "3.png,bad,m3.png", "4.png,good,",
        columns="image,label,mask",
    )  # fmt: skip
    job_id, done = do(db, project, source)
    assert done.added == 5
    found = by_name(db, project)
    assert [found[f"{number}.png"].has_mask for number in range(5)] == [True, False, False, False, False]
    with Image.open(files.mask_path(db.data_dir, sha256=found["0.png"].mask_sha256 or "")) as mask:
        pixels = np.asarray(mask)
    assert mask.mode == "L"
    assert set(np.unique(pixels)) == {0, 255}
    assert int((pixels == 255).sum()) == 15
    said = reasons(db, job_id, "added")
    assert "another size" in said["1.png"]
    assert "mask not used" in said["3.png"]
    assert said["0.png"] == said["4.png"] == ""


def test_a_mask_that_comes_later_is_added_to_the_image(db: Database, project: int, tmp_path: Path) -> None:
    root = tmp_path / "source"
    put(root, "a.png", seed=1)
    put(root, "copy.png", seed=1)
    put_mask(root, "m.png")
    do(db, project, csv(root, "a.png,bad"))
    assert not by_name(db, project)["a.png"].has_mask
    job_id, _ = do(db, project, csv(root, "a.png,bad,m.png", columns="image,label,mask"))
    assert by_name(db, project)["a.png"].has_mask
    assert "mask was added" in reasons(db, job_id, "already_there")["a.png"]
    other = projects.create(db, name="Other").id
    do(db, other, csv(root, "a.png,bad,", "copy.png,bad,m.png", columns="image,label,mask"))
    assert by_name(db, other)["a.png"].has_mask


def say(db: Database, project: int, image_id: int, seq: int, verdict: str, *, is_undo: bool = False) -> None:
    event = labels.LabelEvent("tab", seq, image_id, verdict, inspector="Grace", origin="board", is_undo=is_undo)
    assert labels.record(db, project_id=project, events=[event]).stored == 1


def test_an_import_labels_what_is_unlabelled_and_never_overrides_a_person(
    db: Database, project: int, tmp_path: Path
) -> None:
    root = tmp_path / "source"
    for number in range(5):
        put(root, f"{number}.png", seed=number)
    do(db, project, csv(root, *(f"{number}.png," for number in range(5))))
    ids = {name: image.id for name, image in by_name(db, project).items()}
    say(db, project, ids["1.png"], 1, "good")  # stands
    say(db, project, ids["2.png"], 2, "good")
    say(db, project, ids["2.png"], 3, "cleared", is_undo=True)  # a slip, taken back: nothing was said
    say(db, project, ids["3.png"], 4, "cleared")  # a person wants no label here
    say(db, project, ids["4.png"], 5, "unsure")
    job_id, done = do(db, project, csv(root, *(f"{number}.png,bad" for number in range(5))))
    assert done == imports.ImportReport(added=0, already_there=5, rejected=0, labelled=2)
    found = {name: image.label for name, image in by_name(db, project).items()}
    assert found == {"0.png": "bad", "1.png": "good", "2.png": "bad", "3.png": None, "4.png": "unsure"}
    assert "keeps its label (good)" in reasons(db, job_id, "already_there")["1.png"]


def test_the_same_bytes_with_two_labels_keep_the_first_and_say_so(db: Database, project: int, source: Path) -> None:
    put(source, "good/twin.png", seed=100)
    job_id, done = do(db, project, source)
    assert (done.added, done.already_there, done.labelled) == (5, 1, 5)
    assert by_name(db, project)["bad/0.png"].label == "bad"
    assert "called good here, but it keeps its label (bad)" in reasons(db, job_id, "already_there")["good/twin.png"]


def test_groups_that_share_an_image_become_one(db: Database, project: int, tmp_path: Path) -> None:
    root = tmp_path / "source"
    rows = []
    for group, seeds in {"c": (1, 2), "b": (2, 3), "a": (3, 4), "z": (8, 9)}.items():
        for seed in seeds:
            put(root, f"{group}{seed}.png", seed)
            rows.append(f"{group}{seed}.png,good,{group}")
    put(root, "loose.png", 4)
    rows.insert(0, "loose.png,good,")  # the first of its content to come, and without a group
    _, done = do(db, project, csv(root, *rows, columns="image,label,group"))
    assert (done.added, done.already_there) == (6, 3)
    found = by_name(db, project)
    assert {image.group_key for name, image in found.items() if name[0] != "z"} == {"a"}
    assert {image.group_key for name, image in found.items() if name[0] == "z"} == {"z"}
    assert {image.part for name, image in found.items() if name[0] != "z"} == {part_for("a", None)}


def test_new_images_of_a_known_group_join_it_and_known_images_keep_theirs(
    db: Database, project: int, tmp_path: Path
) -> None:
    root = tmp_path / "source"
    put(root, "1.png", 1)
    put(root, "2.png", 2)
    put(root, "3.png", 3)
    columns = "image,label,group,split"
    do(db, project, csv(root, "1.png,good,old,test", columns=columns))
    do(db, project, csv(root, "1.png,good,new,", "2.png,good,new,train", "3.png,good,old,train", columns=columns))
    assert {(image.group_key, image.part) for image in by_name(db, project).values()} == {("old", "test")}


def test_the_split_of_a_source_keeps_its_test_set_and_never_cuts_a_group(
    db: Database, project: int, tmp_path: Path
) -> None:
    root = tmp_path / "source"
    for number in range(40):
        put(root, f"{number}.png", number)
    rows = [f"{number}.png,good,,{'test' if number < 10 else 'train'}" for number in range(38)]
    rows += ["38.png,good,item,train", "39.png,good,item,test"]
    job_id, _ = do(db, project, csv(root, *rows, columns="image,label,group,split"))
    found = by_name(db, project)
    assert {found[f"{number}.png"].part for number in range(10)} == {"test"}
    assert {found[f"{number}.png"].part for number in range(10, 38)} == {"train", "calibration"}
    assert {found[f"{number}.png"].part for number in (38, 39)} == {"test"}
    assert "both sides of the split" in reasons(db, job_id, "added")["38.png"]


def test_an_interrupted_import_goes_on_where_it_stopped(
    db: Database, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_SIZE", 4)
    root = tmp_path / "source"
    for number in range(10):
        put(root, f"good/{number}.png", number % 9)
    (root / "good" / "x.txt").write_text("x")
    job_id = queue(db, project, root)

    def stop(phase: str, done: int, total: int) -> None:
        if phase == "Importing" and done == 6:
            raise StoppedError

    with pytest.raises(StoppedError):
        imports.run(db, job_id=job_id, progress=stop)
    assert imports.report(db, job_id=job_id) == imports.ImportReport(4, 0, 0, 4)
    told: list[tuple[str, int, int]] = []
    done = imports.run(db, job_id=job_id, progress=lambda *state: told.append(state))
    assert done == imports.ImportReport(added=9, already_there=1, rejected=1, labelled=9)
    assert next(state for state in told if state[0] == "Importing") == ("Importing", 5, 10)
    assert told[-1] == ("Importing", 10, 10)
    assert imports.run(db, job_id=job_id, progress=ignore) == done
    assert len(imports.entries(db, job_id=job_id)) == 11
    assert all(len(labels.history(db, image_id=image.id)) == 1 for image in by_name(db, project).values())


def test_a_person_labelling_during_the_import_wins(
    db: Database, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "source"
    put(root, "good/1.png", 1)
    do(db, project, csv(root, "good/1.png,"))
    (root / "labels.csv").unlink()
    (image,) = by_name(db, project).values()

    def label_meanwhile(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("Importing", 1) and images.get(db, image_id=image.id).label is None:
            say(db, project, image.id, 1, "bad")

    job_id = queue(db, project, root)
    assert imports.run(db, job_id=job_id, progress=label_meanwhile).labelled == 0
    assert images.get(db, image_id=image.id).label == "bad"


def test_a_disk_that_is_full_fails_the_import_instead_of_blaming_the_files(
    db: Database, project: int, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    job_id = queue(db, project, source)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", full)
        with pytest.raises(SsnError, match="No space left on device"):
            imports.run(db, job_id=job_id, progress=ignore)
    assert imports.entries(db, job_id=job_id) == []
    assert imports.run(db, job_id=job_id, progress=ignore).added == 5


def test_two_imports_of_the_same_images_at_once_add_each_once(db: Database, project: int, source: Path) -> None:
    queued = [queue(db, project, source) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda job_id: imports.run(db, job_id=job_id, progress=ignore), queued))
    assert sum(one.added for one in done) == sum(one.labelled for one in done) == 5
    assert sum(one.already_there for one in done) == 10


def test_an_upload_is_imported_as_a_job_and_its_staging_folder_deleted(
    db: Database, project: int, source: Path, job_context: Callable[[int], imports.ImportContext]
) -> None:
    uploads = [
        (path.relative_to(source).as_posix(), io.BytesIO(path.read_bytes())) for path in sorted(source.rglob("*.png"))
    ]
    folder = archives.stage_uploads(db.data_dir, [*uploads, ("../out.png", io.BytesIO(b"x"))])
    assert imports.preview(source=folder).ignored == (("../out.png", "The name is not usable as a file name"),)
    job_id = queue(db, project, folder, staged=True)
    assert imports.run_job(job_context(job_id)) == {"added": 5, "already_there": 0, "rejected": 1, "labelled": 5}
    assert not folder.exists()


@pytest.fixture
def job_context(db: Database) -> Callable[[int], imports.ImportContext]:
    class Context:
        def __init__(self, job_id: int) -> None:
            self.db = db
            self.job = jobs.get(db, job_id=job_id)

        def progress(self, phase: str, done: int, total: int, **metrics: Any) -> None:
            pass

    return Context


def test_an_import_sweeps_up_old_uploads_that_no_waiting_job_needs(
    db: Database, project: int, source: Path, job_context: Callable[[int], imports.ImportContext]
) -> None:
    def stage(days: int) -> Path:
        folder = archives.stage_uploads(db.data_dir, [("a.png", io.BytesIO(b"a"))])
        os.utime(folder, (time.time() - days * 86_400,) * 2)
        return folder

    to_import, to_inspect, forgotten, fresh = stage(8), stage(8), stage(8), stage(6)
    queue(db, project, to_import, staged=True)
    jobs.submit(db, kind="inspect", project_id=project, payload={"model_id": 1, "staging": str(to_inspect)})
    imports.run_job(job_context(queue(db, project, source)))
    assert [folder.exists() for folder in (to_import, to_inspect, forgotten, fresh)] == [True, True, False, True]


def test_what_cannot_be_imported_is_refused_at_once(db: Database, project: int, source: Path) -> None:
    with pytest.raises(LayoutError, match="no such folder or file"):
        queue(db, project, source / "nowhere")
    with pytest.raises(SsnError, match="no such project"):
        queue(db, 99, source)
    with pytest.raises(SettingError, match="inspector"):
        queue(db, project, source, inspector="  ")
    with pytest.raises(ValueError, match="must not be deleted"):
        queue(db, project, source, staged=True)


def test_an_upload_of_which_nothing_is_left_says_why(db: Database) -> None:
    folder = archives.stage_uploads(db.data_dir, [("../out.png", io.BytesIO(b"x"))])
    with pytest.raises(LayoutError, match="1 left out before, for example"):
        imports.preview(source=folder)


@pytest.mark.skipif(not KOLEKTORSDD.is_dir(), reason="needs ../shared/data/kolektorsdd")
def test_real_images_come_in_once_each(db: Database, project: int) -> None:
    _, done = do(db, project, KOLEKTORSDD)
    assert done == imports.ImportReport(added=383, already_there=16, rejected=0, labelled=383)
    counted = projects.counts(db, project_id=project)
    assert (counted.good, counted.bad, counted.with_mask, counted.groups) == (333, 50, 50, 48)
