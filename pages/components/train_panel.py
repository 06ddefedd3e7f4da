"""Training: what is there to learn from, the settings, the run in progress, past runs and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import resources, state
from pages.components.job_progress import job_panel, start, status_word, took
from pages.components.project import go, missing_labels
from pages.components.text import count, duration, figure, moment, plain, prose
from ssn_core import weights
from ssn_core.errors import SsnError
from ssn_core.recipes import (
    ADAPTOR_TITLES,
    BACKBONE_TITLES,
    BACKBONES,
    DEFAULT_RECIPE,
    MIN_BAD,
    MIN_GOOD,
    NOISE_TITLES,
    RECIPES,
    SCALE_TITLES,
    Recipe,
    chosen,
    get_recipe,
    lacking,
)
from ssn_core.sampling import planned_samples
from ssn_core.settling import in_words
from storage import jobs, projects, registry

NOT_YET = " · not yet: something is missing"  # after the title of a recipe that cannot be trained
COMFORTABLE_BAD = 10  # below it the figures rest on so few bad images that they say little


@dataclass(frozen=True)
class Choice:
    """What the form holds when Train is pressed; None: the recipe's own."""

    recipe: str
    backbone: str
    image_size: tuple[int, int]  # (H, W), pixels
    scales: int | None
    epochs: int | None
    early_stop: bool | None
    seed: int
    pooling_fraction: float | None
    adaptor: str | None
    noise: str | None
    beta: float | None
    name: str


def draw_labels(counts: projects.Counts, recipe: Recipe) -> str | None:
    """How many labels a recipe has to learn from; returns why training cannot start, or None."""
    if recipe.learns_from == "good":
        measured = f"{count(counts.bad, 'bad image')} to measure with" if counts.bad else "no bad image to measure with"
        st.markdown(f"Learns from **{counts.good:,} good** images; {measured}.")
        return _draw_good_alone(counts, recipe)
    marked = f", {counts.bad_with_mask:,} of them with a defect mask" if recipe.reads_marks else ""
    st.markdown(f"Learns from **{counts.good:,} good** and **{counts.bad:,} bad** images{marked}.")
    if rest := counts.unlabelled + counts.unsure:
        st.caption(f"{count(rest, 'image')} without a clear label: scored afterwards, not learned from.")
    missing = missing_labels(counts)
    if missing is not None:
        reason = f"{missing[0].upper()}{missing[1:]}: at least {MIN_GOOD} good and {MIN_BAD} bad are needed."
        other = " Or choose a recipe that learns from good images only." if counts.good >= MIN_GOOD else ""
        st.warning(f"**Training cannot start yet.** {reason}{other}", icon=":material/label:")
        go("label" if counts.total else "data")
        return reason
    if (reason := _lacking(recipe, counts)) is not None:
        st.warning(f"**{recipe.title} cannot be trained yet.** {reason}.", icon=":material/label:")
        return reason
    if counts.bad < COMFORTABLE_BAD:
        st.info(
            f"Training works with {count(counts.bad, 'bad image')}, but the figures will rest on few: "
            f"{COMFORTABLE_BAD} or more say much more.",
            icon=":material/info:",
        )
    return None


def _draw_good_alone(counts: projects.Counts, recipe: Recipe) -> str | None:
    reason = _lacking(recipe, counts)
    if reason is not None:
        st.warning(f"**Training cannot start yet.** {reason}.", icon=":material/label:")
        go("label" if counts.total else "data")
    elif not counts.bad:
        st.info(
            "Without a bad image nothing can be measured: the figures will be n/a, and the suggested threshold lies "
            "just above every good part.",
            icon=":material/info:",
        )
    return reason


def _lacking(recipe: Recipe, counts: projects.Counts) -> str | None:
    return lacking(recipe, n_good=counts.good, n_bad=counts.bad, n_marked=counts.bad_with_mask)


def draw_form(project: projects.Project, counts: projects.Counts) -> Recipe:
    """The settings, which `press` reads by their keys. Everything has a default that suits a first run.

    Returns:
        the recipe that is chosen, before any other setting.
    """
    titles = {name: one.title + (NOT_YET if _lacking(one, counts) is not None else "") for name, one in RECIPES.items()}
    state.settle_words(state.Key.TRAIN_RECIPE, list(titles.values()), DEFAULT_RECIPE)
    recipe_name = st.selectbox(
        "Recipe",
        list(RECIPES),
        format_func=titles.__getitem__,
        key=state.Key.TRAIN_RECIPE,
        persist_state="session",
    )
    recipe = RECIPES[recipe_name]
    st.caption(recipe.description)
    if recipe.epochs:
        samples = planned_samples(recipe, n_good=counts.good, n_bad=counts.bad)
        st.caption(
            f"As published: {recipe.epochs} epochs, {samples:,} images in all. Without a GPU that takes many hours; "
            "set fewer epochs under Advanced, or let it end early."
        )
    backbone = st.selectbox(
        "Backbone",
        BACKBONES,
        format_func=lambda name: BACKBONE_TITLES[name],
        key=state.Key.TRAIN_BACKBONE,
        persist_state="session",
        help="The frozen network that turns an image into features.",
    )
    _say_which_weights(backbone)
    if recipe.has_local_head:
        st.selectbox(
            "Image scales",
            list(SCALE_TITLES),
            index=list(SCALE_TITLES).index(recipe.scales),
            format_func=SCALE_TITLES.__getitem__,
            key=state.Key.TRAIN_SCALES,
            persist_state="session",
            help="Small and large defects differ most from good parts at sizes of their own. Three sizes pay with few "
            "bad images; with many, train both ways and compare. Training takes twice, inspecting one and a half times "
            "as long.",
        )
    _draw_advanced(project, recipe)
    return recipe


