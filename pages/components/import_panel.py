"""Bringing images in: choose a source, see what was found, import it, read the report."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.components import resources, state
from pages.components.errors import show_errors
from pages.components.job_progress import job_panel, status_word
from pages.components.text import count, csv_bytes, literal, moment, plain, prose
from pages.components.workers import look_after_jobs
from ssn_core.errors import SsnError
from storage import archives, imports, jobs, projects

UPLOAD, FOLDER = "Upload files or a zip", "Folder on this computer"
SHOWN_ROWS = 500  # of a report on the page; the CSV holds all
OUTCOMES = {"added": "Added", "already_there": "Already there", "rejected": "Rejected"}

LAYOUTS_HELP = """
The layout is recognised from names and folders; nothing needs to be renamed.

| Layout | Looks like | What is read |
|---|---|---|
| MVTec AD | `train/good/…`, `test/<defect>/…`, `ground_truth/<defect>/000_mask.png` | labels, masks |
| KSDD2 | `train/10000.png`, `train/10000_GT.png`, `test/…` | labels and masks from the `_GT` files, split |
| KolektorSDD | `kos01/Part0.jpg`, `kos01/Part0_label.bmp` | labels and masks, one group a part |
| Folder per class | `good/…`, `bad/…` (also ok, pass; ng, defect …), also below `train/`, `test/` | labels, split |
| Flat folder | any images | images without labels |
| CSV | `labels.csv` beside the images | see below |

**CSV columns:** `image,label[,mask,group,split,fold]`, separated by comma, semicolon or tab. `image` and `mask` are
paths relative to the CSV. `label` is good or bad (or 0 / 1, or the folder words above); empty means not labelled.
`group` keeps images of one part together, so that they never stand on both sides of a train and test split. `split`
may say train, calibration or test. Other columns are ignored.

