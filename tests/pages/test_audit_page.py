"""The Audit page: the log with its filters, second opinions, label files, and the setting that hides maps."""

from __future__ import annotations

from typing import Any

import pytest
from page_seed import HOSTILE, add_images, open_page, project_with_images, texts
from streamlit.testing.v1 import AppTest

from pages.components import audit_panel, label_files_panel, state
from pages.components.text import literal
from storage import audit, images, labels, opinion_verdicts, projects, second_opinions
from storage.audit import Filter
from storage.db import Database
from storage.study_verdicts import Message

VERDICTS = ["good", "good", "bad", "bad", None]


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, VERDICTS)


def open_audit(who: str = "Ada", view: str | None = None) -> AppTest:
    app = open_page()
    app.session_state[state.Key.INSPECTOR] = who
    app.switch_page("views/audit.py").run()
    if view is not None:
        app.segmented_control(key=state.Key.AUDIT_VIEW).set_value(view).run()
    assert not app.exception, app.exception
    return app


def html_of(app: AppTest) -> str:
    return "\n".join(str(element.proto.body) for element in app.get("html"))


def rows(app: AppTest) -> list[dict[str, Any]]:
    return app.dataframe[0].value.to_dict("records")


def choose(app: AppTest, label: str, value: object) -> AppTest:
    return next(box for box in app.selectbox if box.label == label).set_value(value).run()


def test_the_log_tells_who_said_what_newest_first(db: Database, project: projects.Project) -> None:
    ids = images.ids(db, project_id=project.id)
    labels.record(
        db,
        project_id=project.id,
        events=[
            labels.LabelEvent("bo", 1, ids[0], "good", "Bo", "review", map_seen=False),
            labels.LabelEvent("bo", 2, ids[0], "bad", "Bo", "review", map_seen=True),
        ],
    )
    app = open_audit()
    assert [(row["Inspector"], row["Verdict"], row["Map"]) for row in rows(app)][:2] == [
        ("Bo", "✕ Bad", "seen"),
        ("Bo", "✓ Good", "not seen"),
    ]
    assert "Ada 3 · Bo 1" in texts(app)
    assert "1 of 1, 100 %" in texts(app)
    assert "1 good → bad" in texts(app)
    assert len(rows(choose(app, "Inspector", "Ada"))) == 4
    assert [row["Image"] for row in rows(choose(app, "Verdict", "bad"))] == ["part-3.png", "part-2.png"]


def test_without_a_verdict_the_log_says_so(db: Database) -> None:
    project_with_images(db, [None])
    app = open_audit()
    assert "Nobody has given a verdict yet" in texts(app)
    assert "n/a: nobody has given a verdict both before and after" in texts(app)


def test_the_log_is_turned_page_by_page(
    db: Database, project: projects.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_panel, "ROWS", 3)
    app = open_audit()
    assert [row["Image"] for row in rows(app)] == ["part-3.png", "part-2.png", "part-1.png"]
    app.button(key="audit-older").click().run()
    assert [row["Image"] for row in rows(app)] == ["part-0.png"]
    assert app.button(key="audit-older").disabled
    app.button(key="audit-newer").click().run()
    assert len(rows(app)) == 3
    assert app.button(key="audit-newer").disabled


def test_names_from_outside_are_shown_letter_by_letter(db: Database) -> None:
    project = projects.create(db, name="Hostile")
    add_images(db, project.id, ["good"], name=HOSTILE)
    app = open_audit()
    assert literal(HOSTILE) in texts(app)
    assert "<b>y</b>" not in html_of(app)
    assert "&lt;b&gt;y&lt;/b&gt;" in html_of(app)
    found = audit_panel._csv(project.id, Filter()).decode("utf-8-sig")
    assert found.splitlines()[0] == ",".join(audit_panel.CSV_HEADER)
    assert len(found.splitlines()) == 2


def test_the_csv_holds_what_fits_the_filter(db: Database, project: projects.Project) -> None:
    lines = audit_panel._csv(project.id, Filter(verdict="bad")).decode("utf-8-sig").splitlines()
    assert len(lines) == 1 + audit.count(db, project_id=project.id, wanted=Filter(verdict="bad")) == 3


