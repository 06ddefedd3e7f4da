import pytest

from ssn_core.errors import ModelFolderError, SettingError, SsnError
from storage import jobs, projects, registry
from storage.tables import JobRow


@pytest.fixture
def project_id(db):
    return projects.create(db, name="Commutators").id


def register(db, project_id, **changes):
    values = {
        "job_id": None,
        "name": "First",
        "folder": "models/1/1",
        "recipe": "gap-cam",
        "backbone": "resnet18",
        "held_out": "out_of_fold",
        "threshold": 0.25,
        "suggested_threshold": 0.25,
        "scale_low": 0.0,
        "scale_high": 4.0,
        "summary": {"image": {"i_auroc": 0.99}},
    }
    return registry.register(db, project_id=project_id, **{**values, **changes})


def test_a_registered_model_is_active_and_found_again(db, project_id):
    model = register(db, project_id)
    assert registry.get(db, model_id=model.id) == model
    assert (model.name, model.threshold, model.summary) == ("First", 0.25, {"image": {"i_auroc": 0.99}})
    assert projects.get(db, project_id=project_id).active_model_id == model.id


def test_the_active_model_changes_only_when_asked(db, project_id):
    first = register(db, project_id)
    second = register(db, project_id, name="Second", activate=False)
    assert projects.get(db, project_id=project_id).active_model_id == first.id
    registry.activate(db, model_id=second.id)
    assert projects.get(db, project_id=project_id).active_model_id == second.id


def test_a_model_is_activated_by_its_own_training_and_by_nobody_else_before_that_has_ended(db, project_id):
    first = register(db, project_id)
    job_id, other = (jobs.submit(db, kind="train", project_id=project_id, payload={}) for _ in range(2))
    model = register(db, project_id, job_id=job_id, activate=False)
    for job in (None, other):
        with pytest.raises(SsnError, match="training is not done"):
            registry.activate(db, model_id=model.id, job_id=job)
    assert projects.get(db, project_id=project_id).active_model_id == first.id
    registry.activate(db, model_id=model.id, job_id=job_id)
    assert projects.get(db, project_id=project_id).active_model_id == model.id
    jobs.request_cancel(db, job_id=job_id)
    registry.activate(db, model_id=first.id)
    with pytest.raises(SsnError, match="Resume the training"):
        registry.activate(db, model_id=model.id)
    with db.write() as session:
        session.get_one(JobRow, job_id).status = "succeeded"
    registry.activate(db, model_id=model.id)


def test_models_are_listed_newest_first_and_by_project(db, project_id):
    other = projects.create(db, name="Screws").id
    ids = [register(db, project_id, name=name).id for name in "abc"]
    register(db, other)
    assert [model.id for model in registry.list_models(db, project_id=project_id)] == ids[::-1]


def test_a_resumed_training_finds_the_model_it_has_registered(db, project_id):
    job_id = jobs.submit(db, kind="train", project_id=project_id, payload={})
    assert registry.of_job(db, job_id=job_id) is None
    model = register(db, project_id, job_id=job_id)
    assert registry.of_job(db, job_id=job_id) == model


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_not_finite_is_refused(db, project_id, threshold):
    with pytest.raises(SettingError, match="threshold"):
        register(db, project_id, threshold=threshold)
    assert registry.list_models(db, project_id=project_id) == []


def test_a_colour_scale_without_extent_and_an_unknown_origin_are_refused(db, project_id):
    with pytest.raises(SettingError, match="colour scale"):
        register(db, project_id, scale_low=1.0, scale_high=1.0)
    with pytest.raises(ValueError, match="held_out"):
        register(db, project_id, held_out="train")
    assert registry.list_models(db, project_id=project_id) == []


def test_figures_that_are_not_defined_become_none(db, project_id):
    model = register(db, project_id, summary={"image": {"i_auroc": float("nan")}, "n": 3})
    assert registry.get(db, model_id=model.id).summary == {"image": {"i_auroc": None}, "n": 3}


def test_models_and_projects_that_do_not_exist_are_named(db, project_id):
    for call in (
        lambda: registry.get(db, model_id=9),
        lambda: registry.activate(db, model_id=9),
        lambda: register(db, 9),
    ):
        with pytest.raises(SsnError, match="9"):
            call()


def test_a_models_folder_lies_inside_the_data_folder_and_must_be_there(db, project_id):
    model = register(db, project_id)
    with pytest.raises(ModelFolderError, match="First"):
        registry.model_path(db, model)
    (db.data_dir / "models" / "1" / "1").mkdir(parents=True)
    assert registry.model_path(db, model) == (db.data_dir / "models" / "1" / "1").resolve()
    for folder in ("../elsewhere", "/etc", "", "models/../.."):
        with pytest.raises(ModelFolderError, match="inside the data folder"):
            register(db, project_id, folder=folder)
