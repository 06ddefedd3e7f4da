"""Models: the list with its history, what can be done with a model, and two of them on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from page_seed import HOSTILE, open_page, project_with_images, set_job, texts
from streamlit.testing.v1 import AppTest

from pages.components import compare, models_list, state
from pages.components.compare_charts import Curve, roc_pair
from pages.components.text import prose
from ssn_core import crossfit
from ssn_core.intervals import Difference
from ssn_core.rates import Interval
from ssn_core.recipes import RECIPES
from ssn_core.rules import BY_HAND, YOUDEN
from ssn_core.thresholds import outcome
from storage import comparison, images, jobs, labels, lineage, predictions, projects, registry, snapshots, thresholds
from storage.db import Database
from storage.snapshots import Changes, LabelChange, SettingChange
from storage.tables import ReportRow
from tests.model_seed import add_model

VERDICTS = ["good"] * 6 + ["bad"] * 4
#         six good parts, the last one rejected by A; four bad parts, the last one passed by A
FIRST = [-3.0, -2.5, -2.0, -1.5, -1.0, 0.5, 1.0, 2.0, 3.0, -0.5]
#         B passes the sixth, rejects the first, catches the last bad part and misses the first bad one
SECOND = [0.9, -2.4, -2.1, -1.4, -1.1, -0.6, -1.2, 2.2, 2.8, 0.7]


def add(
    db: Database,
    project: projects.Project,
    scores: Sequence[float],
    *,
    held_out: str = "out_of_fold",
    learned: dict[str, str] | None = None,
    **more: Any,
) -> registry.Model:
    """A registered model with its folder and one held-out score an image, in the images' order."""
    ids = images.ids(db, project_id=project.id)
    shown = images.get_many(db, image_ids=ids)
    known = {image.sha256: image.label for image in shown if image.label in ("good", "bad")}
    rows = [(image_id, score, held_out) for image_id, score in zip(ids, scores, strict=False)]
    return add_model(db, project.id, rows, held_out=held_out, learned=known if learned is None else learned, **more)


@pytest.fixture
def project(db: Database) -> projects.Project:
    return project_with_images(db, VERDICTS)


@pytest.fixture
def pair(db: Database, project: projects.Project) -> tuple[registry.Model, registry.Model]:
    """A, the older one, and B, trained after it and active."""
    first = add(db, project, FIRST, name="Alpha")
    return first, add(db, project, SECOND, name="Beta", parent_id=first.id, settings={"epochs": 40})


def menu(app: AppTest, model: registry.Model, action: str) -> AppTest:
    return app.menu_button(key=f"model-more-{model.id}").click(action).run()


def comparing(first: int | None = None, second: int | None = None) -> AppTest:
    app = open_page("models")
    app.segmented_control(key=state.Key.MODELS_VIEW).set_value("compare").run()
    for letter, value in ((0, first), (1, second)):
        if value is not None:
            selectors = [box for box in app.selectbox if box.label.startswith(("A,", "B,"))]
            selectors[letter].set_value(value).run()
    assert not app.exception, app.exception
    return app


# --- the list -----------------------------------------------------------------------------------------------------


def test_without_a_model_the_page_leads_to_training(db: Database, project: projects.Project) -> None:
    assert "There is no model yet" in texts(open_page("models"))


def test_a_model_tells_its_origin_its_labels_and_its_figures(pair: tuple[registry.Model, registry.Model]) -> None:
    said = texts(open_page("models"))
    assert "**Beta** :blue-badge[:material/check_circle: Active]" in said
    assert "**Alpha** :blue-badge" not in said
    assert "Learned from **6 good** and **4 bad** labels" in said
    assert "After **Alpha**: same labels; epochs automatic → 40" in said
    assert "No parent" in said
    assert "ImageNet weights · 64 × 96 px" in said
    assert "Escapes **25.0 %** (4.6 % to 69.9 %), 1 of 4" in said  # Wilson's interval, by hand
    assert "On 6 good, 4 bad held-out images (out-of-fold)" in said


def test_escapes_and_overkill_say_how_they_were_counted(
    db: Database, pair: tuple[registry.Model, registry.Model]
) -> None:
    held_out = predictions.held_out(db, model_id=pair[0].id)
    counted = crossfit.crosswise(held_out.labels, held_out.scores, held_out.blocks, YOUDEN.choose)
    assert counted is not None
    assert counted != outcome(held_out.labels, held_out.scores, pair[0].threshold)
    said = texts(open_page("models"))
    assert f"{counted.escapes} of 4" in said
    assert said.count("Each part is counted at a threshold chosen without it") == 2
    thresholds.save(db, model_id=pair[0].id, threshold=0.0, how=BY_HAND, inspector="Ada")
    said = texts(open_page("models"))
    assert said.count("Slightly optimistic") == 1
    assert "a fixed test split" in said