def _draw_advanced(project: projects.Project, recipe: Recipe) -> None:
    with st.expander(f"Advanced: name, image size {project.image_height} × {project.image_width}, epochs, noise"):
        st.text_input(
            "Name of the model", placeholder="automatic: recipe and time", max_chars=200, key=state.Key.TRAIN_NAME
        )
        left, right = st.columns(2)
        height_key, width_key = state.train_size_keys(project.id)
        left.number_input("Height, pixels", 64, 2048, project.image_height, step=32, key=height_key)
        right.number_input("Width, pixels", 64, 2048, project.image_width, step=32, key=width_key)
        left.number_input(
            "Epochs",
            min_value=1,
            max_value=100_000,
            value=None,
            placeholder=str(recipe.epochs) if recipe.epochs else "automatic",
            key=state.Key.TRAIN_EPOCHS,
            help="Empty: as the recipe says. Automatic runs as many epochs as the number of images calls for.",
        )
        right.number_input("Seed", 0, 2**32 - 1, 0, key=state.Key.TRAIN_SEED, help="Same seed, same model.")
        left.number_input(
            "Pooling fraction",
            min_value=0.001,
            max_value=1.0,
            value=None,
            step=0.005,
            format="%.3f",
            placeholder="–" if recipe.pooling_fraction is None else f"{recipe.pooling_fraction:g}",
            disabled=recipe.pooling_fraction is None,
            key=state.Key.TRAIN_POOLING,
            help="Share of the map, most suspicious cells first, whose mean is the score. Small for small defects; "
            "1 is the mean of the whole map."
            if recipe.pooling_fraction is not None
            else "This recipe's score is no mean of map cells.",
        )
        st.selectbox(
            "Adaptor",
            list(ADAPTOR_TITLES),
            index=None,
            placeholder=ADAPTOR_TITLES[recipe.adaptor],
            format_func=lambda name: ADAPTOR_TITLES[name],
            key=state.Key.TRAIN_ADAPTOR,
            help="The first trained layer, between the frozen backbone and the rest.",
        )
        st.checkbox(
            "End early",
            key=state.Key.TRAIN_EARLY,
            help="First finds out how many epochs are needed, in trials on half of the training images. It pays where "
            "that is less than half of them: with hundreds of epochs, not with automatic.",
        )
        noise = st.selectbox(
            "Synthetic anomalies",
            [name for name in NOISE_TITLES if name != "none" or recipe.learns_from != "good"],
            index=None,
            placeholder=NOISE_TITLES[recipe.noise_kind],
            format_func=lambda name: NOISE_TITLES[name],
            key=state.Key.TRAIN_NOISE,
            help="Noise added to features while training, as examples of defects. It costs time in training only: the "
            "model inspects at the same speed whatever is chosen.",
        )
        if (noise or recipe.noise_kind) == "learned":
            st.number_input(
                "Strength of the learned noise (beta)",
                min_value=0.0015,
                max_value=10.0,
                value=None,
                step=0.01,
                format="%.4f",
                placeholder=f"{recipe.beta:g}",
                key=state.Key.TRAIN_BETA,
                help="0.05 found defects best in the published study, 0.1 marked them best.",
            )


HOW_TO_BRING = (
    "On a computer with internet, download `{file}` ({url}), rename it to `{name}.pth` and copy it into a folder here; "
    "set SSN_WEIGHTS_DIR to that folder and start the app again."
)


def _say_which_weights(backbone: str) -> None:
    """Which weights a training would use, and how to bring ImageNet's to a computer without internet."""
    if weights.find_imagenet(backbone, resources.settings().weights_dir) is not None:
        st.caption("With ImageNet weights, found on this computer.")
        return
    url = weights.IMAGENET_URLS[backbone]
    how = HOW_TO_BRING.format(file=url.rsplit("/", 1)[-1], url=url, name=backbone)
    if weights.bundled(backbone) is not None:
        st.caption(
            "ImageNet weights are not on this computer: they are downloaded once, or, without internet, the bundled "
            "backbone is used, which learned from generated textures and is less accurate; a larger image size "
            "helps it.",
            help=how,
        )
    else:
        st.caption(
            "Needs ImageNet weights, which are not on this computer: they are downloaded once; without internet this "
            "backbone cannot be trained, only its speed can be measured.",
            help=how,
        )