def test_the_switch_shows_what_is_stored_even_when_somebody_else_has_turned_it(
    db: Database, project: projects.Project
) -> None:
    app = open_audit()
    app.toggle[0].set_value(True).run()
    assert projects.get(db, project_id=project.id).verdict_first
    projects.set_verdict_first(db, project_id=project.id, value=False)  # another session
    app.run()
    assert app.toggle[0].value is False
    assert not projects.get(db, project_id=project.id).verdict_first


def test_a_round_is_set_up_judged_and_its_disagreement_settled(db: Database, project: projects.Project) -> None:
    app = open_audit(view="opinions")
    assert "how reliable your labels are" in texts(app)
    app.number_input[0].set_value(4)
    next(button for button in app.button if button.label == "Set up the round").click().run()
    [found] = second_opinions.list_rounds(db, project_id=project.id)
    assert (found.n_images, found.created_by) == (4, "Ada")
    assert "0 of 4 images judged" in texts(app)
    bo = open_audit("Bo", "opinions")
    assert "Results appear when you have no image left" in texts(bo)
    assert any(button.label == "Judge 4 images" for button in bo.button)
    order = second_opinions.to_judge(db, found=found, inspector="Bo")
    given = [images.get(db, image_id=image).label or "" for image in order]
    given[0] = "good" if given[0] == "bad" else "bad"
    opinion_verdicts.record(
        db, project_id=project.id, round_id=found.id, inspector="Bo", stage="second",
        messages=[Message(1, image, verdict) for image, verdict in zip(order, given, strict=True)],
    )  # fmt: skip
    bo.run()
    assert "4 of 4 images judged" in texts(bo)
    assert "3 of 4 images" in html_of(bo)  # said the same
    assert "0 of 1 settled" in html_of(bo)
    assert "hidden" not in html_of(bo)
    cem = open_audit("Cem", "opinions")
    assert "you can settle it, blind" in html_of(cem)
    assert any(button.label == "Settle 1 disagreement" for button in cem.button)
    assert not any(button.label.startswith("Settle") for button in bo.button)
    cem.button(key="opinion-close").click().run()
    assert second_opinions.list_rounds(db, project_id=project.id)[0].is_closed
    assert "you can settle it" not in html_of(cem)


def test_a_round_without_labels_of_both_kinds_leads_to_labelling(db: Database) -> None:
    project_with_images(db, ["good", "good", None])
    assert "A round needs images labelled good" in texts(open_audit(view="opinions"))


def test_every_format_can_be_taken_out(db: Database, project: projects.Project) -> None:
    app = open_audit(view="files")
    assert len(app.get("download_button")) == len(label_files_panel.FORMATS)
    for name in label_files_panel.FORMATS:
        assert label_files_panel._file(project.id, name).startswith((b"\xef\xbb\xbfimage,", b"[", b"{"))


def test_a_file_is_looked_at_before_it_is_read_in(db: Database, project: projects.Project) -> None:
    app = open_audit("Bo", "files")
    data = b"image,label\npart-4.png,bad\npart-0.png,good\n<b>gone</b>.png,bad\n"
    app.file_uploader[0].upload("labels.csv", data).run()
    assert "1 new verdict, 1 here already" in texts(app)
    assert "1 image will bear another label" in texts(app)
    assert literal("<b>gone</b>.png") in texts(app)
    last = images.ids(db, project_id=project.id)[4]
    assert images.get(db, image_id=last).label is None
    app.button(key="label-file-read").click().run()
    found = images.get(db, image_id=last)
    assert (found.label, found.label_inspector) == ("bad", "Bo")
    assert "1 verdict read in; 1 image changed their label" in texts(app)
    assert rows(app)[0]["File"] == "labels.csv"


def test_a_broken_file_is_refused_with_the_reason(db: Database, project: projects.Project) -> None:
    app = open_audit("Bo", "files")
    app.file_uploader[0].upload("labels.json", b"[{]").run()
    assert "The label file cannot be used" in texts(app)
    assert not any(button.key == "label-file-read" for button in app.button)
