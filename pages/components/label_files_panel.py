"""Labels as files: out of the project in four formats, and in again after a look at what would change."""

from __future__ import annotations

import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.text import count, literal, moment, plain, prose
from storage import label_files, projects
from storage.label_files import Plan
from storage.label_formats import LABEL_STUDIO_CONFIG
from storage.label_reading import MAX_BYTES

FORMATS = {  # format -> (button, name of the file, what it holds)
    "csv": ("CSV", "labels-{}.csv", "Every verdict, also those taken back: one a line. Reads back without loss."),
    "json": ("JSON", "labels-{}.json", "The same for programs. Reads back without loss."),
    "label_studio": (
        "Label Studio", "label-studio-{}.json",
        "Tasks to import, with the standing verdict of each inspector. The images must be reachable from Label Studio "
        "under the names in data.image.",
    ),
    "fiftyone": (
        "FiftyOne", "labels.json",
        "Put it beside a folder data/ with the images and load both as FiftyOneImageClassificationDataset. It holds "
        "the labels of now.",
    ),
}  # fmt: skip
TITLES = {name: title for name, (title, _, _) in FORMATS.items()}


def draw(project: projects.Project) -> None:
    """Both directions, and what was read in so far."""
    out, back = st.columns(2, gap="large")
    with out:
        st.subheader("Take labels out", anchor=False)
        _export(project)
    with back:
        st.subheader("Read labels in", anchor=False)
        _import(project)
    _read_before(project)


def _export(project: projects.Project) -> None:
    for name, (title, file_name, words) in FORMATS.items():
        with st.container(border=True):
            text, button = st.columns([3, 2], vertical_alignment="center")
            text.caption(f"**{title}.** {words}")
            button.download_button(
                f"Download {title}",
                data=lambda name=name: _file(project.id, name),
                file_name=file_name.format(project.id),
                mime="text/csv" if name == "csv" else "application/json",
                width="stretch",
                key=f"label-file-{name}",
            )
            if name == "label_studio":
                with st.expander("Labelling setup to paste into Label Studio"):
                    st.code(LABEL_STUDIO_CONFIG, language="xml", wrap_lines=True)


def _file(project_id: int, name: str) -> bytes:
    pieces = label_files.export(resources.database(), project_id=project_id, format=name)
    return "".join(pieces).encode("utf-8", "replace")


def _import(project: projects.Project) -> None:
    st.caption(
        "Any of the four formats, or a CSV with columns image,label. Images are found by their content (sha256) or by "
        "their name. A file goes in as a whole or not at all; reading it twice adds nothing."
    )
    done = state.take_label_file_done()
    if done is not None:
        st.success(done, icon=":material/check_circle:")
    upload = st.file_uploader(
        "Label file", type=["csv", "json"], max_upload_size=MAX_BYTES // 10**6, key=state.upload_key("labels")
    )
    if upload is None:
        return
    who = state.inspector()
    if not who:
        st.warning("Type your name in the sidebar first: the file is read in under it.", icon=":material/person:")
        return
    data = upload.getvalue()
    with show_errors(), st.spinner("Reading the file …"):
        plan = label_files.look(resources.database(), project_id=project.id, name=upload.name, data=data, inspector=who)
        _preview(plan)
        st.button(
            f"Read in {count(plan.new, 'verdict')}",
            type="primary",
            disabled=not plan.new,
            on_click=_read_in,
            args=(project.id, upload.name, data, who),
            key="label-file-read",
        )


def _preview(plan: Plan) -> None:
    lines = [
        f"**{TITLES[plan.format]}**: {count(plan.new, 'new verdict')}, {plan.known:,} here already",
        f"{count(plan.changed, 'image')} will bear another label afterwards",
    ]
    st.markdown("  \n".join(lines))
    if plan.missing:
        names = ", ".join(literal(name) for name in plan.missing_names)
        st.warning(
            f"{count(plan.missing, 'verdict')} left out: this project has no such image, or several of that name. "
            f"For example {names}",
            icon=":material/image_not_supported:",
        )
    if plan.ignored:
        st.caption(f"Not read: {prose(', '.join(plan.ignored))}")


def _read_in(project_id: int, name: str, data: bytes, who: str) -> None:
    with show_errors():
        plan = label_files.read_in(resources.database(), project_id=project_id, name=name, data=data, inspector=who)
        state.set_label_file_done(
            f"{count(plan.new, 'verdict')} read in; {count(plan.changed, 'image')} changed their label."
        )
        state.clear_upload("labels")


def _read_before(project: projects.Project) -> None:
    files = label_files.list_files(resources.database(), project_id=project.id)
    if files:
        st.markdown("**Read in so far**")
        st.dataframe(
            [
                {
                    "Time": moment(one.created_at),
                    "File": plain(one.name),
                    "Format": TITLES.get(one.format, one.format),
                    "Verdicts": one.n_events,
                    "Read in by": plain(one.inspector),
                    "SHA-256": one.sha256[:16],
                }
                for one in files
            ],
            hide_index=True,
        )
