"""Reports: the same facts give the same bytes, nothing from outside is obeyed, and what is missing is said."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update

from ssn_core import crossfit
from ssn_core.errors import SsnError
from ssn_core.rates import rate_interval
from ssn_core.report.document import without_dates
from ssn_core.rules import BY_HAND, YOUDEN, Rule, chosen_on
from storage import (
    files,
    jobs,
    labels,
    lineage,
    map_verdicts,
    maps,
    predictions,
    projects,
    registry,
    reports,
    studies,
    study_verdicts,
    thresholds,
)
from storage.db import Database, connect
from storage.map_verdicts import MapVerdict
from storage.study_verdicts import Message
from storage.tables import ImageRow, ModelRow, ReportRow, ThresholdEventRow
from storage.worker import work
from tests.storage.conftest import POSTGRESQL_URL, settings_for

SETTINGS = {"image_size": [64, 64], "map_sigma": 2.0, "seed": 7, "pooling_fraction": 0.01, "backbone": "resnet18"}
HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>\u202egnp"
DAY = timedelta(days=1)


class NoRunner:
    def start(self, job_id: int) -> None:
        """Starts nothing: the tests work the queue themselves."""


class Reader(HTMLParser):
    """What a browser would make of a report."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th", "br", "small"):
            self.words += " "

    def handle_data(self, data: str) -> None:
        self.words += data