Images are known by their content: importing the same file twice adds nothing, whatever its name. Masks are used to
measure and to draw outlines, never to train the image-label recipes.
"""


def draw_source(project: projects.Project) -> None:
    """Choose a source and look at it; what was found is kept until it is imported or discarded."""
    kind = st.segmented_control(
        "From",
        [UPLOAD, FOLDER],
        default=UPLOAD,
        key=state.Key.DATA_SOURCE,
        persist_state="session",
        required=True,
    )
    if kind == FOLDER:
        _folder(project)
    else:
        _upload(project)
    pending = state.pending_import(project.id)
    if pending is not None:
        _preview(project, pending)


def _folder(project: projects.Project) -> None:
    path = st.text_input(
        "Folder or CSV file",
        placeholder="/data/commutators",
        key=state.Key.DATA_FOLDER,
        persist_state="session",
        help="A path on the computer on which SSN Inspector runs. The images are copied; the folder is not changed.",
    )
    if st.button("Check folder", disabled=not path.strip(), key="data-look-folder"):
        with show_errors(), st.spinner("Reading names …"):
            source = imports.locate(path)
            found = imports.preview(source=source)
            state.set_pending_import(state.PendingImport(project.id, source, staged=False, preview=found))


def _upload(project: projects.Project) -> None:
    uploads = st.file_uploader(
        "Images, masks and a CSV, or one zip that holds them with their folders",
        accept_multiple_files=True,
        key=state.upload_key("data"),
    )
    if st.button("Check files", disabled=not uploads, key="data-look-upload"):
        with show_errors(), st.spinner("Unpacking and reading names …"):
            folder = archives.stage_uploads(
                resources.database().data_dir, [(upload.name, upload) for upload in uploads]
            )
            try:
                found = imports.preview(source=folder)
            except SsnError:
                archives.discard(resources.database().data_dir, folder)
                raise
            state.set_pending_import(state.PendingImport(project.id, folder, staged=True, preview=found))


def _preview(project: projects.Project, pending: state.PendingImport) -> None:
    found = pending.preview
    with st.container(border=True):
        st.markdown(f"**Found: {summary(found)}**")
        if found.n_images == 0:
            st.warning("There is no image to import here.")
        if found.sample_names:
            st.markdown("For example " + ", ".join(literal(name) for name in found.sample_names[:4]))
        for problem in found.problems:
            st.warning(prose(problem), icon=":material/warning:")
        if found.ignored:
            with st.expander(f"{count(len(found.ignored), 'file')} ignored, with reasons"):
                _table(["File", "Reason"], [(name, reason) for name, reason in found.ignored])
        if found.n_images and found.n_good + found.n_bad == 0:
            st.caption("No labels come with these images: you label them on the Label page.")
        with st.container(horizontal=True):
            st.button(
                f"Import {count(found.n_images, 'image')}",
                type="primary",
                disabled=found.n_images == 0 or not state.inspector(),
                on_click=_submit,
                args=(project, pending),
                key="data-import",
            )
            if not state.inspector():
                st.markdown(
                    ":material/arrow_back: Type your name in the sidebar first: labels carry it.", width="content"
                )
            st.button("Discard", on_click=_discard, args=(pending,), key="data-discard")


def _discard(pending: state.PendingImport) -> None:
    state.set_pending_import(None)
    if pending.staged:
        archives.discard(resources.database().data_dir, pending.source)


def summary(found: imports.Preview) -> str:
    """What a preview found, in one line."""
    parts = [found.title, count(found.n_images, "image"), f"{found.n_good:,} good", f"{found.n_bad:,} bad"]
    if found.n_unlabelled:
        parts.append(f"{found.n_unlabelled:,} without label")
    if found.n_masks:
        parts.append(count(found.n_masks, "mask"))
    if found.n_groups and found.n_groups != found.n_images:
        parts.append(count(found.n_groups, "group"))
    if found.ignored:
        parts.append(f"{len(found.ignored):,} ignored")
    return ", ".join(parts)


def _submit(project: projects.Project, pending: state.PendingImport) -> None:
    with show_errors():
        imports.submit(
            resources.database(),
            project_id=project.id,
            source=pending.source,
            layout=pending.preview.layout,
            staged=pending.staged,
            inspector=state.inspector(),
        )
        state.set_pending_import(None)
        state.clear_upload("data")
        look_after_jobs()


def draw_imports(project: projects.Project) -> None:
    """The newest import in full, earlier ones folded."""
    db = resources.database()
    listed = jobs.list_jobs(db, project_id=project.id, kinds=("import", "demo"), limit=20)
    if not listed:
        return
    newest, *earlier = listed
    st.subheader("Import running" if newest.is_active else "Last import", anchor=False)
    job_panel(newest.id, on_success=draw_report)
    if not newest.is_active and newest.status != "succeeded":
        draw_report(newest)
    if earlier:
        st.subheader("Earlier imports", anchor=False)
    for job in earlier:
        title = f"{moment(job.created_at)} · {status_word(job)} · {_counts(job)}"
        folded = st.expander(title, key=f"import-earlier-{job.id}", on_change="rerun")
        if folded.open:  # a report may be long: it is read when somebody wants it
            with folded:
                if job.is_active or job.status != "succeeded":
                    job_panel(job.id)
                draw_report(job)


def draw_report(job: jobs.Job) -> None:
    """What became of each file of one import."""
    db = resources.database()
    report = imports.report(db, job_id=job.id)
    if not (report.added or report.already_there or report.rejected):
        st.caption("Nothing was imported.")
        return
    tiles = st.columns(4)
    tiles[0].metric("Added", f"{report.added:,}")
    tiles[1].metric("Already there", f"{report.already_there:,}", help="The same content was in the project before.")
    tiles[2].metric("Rejected", f"{report.rejected:,}")
    tiles[3].metric("Labels taken over", f"{report.labelled:,}", help="A person's verdict is never replaced.")
    shown = "rejected" if report.rejected else "added"
    entries = imports.entries(db, job_id=job.id, outcome=shown, limit=SHOWN_ROWS)
    with st.expander(f"{OUTCOMES[shown]} files", expanded=bool(report.rejected)):
        _table(["File", "Reason"] if shown == "rejected" else ["File", "Note"], [(e.name, e.reason) for e in entries])
        if len(entries) == SHOWN_ROWS:
            st.caption(f"The first {SHOWN_ROWS} are shown; the CSV holds all.")
    st.download_button(
        "Report as CSV",
        data=lambda: report_csv(job.id),
        file_name=f"import-{job.id}.csv",
        mime="text/csv",
        key=f"import-csv-{job.id}",
        on_click="ignore",
        icon=":material/download:",
    )


def report_csv(job_id: int) -> bytes:
    """The whole report of an import as a CSV file."""
    entries = imports.entries(resources.database(), job_id=job_id, outcome=None, limit=None)
    return csv_bytes(["file", "outcome", "reason"], ((e.name, OUTCOMES[e.outcome], e.reason) for e in entries))


def _counts(job: jobs.Job) -> str:
    done = job.result  # the report, once the import has succeeded
    report = imports.ImportReport(**done) if done else imports.report(resources.database(), job_id=job.id)
    return f"{report.added:,} added, {report.already_there:,} already there, {report.rejected:,} rejected"


def _table(header: list[str], rows: list[tuple[str, str]]) -> None:
    frame = pd.DataFrame([[plain(cell) for cell in row] for row in rows], columns=header)
    st.dataframe(frame, hide_index=True, height=min(35 * (len(rows) + 1) + 3, 300))