def press(project: projects.Project) -> None:
    """The Train button's callback: put a training with the form's values into the queue, or keep why not.

    In the callback and not in the page's body: a number field that is left by the click sends its value first, and the
    run that the click falls into can be cut off before it reaches the button.
    """
    values = state.snapshot()
    if jobs.active(resources.database(), project_id=project.id, kinds=("train",)):
        return  # a second click before the button was drawn grey
    refusal = None
    try:
        submit(project, _chosen(project, values), inspector=values.get(state.Key.INSPECTOR, ""))
    except SsnError as error:
        refusal = error
    state.set_train_refusal(refusal)


def _chosen(project: projects.Project, values: Mapping[str, Any]) -> Choice:
    """The form's values: what the browser sent last, whether or not the page has run with it."""
    height_key, width_key = state.train_size_keys(project.id)
    recipe = values.get(state.Key.TRAIN_RECIPE, DEFAULT_RECIPE)
    epochs, pooling = values.get(state.Key.TRAIN_EPOCHS), values.get(state.Key.TRAIN_POOLING)
    return Choice(
        recipe=recipe,
        backbone=values.get(state.Key.TRAIN_BACKBONE, BACKBONES[0]),
        image_size=(
            int(values.get(height_key, project.image_height)),
            int(values.get(width_key, project.image_width)),
        ),
        scales=values.get(state.Key.TRAIN_SCALES) if get_recipe(recipe).has_local_head else None,
        epochs=None if epochs is None else int(epochs),
        early_stop=values.get(state.Key.TRAIN_EARLY) or None,
        seed=int(values.get(state.Key.TRAIN_SEED, 0)),
        pooling_fraction=None if pooling is None else float(pooling),
        adaptor=values.get(state.Key.TRAIN_ADAPTOR),
        noise=values.get(state.Key.TRAIN_NOISE),
        beta=values.get(state.Key.TRAIN_BETA),
        name=str(values.get(state.Key.TRAIN_NAME, "")).strip(),
    )


def submit(project: projects.Project, choice: Choice, *, inspector: str) -> int:
    """Put a training job into the queue and return its id.

    Raises:
        SettingError: a setting is out of its range.
    """
    payload = {
        **asdict(choice),
        "image_size": list(choice.image_size),
        "name": choice.name or f"{choice.recipe} {datetime.now().astimezone():%Y-%m-%d %H:%M}",
        "inspector": inspector,
    }
    chosen(choice.recipe, payload)  # refuse here, not minutes later in the worker
    return start("train", payload, project_id=project.id)


def draw_run(runs: list[jobs.Job]) -> None:
    """The run in progress, or how the newest one ended."""
    if not runs:
        st.caption("Progress appears here once training has started. It goes on when this page is closed.")
        return
    active = [job for job in runs if job.is_active]
    for job in reversed(active) if active else runs[:1]:
        job_panel(job.id, loss=True, on_success=_what_now)


def _what_now(job: jobs.Job) -> None:
    model = registry.of_job(resources.database(), job_id=job.id)
    if (length := _length(model)) is not None:
        st.caption(in_words(length))
    with st.container(horizontal=True):
        go("review", "Review what it sees")
        go("evaluate", "Evaluate how good it is")


def draw_past(runs: list[jobs.Job], models: list[registry.Model]) -> None:
    """Runs that have ended in a table, with the figures of the model each one made."""
    by_job = {model.job_id: model for model in models}
    rows = []
    for job in runs:
        if job.is_active:  # shown live above; this table stands still
            continue
        model = by_job.get(job.id)
        payload = job.payload
        rows.append(
            {
                "Started": moment(job.started_at or job.created_at),
                "Name": plain(payload.get("name", "")),
                "Status": status_word(job),
                "Took": duration(took(job)),
                "Recipe": payload.get("recipe", ""),
                "Backbone": payload.get("backbone", ""),
                "Epochs": _epochs(model),
                "Device": plain((job.metrics or {}).get("device", "–")),
                "Held-out AP-det": figure(_image_figure(model, "ap_det")),
                "Held-out I-AUROC": figure(_image_figure(model, "i_auroc")),
                "Reason": plain(job.error or ""),
            }
        )
    if rows:
        st.subheader("Past runs", anchor=False)
        st.dataframe(pd.DataFrame(rows), hide_index=True)


def draw_models(project: projects.Project, models: list[registry.Model]) -> None:
    """Which model is active, and the way to all of them."""
    active = next((model for model in models if model.id == project.active_model_id), None)
    with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        named = f"**{prose(active.name)}** is the active one" if active is not None else "None is active"
        st.markdown(f"{named} · {count(len(models), 'model')} in all")
        go("models")


def _length(model: registry.Model | None) -> dict[str, Any] | None:
    """How long a model was trained, where that was to be found out."""
    return (model.summary or {}).get("length") if model is not None else None


def _epochs(model: registry.Model | None) -> str:
    length = _length(model)
    if length is not None:
        return f"{length['epochs']} of {length['planned']}"
    epochs = ((model.summary or {}).get("settings") or {}).get("epochs") if model is not None else None
    return "–" if epochs is None else str(epochs or "automatic")


def _image_figure(model: registry.Model | None, key: str) -> float | None:
    value = ((model.summary or {}).get("image") or {}).get(key) if model is not None else None
    return value if isinstance(value, int | float) else None