def test_without_a_bad_image_each_figure_says_why_it_is_not_there(db: Database) -> None:
    project = project_with_images(db, ["good"] * 6)
    add(db, project, FIRST[:6], settings={"learns_from": "good"})
    said = texts(open_page("models"))
    for name in ("I-AUROC", "AP-det", "Escapes"):
        assert f"{name} **n/a** (no bad image held out)" in said
    assert "Overkill **16.7 %**" in said


def test_a_later_label_moves_the_figures_at_once(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    app = open_page("models")
    corrected = images.ids(db, project_id=project.id)[0]
    event = labels.LabelEvent("tab", 1, corrected, "bad", "Ada", "review")
    labels.record(db, project_id=project.id, events=[event])
    said = texts(app.run())
    assert "2 of 5" in said  # A passes it
    assert "1 of 5" in said  # B catches it


def test_two_thresholds_show_the_work_for_people(db: Database, pair: tuple[registry.Model, registry.Model]) -> None:
    thresholds.save(db, model_id=pair[1].id, threshold=2.0, threshold_low=0.5, how="by hand", inspector="Ada")
    assert "To a person **20.0 %**" in texts(open_page("models"))


def test_a_long_list_reads_each_training_once(
    db: Database, project: projects.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):  # more than the snapshots that are kept whole
        add(db, project, FIRST, name=f"Model {number}")
    app = open_page("models")
    assert texts(app).count("Learned from **6 good** and **4 bad** labels") == 6

    def read_again(*_args: object) -> None:
        raise AssertionError("a page that was drawn before needs no snapshot")

    monkeypatch.setattr(snapshots, "_read", read_again)
    assert texts(app.run()).count("Learned from **6 good** and **4 bad** labels") == 6


def test_a_damaged_folder_is_said_and_the_other_models_stay(
    db: Database, pair: tuple[registry.Model, registry.Model]
) -> None:
    (registry.model_path(db, pair[0]) / "model.json").write_text("{")
    said = texts(open_page("models"))
    assert "Learned from: n/a" in said
    assert "After Alpha; what changed is n/a" in said
    assert "Learned from **6 good** and **4 bad** labels" in said


def test_an_older_model_is_rolled_back_to(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    app = open_page("models")
    button = app.button(key=f"model-activate-{pair[0].id}")
    assert button.label == "Roll back to it"
    button.click().run()
    assert projects.get(db, project_id=project.id).active_model_id == pair[0].id
    assert app.button(key=f"model-activate-{pair[1].id}").label == "Activate"


def test_a_model_in_training_can_be_neither_activated_nor_archived(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    job_id = jobs.submit(db, kind="train", project_id=project.id, payload={"recipe": "cam"})
    model = add_model(db, project.id, [], name="Gamma", job_id=job_id, activate=False)
    app = open_page("models")
    assert "**Gamma** :orange-badge[:material/hourglass: In training]" in texts(app)
    assert f"model-activate-{model.id}" not in [button.key for button in app.button]
    assert app.menu_button(key=f"model-more-{model.id}").options == [models_list.DELETE]
    set_job(db, job_id, status="interrupted")
    assert "Training cut off" in texts(app.run())
    assert f"model-activate-{model.id}" not in [button.key for button in app.button]
    set_job(db, job_id, status="succeeded")
    assert app.run().button(key=f"model-activate-{model.id}").label == "Activate"
    assert "Training cut off" not in texts(app)


def test_an_archived_model_is_folded_away_offered_nowhere_and_brought_back(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    app = menu(open_page("models"), pair[0], models_list.ARCHIVE)
    assert not app.exception, app.exception
    assert [expander.label for expander in app.expander] == ["Archived: 1 model"]
    review = open_page("review")
    assert review.selectbox(key=state.model_key(project.id, pair[1].id)).options == ["Beta · cam · resnet18 · active"]
    app.button(key=f"model-back-{pair[0].id}").click().run()
    assert len(registry.list_models(db, project_id=project.id)) == 2
    assert not app.expander


def test_the_figures_of_a_training_run_stay_when_its_model_is_archived(db: Database, project: projects.Project) -> None:
    job_id = jobs.submit(db, kind="train", project_id=project.id, payload={"recipe": "cam", "name": "Old"})
    set_job(db, job_id, status="succeeded")
    old = add_model(db, project.id, [], name="Old", job_id=job_id)
    add_model(db, project.id, [], name="New")
    lineage.archive(db, model_id=old.id)
    app = open_page("train")
    assert app.dataframe[0].value["Held-out I-AUROC"].tolist() == ["0.900"]
    assert "**Old**" not in texts(app)


def test_the_active_model_offers_neither_archiving_nor_deletion(pair: tuple[registry.Model, registry.Model]) -> None:
    app = open_page("models")
    assert app.menu_button(key=f"model-more-{pair[1].id}").options == [models_list.CHANGED, models_list.DELETE]
    app = menu(app, pair[1], models_list.DELETE)
    assert "It is the active model; activate another one first." in texts(app)
    assert not [button for button in app.button if button.key == "model-delete-confirm"]


def test_deleting_names_what_is_lost_and_asks_first(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    app = menu(open_page("models"), pair[0], models_list.DELETE)
    said = texts(app)
    for words in ("scores and maps of 10 images", "1 version of its thresholds", "the link from 1 later model"):
        assert words in said
    assert len(registry.list_models(db, project_id=project.id)) == 2
    app.button(key="model-delete-confirm").click().run()
    assert not app.exception, app.exception
    assert [model.name for model in registry.list_models(db, project_id=project.id)] == ["Beta"]
    assert [toast.value for toast in app.toast] == ["Alpha is deleted."]
    assert not (db.data_dir / pair[0].folder).exists()


def test_a_report_written_while_the_question_was_open_keeps_the_model(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    app = menu(open_page("models"), pair[0], models_list.DELETE)
    with db.write() as session:
        session.add(ReportRow(model_id=pair[0].id, sha256="0" * 64, path="r.html", inspector="Ada"))
    app.button(key="model-delete-confirm").click().run()
    assert "A report rests on it" in app.toast[0].value
    assert len(registry.list_models(db, project_id=project.id)) == 2


def test_a_model_with_a_report_is_kept(db: Database, pair: tuple[registry.Model, registry.Model]) -> None:
    with db.write() as session:
        session.add(ReportRow(model_id=pair[0].id, sha256="0" * 64, path="r.html", inspector="Ada"))
    assert "A report rests on it." in texts(menu(open_page("models"), pair[0], models_list.DELETE))


def test_what_changed_lists_images_and_settings(db: Database, project: projects.Project) -> None:
    shown = images.get_many(db, image_ids=images.ids(db, project_id=project.id))
    first = add(db, project, FIRST, name="Alpha", learned={shown[0].sha256: "bad", "e" * 64: "bad"})
    now = {image.sha256: str(image.label) for image in shown}
    second = add(db, project, SECOND, name="Beta", parent_id=first.id, learned=now, settings={"epochs": 40})
    app = open_page("models")
    assert "9 labels added (5 good, 4 bad), 1 label removed (0 good, 1 bad), 1 label flipped" in texts(app)
    app = menu(app, second, models_list.CHANGED)
    said = texts(app)
    for words in ("Labels added: 9", "Labels removed: 1", "Labels flipped: 1", "Settings that differ: 1"):
        assert words in said
    flipped, settings = app.dataframe[2].value, app.dataframe[3].value
    assert flipped.to_dict("records") == [{"Image": "part-0.png", "Before": "bad", "Now": "good"}]
    assert settings.to_dict("records") == [{"Setting": "epochs", "Parent": "automatic", "This model": "40"}]


def test_changes_read_as_a_sentence() -> None:
    nothing = Changes((), (), (), ())
    assert models_list.changes_line(nothing) == "same labels, same settings"
    added = (LabelChange("1", None, "bad"), LabelChange("2", None, "good"))
    settings = (
        SettingChange("image_size", [64, 64], [128, 64]),
        SettingChange("a", None, True),
        SettingChange("b", 1, 2),
    )
    line = models_list.changes_line(Changes(added, (), (), settings))
    assert line == ("2 labels added (1 good, 1 bad); image size 64 × 64 → 128 × 64, a – → on and 1 more setting")


def test_another_recipe_is_named_in_full_and_its_settings_are_counted() -> None:
    for name in RECIPES:
        others = (SettingChange("learns_from", "labels", "masks"), SettingChange("epochs", 0, 300))
        changes = Changes((), (), (), (SettingChange("recipe", "cam", name), *others))
        assert models_list.changes_line(changes) == f"same labels; recipe cam → {prose(name)} and 2 more settings"


def test_a_hostile_model_name_is_shown_letter_by_letter(db: Database, project: projects.Project) -> None:
    add(db, project, FIRST, name=HOSTILE)
    assert f"**{prose(HOSTILE)}**" in texts(open_page("models"))


# --- two models on the same images --------------------------------------------------------------------------------


def test_compare_on_a_model_opens_it_beside_the_active_one(
    project: projects.Project, pair: tuple[registry.Model, registry.Model]
) -> None:
    app = open_page("models")
    app.button(key=f"model-compare-{pair[0].id}").click().run()
    assert not app.exception, app.exception
    keys = state.comparison_keys(project.id)
    assert [app.selectbox(key=key).value for key in keys] == [pair[1].id, pair[0].id]
    app = open_page("models")
    app.button(key=f"model-compare-{pair[1].id}").click().run()  # the active one beside its parent
    assert [app.selectbox(key=key).value for key in keys] == [pair[0].id, pair[1].id]


def test_the_comparison_says_on_what_it_rests_and_what_it_means(
    db: Database, pair: tuple[registry.Model, registry.Model]
) -> None:
    thresholds.save(db, model_id=pair[0].id, threshold=0.0, how=BY_HAND, inspector="Ada")
    app = comparing(pair[0].id, pair[1].id)
    said = texts(app)
    assert "same **6 good** and **4 bad** images" in said
    assert "**No difference shown:** the interval includes 0." in said
    assert [metric.label for metric in app.metric] == ["I-AUROC: B minus A", "AP-det: B minus A"]
    # 24 pairs of a bad and a good part: A orders 23 of them right, B 3 + 6 + 6 + 5
    assert app.metric[0].value == "−0.125"
    # Of B crosswise: the threshold that Youden's J chooses without part-9 (bad, 0.7) lies above it.
    by_hand, crosswise = "25.0 % (4.6 % to 69.9 %), 1 of 4", "50.0 % (15.0 % to 85.0 %), 2 of 4"
    assert app.table[0].value.loc["Escape rate"].tolist() == [by_hand, crosswise]
    plain_words = said.replace("\u2060", "").replace("\\", "")  # a caption's signs are kept from being markup
    assert "A: Slightly optimistic: the threshold was placed by hand" in plain_words
    assert "B: Each part is counted at a threshold chosen without it." in plain_words
    assert len(app.get("plotly_chart")) == 1


def test_flips_are_told_apart_by_direction_and_outcome(pair: tuple[registry.Model, registry.Model]) -> None:
    said = texts(comparing(pair[0].id, pair[1].id))
    assert "Where the verdict changes: 4 of 10 images" in said
    assert "Became wrong: **2** · Became right: **2**" in said
    for title in list(compare.GROUPS.values())[:4]:
        assert f"**{title}: 1**" in said
    assert "Now to a person" not in said
    assert "A ✕ Bad 1.000 → B ✓ Good −1.200" in said  # part-6, bad: the new escape


def test_parts_that_go_to_a_person_have_a_group_of_their_own(
    db: Database, pair: tuple[registry.Model, registry.Model]
) -> None:
    thresholds.save(db, model_id=pair[1].id, threshold=2.0, threshold_low=0.6, how="by hand", inspector="Ada")
    said = texts(comparing(pair[0].id, pair[1].id))
    assert "Now to a person: **2**" in said
    assert "**Good parts that now go to a person: 1**" in said


@pytest.mark.parametrize("letter", ["a", "b"])
def test_one_click_opens_review_at_the_image_with_the_group_as_its_list(
    db: Database, project: projects.Project, pair: tuple[registry.Model, registry.Model], letter: str
) -> None:
    app = open_page("review")
    app.segmented_control(key=state.Key.REVIEW_FILTER).set_value("good").run()
    app.selectbox(key=state.Key.REVIEW_ORDER).set_value("closest").run()
    app.switch_page("views/models.py").run()
    app.button(key=f"model-compare-{pair[1].id}").click().run()
    missed = images.ids(db, project_id=project.id)[6]
    app.button(key=f"flip-review-{letter}-{missed}").click().run()
    assert not app.exception, app.exception
    said = texts(app)
    assert "`part-6.png`" in said
    assert ("score 1.000" if letter == "a" else "score −1.200") in said
    assert "Chosen on another page" in said
    assert app.segmented_control(key=state.Key.REVIEW_FILTER).value == "all"
    assert app.selectbox(key=state.Key.REVIEW_ORDER).value == "score_desc"
    app.button(key="review-refresh").click().run()
    assert "Chosen on another page" not in texts(app)


def test_models_held_out_differently_are_compared_on_what_both_had_not_seen(
    db: Database, project: projects.Project
) -> None:
    first = add(db, project, FIRST, name="Alpha")
    second = add(db, project, SECOND[:8], name="Beta", held_out="test")
    said = texts(comparing(first.id, second.id))
    assert "same **6 good** and **2 bad** images" in said
    assert "A alone has 10 such images, B 8" in said
    assert "A's scores are out-of-fold" in said


@pytest.mark.parametrize("held_out", ["test", "out_of_fold"])
def test_nothing_shared_says_why_instead_of_empty_charts(
    db: Database, project: projects.Project, held_out: str
) -> None:
    first = add(db, project, FIRST[:4], name="Alpha")
    second = add(db, project, [], name="Beta", held_out=held_out)
    rows = [(image_id, 1.0, held_out) for image_id in images.ids(db, project_id=project.id)[4:]]
    predictions.store(db, model_id=second.id, rows=rows)
    app = comparing(first.id, second.id)
    said = texts(app)
    assert "A on 4 images (out-of-fold) and B on 6 images" in said
    assert ("in different ways" if held_out == "test" else "are different ones") in said
    assert not app.metric
    assert not app.get("plotly_chart")


def test_a_model_without_scores_is_named(db: Database, project: projects.Project) -> None:
    first, second = add(db, project, FIRST, name="Alpha"), add(db, project, [], name="Beta")
    assert "none of the images that B (Beta) had never seen has a score" in texts(comparing(first.id, second.id))


def test_one_class_alone_gives_no_areas_and_says_so(db: Database) -> None:
    project = project_with_images(db, ["good"] * 3)
    first, second = (add(db, project, [-1.0, 0.5, -1.0], name=name) for name in ("Alpha", "Beta"))
    app = comparing(first.id, second.id)
    assert "There is no bad image among the shared ones" in app.warning[0].value
    assert [metric.value for metric in app.metric] == ["n/a", "n/a"]
    assert "judge every shared image the same" in texts(app)


def test_one_model_alone_cannot_be_compared(db: Database, project: projects.Project) -> None:
    first, _ = add(db, project, FIRST, name="Alpha"), add(db, project, SECOND, name="Beta")
    lineage.archive(db, model_id=first.id)
    assert "Comparing needs two models" in texts(comparing())


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.1, 0.2, "**No difference shown:** the interval includes 0. B may still be up to 0.100 worse"),
        (0.0, 0.2, "**No difference shown:**"),
        (0.0, 0.0, "**No difference shown:** the interval includes 0."),
        (0.05, 0.2, "**B is better:** the interval lies above 0. At least 0.050 is shown."),
        (-0.2, -0.05, "**B is worse:** the interval lies below 0. At least 0.050 is shown."),
    ],
)
def test_a_difference_is_put_into_words(low: float, high: float, words: str) -> None:
    assert compare.meaning(Difference((low + high) / 2, Interval(low, high, "m"))).startswith(words)


def test_no_difference_has_its_reason() -> None:
    assert compare.meaning(None) == "**n/a:** needs good and bad images."


def test_both_curves_and_their_operating_points_are_in_one_figure() -> None:
    steps = np.linspace(0.0, 1.0, 5000)
    first = Curve("A", steps, steps**0.5, 0.67, (0.1, 0.3))
    second = Curve("B", np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5, (0.2, 0.2))
    traces = roc_pair(first, second).data
    assert [trace.name for trace in traces if trace.mode == "lines" and trace.name] == [
        "A · area 0.670",
        "B · area 0.500",
    ]
    assert len(traces[1].x) <= 1500
    assert (traces[1].x[0], traces[1].x[-1]) == (0.0, 1.0)
    assert [(trace.x[0], trace.y[0]) for trace in traces if trace.mode == "markers"] == [(0.1, 0.3), (0.2, 0.2)]
    assert traces[1].line.dash != traces[3].line.dash


def test_the_figure_table_has_a_row_for_people_only_where_there_is_work_for_them(
    db: Database, pair: tuple[registry.Model, registry.Model]
) -> None:
    compared = comparison.compare(db, first_id=pair[0].id, second_id=pair[1].id)
    assert "To a person" not in compare.figure_table(compare.measure(compared)).index
    thresholds.save(db, model_id=pair[1].id, threshold=2.0, threshold_low=0.6, how="by hand", inspector="Ada")
    compared = comparison.compare(db, first_id=pair[0].id, second_id=pair[1].id)
    assert compare.figure_table(compare.measure(compared)).loc["To a person", "B"].endswith("2 of 10")