@dataclass
class Plant:
    """One installation with a project, its images and a model."""

    db: Database
    project: int
    images: list[int]
    model: registry.Model

    def report(self, inspector: str = "Ada") -> str:
        written = reports.write(self.db, model_id=self.model.id, inspector=inspector)
        return reports.read(self.db, report_id=written.id).decode()

    def words(self) -> str:
        """The text of a report on one line, with plain spaces."""
        reader = Reader()
        reader.feed(self.report())
        return " ".join(reader.words.replace("\xa0", " ").split())


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(80, 170, (48, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def hash_of(name: str) -> int:
    """A number for a name, the same in every process."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)


def mask() -> bytes:
    pixels = np.zeros((48, 64), np.uint8)
    pixels[20:24, 10:50] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def add_images(db: Database, project: int, verdicts: list[str | None], name: str = "part-{}.png") -> list[int]:
    """Images with files, two of each group; the bad ones have a mask."""
    ids: list[int] = []
    with db.write() as session:
        for number, verdict in enumerate(verdicts):
            stored = files.put_image(db.data_dir, data=picture(hash_of(name) + number), extension=".png")
            row = ImageRow(
                project_id=project,
                sha256=stored.sha256,
                name=name.format(number),
                extension=".png",
                width=64,
                height=48,
                n_bytes=stored.n_bytes,
                group_key=f"group {number // 2}",
                part=("train", "calibration", "test")[number // 2 % 3],
                mask_sha256=files.put_mask(db.data_dir, png=mask()).sha256 if verdict == "bad" else None,
            )
            session.add(row)
            session.flush()
            ids.append(row.id)
    say(
        db,
        project,
        {image: verdict for image, verdict in zip(ids, verdicts, strict=True) if verdict is not None},
        client=name,
    )
    return ids


def say(db: Database, project: int, verdicts: dict[int, str], *, client: str = "seed", who: str = "Ada") -> None:
    events = [
        labels.LabelEvent(client, seq, image, verdict, who, "board")
        for seq, (image, verdict) in enumerate(verdicts.items(), start=1)
    ]
    assert not labels.record(db, project_id=project, events=events).rejected


def add_model(
    db: Database,
    project: int,
    scores: dict[int, float],
    *,
    name: str = "Gears 1",
    held_out: str = "out_of_fold",
    with_maps: bool = True,
    **more: Any,
) -> registry.Model:
    """A model with a folder, scores and maps."""
    found = {row.id: row for row in _rows(db, project)}
    folder = f"models/{project}/{len(registry.list_models(db, project_id=project, include_archived=True)) + 1}"
    path = db.data_dir / folder
    path.mkdir(parents=True)
    entries = [
        {"sha256": row.sha256, "label": row.label, "group": row.group_key, "role": held_out}
        for row in found.values()
        if row.id in scores and row.label in ("good", "bad")
    ]
    card = {
        "recipe": "cam",
        "settings": SETTINGS,
        "backbone": {"weights": "imagenet", "sha256": "ab" * 32},
        "figures": {"held_out": held_out},
        "data": entries,
        "versions": {"ssn_core": "0.1.0", "torch": "2.14.1", "python": "3.11.7"},
    }
    (path / "model.json").write_text(json.dumps(card))
    (path / "weights.safetensors").write_bytes(b"w" * 1000)
    summary: dict[str, Any] = {
        "settings": SETTINGS,
        "weights": "imagenet",
        "device": "CPU, 2 threads",
        "calibration": {"source": "calibration" if held_out == "test" else "out_of_fold"},
        "pixel": {"p_auroc": 0.9, "ap_loc": 0.25, "aupro": 0.8, "n_images": 10, "n_masks": 4},
    }
    values: dict[str, Any] = {
        "threshold": 0.0,
        "suggested_threshold": 0.0,
        "scale_low": 0.0,
        "scale_high": 3.0,
        "recipe": "cam",
        "backbone": "resnet18",
        "summary": summary,
        **more,
    }
    model = registry.register(
        db, project_id=project, job_id=None, name=name, folder=folder, held_out=held_out, **values
    )
    predictions.store(db, model_id=model.id, rows=[(image, score, held_out) for image, score in scores.items()])
    if with_maps:
        for image, score in scores.items():
            cells = np.full((8, 8), -1.0, np.float32)
            cells[3, 4] = score + 3.0
            maps.save(db, model_id=model.id, sha256=found[image].sha256, cam=cells)
    return registry.get(db, model_id=model.id)


def _rows(db: Database, project: int) -> list[ImageRow]:
    with db.read() as session:
        return session.query(ImageRow).filter_by(project_id=project).order_by(ImageRow.id).all()


VERDICTS: list[str | None] = ["good"] * 8 + ["bad"] * 6 + ["unsure", None]
SCORES = [-3.0, -2.5, -2.0, -2.0, -1.5, -1.0, -0.5, 0.4, -0.2, 0.5, 1.0, 2.0, 2.5, 3.0, 0.1, -4.0]


def build(db: Database, *, name: str = "Gears", verdicts: list[str | None] = VERDICTS, **more: Any) -> Plant:
    project = projects.create(db, name=name).id
    ids = add_images(db, project, verdicts)
    scores = {image: score for image, score, said in zip(ids, SCORES, verdicts, strict=False) if said is not None}
    return Plant(db, project, ids, add_model(db, project, scores, **more))


@pytest.fixture
def plant(db: Database) -> Plant:
    """Eight good and six bad images, one of each judged wrong, one unsure and one without a label or score."""
    return build(db)


def enrich(plant: Plant) -> None:
    """Everything a report can tell of: thresholds, map verdicts, a closed study, a parent, a purpose."""
    db, ids = plant.db, plant.images
    thresholds.save(db, model_id=plant.model.id, threshold=0.6, threshold_low=-0.1, how="By hand", inspector="Grace")
    verdicts = [("on_defect", 8), ("on_defect", 9), ("elsewhere", 10), ("unsure", 11)]
    events = [
        MapVerdict("tab", seq, plant.model.id, ids[place], said, "Ada")
        for seq, (said, place) in enumerate(verdicts, start=1)
    ]
    assert map_verdicts.record(db, project_id=plant.project, events=events).stored == 4
    hold_study(plant, "Spring", closed=True)
    reports.set_purpose(db, model_id=plant.model.id, text="Finds cracks.\nAda decides what is between.")


def hold_study(plant: Plant, name: str, *, closed: bool) -> None:
    db = plant.db
    study = studies.create(
        db, project_id=plant.project, name=name, inspector="Ada", n_parts=10, borderline=0.3, trials=2, seed=3
    )
    truth = {part.image_id: part.reference for part in studies.parts(db, study_id=study.id)}
    for who in ("Ada", "Grace"):
        for trial, order in enumerate(studies.orders(db, study=study, inspector=who), start=1):
            said = {image: truth[image] for image in order}
            if who == "Grace":
                said[order[0]] = "bad" if said[order[0]] == "good" else "good"
            messages = [Message(trial, image, said[image]) for image in order]
            study_verdicts.record(db, project_id=plant.project, study_id=study.id, inspector=who, messages=messages)
    if closed:
        studies.close(db, study_id=study.id)


def test_a_report_is_one_file_that_needs_nothing_else(plant: Plant) -> None:
    enrich(plant)
    page = plant.report()
    reader = Reader()
    reader.feed(page)
    names = {name for name, _ in reader.elements}
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "a", "base"}
    addresses = [value for _, given in reader.elements for key, value in given.items() if key in ("src", "href")]
    assert addresses
    assert all(str(value).startswith("data:image/jpeg;base64,") for value in addresses)
    assert "url(" not in page.replace("url(#scale)", "")
    assert "default-src &#x27;none&#x27;; img-src data:" in page
    assert "@page" in page
    titles = re.findall(r"<h2>\d+  ([^<]+)</h2>", page)
    assert titles == [
        "Purpose",
        "Data and labels",
        "What was trained on, and what was measured on",
        "Method and settings",
        "Figures",
        "Thresholds",
        "Curves",
        "Where the model looks",
        "Worst and best maps",
        "Agreement between inspectors",
        "Comparison with the parent",
        "Limits of validity",
        "Versions and hashes",
    ]
    assert len(page) < 500_000


def test_the_same_facts_give_the_same_bytes_but_for_the_block_of_dates(plant: Plant) -> None:
    enrich(plant)
    first = plant.report("Ada").encode()
    with plant.db.write() as session:  # as if everything had happened a day later
        session.execute(update(ModelRow).values(created_at=datetime(2031, 5, 6, tzinfo=UTC)))
        session.execute(update(ThresholdEventRow).values(created_at=datetime(2031, 5, 7, tzinfo=UTC)))
    second = plant.report("Grace").encode()
    assert first != second
    assert b"2031-05-0" in second
    assert b"2031-05" not in without_dates(second)
    assert without_dates(first) == without_dates(second)


@pytest.mark.skipif(bool(POSTGRESQL_URL), reason="needs two databases")
def test_two_installations_with_the_same_model_write_the_same_bytes(tmp_path: Path) -> None:
    pages = []
    for place in ("one", "two"):
        database = connect(settings_for(tmp_path / place))
        plant = build(database)
        pages.append(without_dates(plant.report().encode()))
        database.close()
    assert pages[0] == pages[1]


def test_a_label_or_a_threshold_changes_more_than_the_dates(plant: Plant) -> None:
    before = without_dates(plant.report().encode())
    say(plant.db, plant.project, {plant.images[0]: "bad"}, client="later")
    relabelled = without_dates(plant.report().encode())
    thresholds.save(plant.db, model_id=plant.model.id, threshold=1.0, how="By hand", inspector="Ada")
    moved = without_dates(plant.report().encode())
    assert len({before, relabelled, moved}) == 3


def test_a_rule_that_chose_on_the_same_scores_is_counted_crosswise_and_the_report_says_so(plant: Plant) -> None:
    words = plant.words()
    found = predictions.held_out(plant.db, model_id=plant.model.id)
    counted = crossfit.crosswise(found.labels, found.scores, found.blocks, YOUDEN.choose)
    assert counted is not None
    assert (counted.escapes, counted.overkill) != (1, 1)  # what the threshold in force does to these very images
    assert f"{100 * counted.escapes / 6:.1f} % ({counted.escapes} of 6)" in words
    assert f"{counted.overkill} overkill {100 * counted.overkill / 8:.1f} %" in words
    assert "Escapes and overkill: Each part is counted at a threshold chosen without it." in words
    assert "Chosen by a rule on the out-of-fold scores: Youden's J." in words
    assert "At what is in force itself, 1 of 6 bad parts pass and 1 of 8 good parts are rejected." in words
    assert "The rates are those of the rule, not of one number." in words
    assert "optimistic" not in words


def test_thresholds_set_by_hand_are_counted_as_they_are_and_the_report_says_that_this_flatters(plant: Plant) -> None:
    by_hand(plant)
    words = plant.words()
    assert words.count("Slightly optimistic: the threshold was placed by hand, with these same scores in view.") == 4
    assert "use a fixed test split or judge a fresh batch of parts" in words
    assert "chosen without it" not in words


def test_work_for_people_that_a_rule_needs_on_some_blocks_is_told_beside_its_one_threshold(plant: Plant) -> None:
    """On all parts one threshold keeps both rates; without some of them it takes two."""
    scores = [0.2, -0.5, -0.4, -2.4, 1.8, 1.1, -0.3, 0.8, 2.3, 1.4, 3.0, 1.7, 1.7, 1.2]
    rows = [(image, score, "out_of_fold") for image, score in zip(plant.images, scores, strict=False)]
    predictions.store(plant.db, model_id=plant.model.id, rows=rows)
    found = predictions.held_out(plant.db, model_id=plant.model.id)
    rule = Rule("pair", (20.0, 20.0))
    high, low = rule.choose(found.labels, found.scores)
    counted = crossfit.crosswise(found.labels, found.scores, found.blocks, rule.choose)
    assert counted is not None
    assert low is None
    assert counted.to_person > 0
    how = chosen_on(rule, "out_of_fold")
    thresholds.save(plant.db, model_id=plant.model.id, threshold=high, how=how, inspector="Ada")
    words = plant.words()
    assert "passed as good to a person rejected as bad" in words
    assert f"Share of all parts that goes to a person {100 * counted.to_person / 14:.1f} %" in words


def test_good_parts_that_stay_dark_are_told_as_counted_at_the_training(plant: Plant) -> None:
    assert "Good parts that stay dark n/a: not counted at the training." in plant.words()
    check = {"dark": 7, "n_good": 8, "checked": "crosswise"}
    for entry, said in (
        (check, "7 of 8 good parts stayed dark at the training (each at a scale set without it)."),
        ({**check, "checked": "test"}, "stayed dark at the training (test images, which did not set it)."),
        ({**check, "dark": 9}, "Good parts that stay dark n/a"),
    ):
        summary = {"settings": SETTINGS, "calibration": {"scale_check": entry}}
        with plant.db.write() as session:
            session.execute(update(ModelRow).values(summary=summary))
        assert (
            said
            in Plant(plant.db, plant.project, plant.images, registry.get(plant.db, model_id=plant.model.id)).words()
        )


def by_hand(plant: Plant) -> None:
    """The same threshold as before, put there by a person."""
    thresholds.save(plant.db, model_id=plant.model.id, threshold=0.0, how=BY_HAND, inspector="Grace")


def test_the_figures_are_those_of_the_held_out_images_with_their_intervals(plant: Plant) -> None:
    by_hand(plant)
    words = plant.words()
    assert "8 good images and 6 bad images that the model never saw (out-of-fold scores)" in words
    escapes = rate_interval(1, 6)
    assert escapes is not None
    assert f"16.7 % (1 of 6) {100 * escapes.low:.1f} % to {100 * escapes.high:.1f} % Wilson" in words
    assert "1 escape 16.7 %" in words
    assert "5 caught" in words
    assert "1 overkill 12.5 %" in words
    assert "7 right" in words
    assert "1 bad part of 6 escaped: 16.7 %" in words
    assert "59 for at most 5.0 %, 299 for at most 1.0 %, 2,995 for at most 0.1 %" in words


def test_no_escape_is_said_as_what_it_proves(plant: Plant) -> None:
    thresholds.save(plant.db, model_id=plant.model.id, threshold=-0.3, how="By hand", inspector="Ada")
    words = plant.words()
    # 1 - 0.05^(1/6)
    assert "No escape in 6 bad images does not prove that there are none" in words
    assert "the escape rate is at most 39.3 %" in words


def test_labels_splits_method_and_hashes_are_told(plant: Plant) -> None:
    say(plant.db, plant.project, {plant.images[1]: "good"}, client="other", who="Grace")
    words = plant.words()
    assert "Images 16 Parts or items (groups: images of one are never on both sides of a split) 8" in words
    assert "Labelled good 8 Labelled bad 6 Unsure 1 Not labelled 1" in words
    assert "Inspector good bad unsure Ada 7 6 1 Grace 1 0 0" in words
    assert "8 good images and 6 bad images, by their labels alone." in words
    assert "Without a score of this model" in words
    assert "Image size, height × width in pixels 64 × 64" in words
    assert "Seed of every random choice 7" in words
    assert "ab" * 32 in words
    folder = plant.db.data_dir / plant.model.folder
    for name in ("model.json", "weights.safetensors"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in words
    lines = sorted(f"{row.sha256} {row.label or 'none'}\n" for row in _rows(plant.db, plant.project))
    assert hashlib.sha256("".join(lines).encode()).hexdigest() in words
    assert "torch 2.14.1" in words


def test_two_thresholds_and_their_history_are_told(plant: Plant) -> None:
    enrich(plant)
    words = plant.words()
    assert "In force, two thresholds: −0.1000 and 0.6000 (logit)" in words
    assert "By hand Grace" in words
    assert "Suggested by the training: Youden's J the training" in words
    # Between them: the bad one at 0.5 and the good one at 0.4.
    assert "Share of all parts that goes to a person 14.3 % (2 of 14)" in words
    assert "passed as good to a person rejected as bad" in words
    versions = thresholds.history(plant.db, model_id=plant.model.id)
    assert f"{versions[0].id} (in force)" in words


def test_map_verdicts_give_a_hit_rate(plant: Plant) -> None:
    assert "n/a: nobody has judged yet" in plant.words()
    enrich(plant)
    words = plant.words()
    assert "the map points at the defect 66.7 % (2 of 3)" in words
    assert "Judged by people on 4 of 6 held-out bad images: 2 on the defect, 1 elsewhere, 1 unsure" in words


def test_only_closed_studies_are_told(plant: Plant) -> None:
    hold_study(plant, "Still going on", closed=False)
    words = plant.words()
    assert "There is no closed study of agreement" in words
    assert "Still going on" not in words
    enrich(plant)
    words = plant.words()
    assert "Study: Spring" in words
    assert "Still going on" not in words
    assert "Gears 1the model" in words or "Gears 1 the model" in words
    assert "Grace" in words
    assert "There is no closed study of agreement" not in words
    assert "all say the same in all trials on" in words


def test_the_parent_is_compared_in_one_table(plant: Plant) -> None:
    assert "No model was active when this one was trained" in plant.words()
    scores = dict(zip(plant.images[:14], [-3.0] * 8 + [-1.0, 1.0, 1.0, 2.0, 2.5, 3.0], strict=True))
    child = add_model(plant.db, plant.project, scores, name="Gears 2", parent_id=plant.model.id)
    by_hand(plant)
    words = Plant(plant.db, plant.project, plant.images, child).words()
    assert "Escapes and overkill: The parent: Slightly optimistic" in words
    assert "This model: Each part is counted at a threshold chosen without it." in words
    assert "The model that was active when this one was trained: Gears 1." in words
    assert "Compared on 8 good images and 6 bad images that were held out for both" in words
    assert "Overkill rate 12.5 % (1 of 8) 0.0 % (0 of 8) −12.5 points" in words
    assert "At the thresholds in force, another verdict on 1 image: 1 wrong before and right now" in words
    assert "The same labels and the same settings." in words


def test_a_parent_without_shared_images_says_why_there_is_no_comparison(plant: Plant) -> None:
    more = add_images(plant.db, plant.project, ["good", "bad"], name="new-{}.png")
    child = add_model(plant.db, plant.project, {more[0]: -1.0, more[1]: 1.0}, name="B", parent_id=plant.model.id)
    words = Plant(plant.db, plant.project, plant.images, child).words()
    assert "n/a: no labelled image was held out for both models" in words


def test_nothing_from_outside_is_obeyed(db: Database) -> None:
    plant = build(db, name="Gears <script>alert(0)</script>")
    with db.write() as session:
        session.execute(update(ImageRow).values(name=HOSTILE))
        session.execute(update(ModelRow).values(name=HOSTILE[:150], recipe=HOSTILE[:60], backbone=HOSTILE[:60]))
    thresholds.save(db, model_id=plant.model.id, threshold=0.1, how=HOSTILE, inspector=HOSTILE)
    say(db, plant.project, {plant.images[0]: "good"}, client="hostile", who=HOSTILE)
    reports.set_purpose(db, model_id=plant.model.id, text=f"{HOSTILE}\n{HOSTILE}")
    hold_study(plant, HOSTILE, closed=True)
    page = plant.report(HOSTILE)
    reader = Reader()
    reader.feed(page)
    allowed = {
        "html", "head", "meta", "title", "style", "body", "main", "header", "section", "div", "p", "h1", "h2", "h3",
        "table", "thead", "tbody", "tr", "th", "td", "strong", "small", "span", "br", "code", "ul", "li", "figure",
        "figcaption", "img", "svg", "line", "text", "polyline", "circle", "rect", "defs", "lineargradient", "stop",
    }  # fmt: skip
    assert {name for name, _ in reader.elements} <= allowed
    assert not [key for _, given in reader.elements for key in given if key.startswith("on")]
    assert "\u202e" not in page
    assert reader.words.count("<script>alert(1)</script>") > 15
    assert "<script" not in page


def test_names_that_are_no_unicode_can_be_written(plant: Plant) -> None:
    with plant.db.write() as session:
        session.execute(update(ImageRow).values(name="broken \x00\n\u2028 name.png"))
    assert "broken \ufffd\ufffd\ufffd name.png" in plant.report()


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([None] * 4, "no image that the model never saw has a Good or Bad label and a score"),
        (["good"] * 4, "none of the images that the model never saw is labelled bad"),
        (["bad"] * 4, "none of the images that the model never saw is labelled good"),
    ],
)
def test_a_missing_class_gives_na_with_the_reason(db: Database, verdicts: list[str | None], said: str) -> None:
    words = build(db, verdicts=verdicts).words()
    assert f"n/a: {said}" in words
    assert "I-AUROC n/a" in words
    assert "nan" not in words


def test_without_masks_or_maps_the_reason_is_said(db: Database) -> None:
    plant = build(db, with_maps=False, summary={})
    words = plant.words()
    assert "n/a: none of the held-out images had a defect mask" in words
    assert "(there is no map of it)" in words
    assert "Where the model looks was not measured." in words
    assert "n/a: the settings were not recorded" in words


def test_a_model_without_its_folder_still_has_a_report(plant: Plant) -> None:
    folder = plant.db.data_dir / plant.model.folder
    folder.rename(folder.with_name("elsewhere"))
    words = plant.words()
    assert "n/a: The folder of model 'Gears 1' is gone" in words
    assert "8 good images and 6 bad images that the model never saw" in words


def test_an_image_that_cannot_be_read_says_so_in_its_place(plant: Plant) -> None:
    row = _rows(plant.db, plant.project)[8]
    files.image_path(plant.db.data_dir, sha256=row.sha256, extension=".png").write_bytes(b"no image")
    assert "n/a: the image cannot be read" in plant.words()


def test_the_worst_and_the_best_held_out_images_are_shown_once_each(plant: Plant) -> None:
    page = plant.report()
    names = re.findall(r'alt="(part-\d+\.png): photo and map"', page)
    # the lowest bad ones, the highest good ones, the clearest catches that are not there yet
    assert names == [f"part-{n}.png" for n in (8, 9, 10, 11, 7, 6, 5, 4, 13, 12)]
    assert "Lowest scores first; 1 of these 4 escaped." in page
    assert "Highest scores first; 1 of these 4 would be rejected." in page
    first = base64.b64decode(re.findall(r"base64,([^\"]+)", page)[0])
    assert Image.open(io.BytesIO(first)).size == (64 * 2 + 6, 48)


def test_a_report_keeps_its_model_until_it_is_deleted(plant: Plant) -> None:
    other = add_model(plant.db, plant.project, {plant.images[0]: 1.0}, name="Active")
    report = reports.write(plant.db, model_id=plant.model.id, inspector="Ada")
    assert (plant.db.data_dir / report.path).is_file()
    with pytest.raises(SsnError, match="A report rests on it"):
        lineage.delete(plant.db, model_id=plant.model.id)
    reports.delete(plant.db, report_id=report.id)
    reports.delete(plant.db, report_id=report.id)
    assert not (plant.db.data_dir / report.path).exists()
    assert reports.list_reports(plant.db, model_id=plant.model.id) == []
    lineage.delete(plant.db, model_id=plant.model.id)
    assert [model.id for model in registry.list_models(plant.db, project_id=plant.project)] == [other.id]


def test_reports_are_listed_newest_first_and_read_as_they_were_written(plant: Plant) -> None:
    first = reports.write(plant.db, model_id=plant.model.id, inspector=" Ada ")
    second = reports.write(plant.db, model_id=plant.model.id, inspector="")
    listed = reports.list_reports(plant.db, model_id=plant.model.id)
    assert [(one.id, one.inspector) for one in listed] == [(second.id, ""), (first.id, "Ada")]
    data = reports.read(plant.db, report_id=first.id)
    assert hashlib.sha256(data).hexdigest() == first.sha256
    assert "by Ada" in data.decode()


def test_a_changed_or_missing_file_is_refused(plant: Plant) -> None:
    report = reports.write(plant.db, model_id=plant.model.id, inspector="Ada")
    path = plant.db.data_dir / report.path
    path.write_bytes(path.read_bytes().replace(b"Escape rate", b"escape rate"))
    with pytest.raises(SsnError, match="was changed after it was written"):
        reports.read(plant.db, report_id=report.id)
    path.unlink()
    with pytest.raises(SsnError, match="cannot be read"):
        reports.read(plant.db, report_id=report.id)
    with pytest.raises(SsnError, match="no such report"):
        reports.read(plant.db, report_id=report.id + 1)


def test_a_row_that_points_elsewhere_opens_nothing(plant: Plant) -> None:
    report = reports.write(plant.db, model_id=plant.model.id, inspector="Ada")
    with plant.db.write() as session:
        session.execute(update(ReportRow).values(path="ssn.sqlite3"))
    with pytest.raises(SsnError, match="lies in the data folder"):
        reports.read(plant.db, report_id=report.id)


def test_what_a_dead_process_left_behind_is_removed_by_the_next_writing(plant: Plant) -> None:
    first = reports.write(plant.db, model_id=plant.model.id, inspector="Ada")
    folder = (plant.db.data_dir / first.path).parent
    (folder / "20300101-000000-000000-aaaaaaaaaaaa.html").write_text("left over")
    second = reports.write(plant.db, model_id=plant.model.id, inspector="Ada")
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(one.path).name for one in (first, second))


def test_a_full_disk_leaves_no_row(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reports, "write_atomically", refuse)
    with pytest.raises(SsnError, match="No space left"):
        reports.write(plant.db, model_id=plant.model.id, inspector="Ada")
    assert reports.list_reports(plant.db, model_id=plant.model.id) == []


def test_the_purpose_is_kept_with_the_model(plant: Plant) -> None:
    assert reports.purpose(plant.model) == ""
    kept = reports.set_purpose(plant.db, model_id=plant.model.id, text="  Finds cracks.\x00 \r\n\nTwice. " + "x" * 3000)
    assert reports.purpose(kept).startswith("Finds cracks.\n\nTwice. xxx")
    assert len(reports.purpose(kept)) == reports.MAX_PURPOSE
    assert kept.summary["settings"] == SETTINGS
    assert "Finds cracks. Twice." in plant.words()
    with pytest.raises(SsnError, match="no such model"):
        reports.set_purpose(plant.db, model_id=99, text="x")


def test_a_job_writes_a_report_and_tells_how_far_it_is(plant: Plant) -> None:
    told: list[tuple[str, int, int]] = []
    reports.write(plant.db, model_id=plant.model.id, inspector="", progress=lambda *said: told.append(said))
    assert told[0][0] == "Reading scores and labels"
    assert ("Drawing maps", 9, 10) in told
    assert told[-1][0] == "Writing the report"
    payload = {"model_id": plant.model.id, "inspector": "Grace"}
    job_id = jobs.submit(plant.db, kind="report", project_id=plant.project, payload=payload)
    with pytest.raises(SsnError, match="cannot be deleted"):
        lineage.delete(plant.db, model_id=plant.model.id)
    ended = work(plant.db, handlers={"report": "storage.reports:run_job"}, runner=NoRunner())
    assert ended is not None
    assert (ended.id, ended.status) == (job_id, "succeeded")
    newest = reports.list_reports(plant.db, model_id=plant.model.id)[0]
    assert (ended.result or {})["report_id"] == newest.id
    assert newest.inspector == "Grace"


def test_a_project_with_many_or_with_large_images_is_left_to_a_job(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reports.is_quick(plant.db, model=plant.model)
    monkeypatch.setattr(reports, "QUICK_IMAGES", 15)
    assert not reports.is_quick(plant.db, model=plant.model)
    monkeypatch.setattr(reports, "QUICK_IMAGES", 16)
    monkeypatch.setattr(reports, "QUICK_PIXELS", 64 * 48 - 1)
    assert not reports.is_quick(plant.db, model=plant.model)


def test_writing_a_report_needs_no_torch() -> None:
    code = "import sys, storage.reports; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
