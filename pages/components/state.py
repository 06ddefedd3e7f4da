"""Session state, typed: the only file that knows the names of session-state keys.

Views use the functions; widgets take their `key=` from :class:`Key`.
"""

from __future__ import annotations

import secrets
import zlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import streamlit as st

from pages.components.suggestions import Targets

if TYPE_CHECKING:
    from ssn_core.errors import SsnError
    from storage.imports import Preview

MAX_NAME = 100  # characters, as the database keeps
SENT = 3  # parts of the question that a worklist from another page answers: model, filter, order


class Key(StrEnum):
    """Names in st.session_state, of our own values and of widgets. Views add theirs here."""

    # Shared by all pages
    SESSION = "ssn_session"
    PROJECT = "ssn_project"
    INSPECTOR = "ssn_inspector"
    PROJECT_SELECT = "ssn_project_select"
    NAME_INPUT = "ssn_name_input"
    NAME_FORM = "ssn_name_form"
    BROWSER = "ssn_browser"
    # Label
    LABEL_BOARD = "ssn_label_board"
    # Data
    DATA_SOURCE = "ssn_data_source"
    DATA_FOLDER = "ssn_data_folder"
    PENDING_IMPORT = "ssn_pending_import"
    # Train
    TRAIN_RECIPE = "ssn_train_recipe"
    TRAIN_BACKBONE = "ssn_train_backbone"
    TRAIN_SCALES = "ssn_train_scales"
    TRAIN_NAME = "ssn_train_name"
    TRAIN_HEIGHT = "ssn_train_height"  # completed by a project's number, as the width
    TRAIN_WIDTH = "ssn_train_width"
    TRAIN_EPOCHS = "train-epochs"
    TRAIN_EARLY = "train-early"
    TRAIN_SEED = "train-seed"
    TRAIN_POOLING = "train-pooling"
    TRAIN_ADAPTOR = "train-adaptor"
    TRAIN_NOISE = "train-noise"
    TRAIN_BETA = "train-beta"
    TRAIN_REFUSAL = "ssn_train_refusal"
    # Jobs; completed by a job's number
    JOB_REFUSAL = "ssn_job_refusal"
    # Models
    MODELS_VIEW = "ssn_models_view"
    MODELS_NOTICE = "ssn_models_notice"
    COMPARE_FIRST = "ssn_compare_first"  # completed by a project's number, as the second
    COMPARE_SECOND = "ssn_compare_second"
    REPORT_OPEN = "ssn_report_open"
    REPORT_ASKED = "ssn_report_asked"
    REPORT_DELETION = "ssn_report_deletion"
    REPORT_PURPOSE = "ssn_report_purpose"  # completed by a model's number
    # Trade-offs; completed by a project's number
    TRADEOFF_BOARD = "ssn_tradeoff_board"
    TRADEOFF_TIME = "ssn_tradeoff_time"
    REGRET_FAST = "ssn_regret_fast"
    REGRET_SLOW = "ssn_regret_slow"
    # Agreement; completed by a project's or a study's number
    STUDY = "ssn_study"
    STUDY_NEW = "ssn_study_new"
    STUDY_FORM = "ssn_study_form"
    STUDY_BOARD = "ssn_study_board"
    # Audit; completed by a project's number
    AUDIT_VIEW = "ssn_audit_view"
    AUDIT_FILTER = "ssn_audit_filter"
    AUDIT_PAGES = "ssn_audit_pages"
    AUDIT_TABLE = "ssn_audit_table"
    VERDICT_FIRST = "ssn_verdict_first"
    OPINION_ROUND = "ssn_opinion_round"
    OPINION_NEW = "ssn_opinion_new"
    LABEL_FILE_DONE = "ssn_label_file_done"
    # Review, Evaluate, Inspect; these are completed by a project, model or job number
    MODEL = "ssn_model"
    THRESHOLD_BOARD = "ssn_threshold_board"
    THRESHOLD_SAVE = "ssn_threshold_save"
    THRESHOLD_TARGETS = "ssn_threshold_targets"
    REVIEW_FILTER = "ssn_review_filter"
    REVIEW_ORDER = "ssn_review_order"
    REVIEW_IMAGE = "ssn_review_image"
    REVIEW_LIST = "ssn_review_list"
    REVIEW_STRIP = "ssn_review_strip"
    REVIEW_PICK = "ssn_review_pick"
    REVIEW_VIEWER = "ssn_review_viewer"
    REVIEW_VERDICT = "ssn_review_verdict"
    INSPECT_JOB = "ssn_inspect_job"
    INSPECT_TABLE = "ssn_inspect_table"
    INSPECT_VIEWER = "ssn_inspect_viewer"
    UPLOAD_ROUND = "ssn_upload_round"


def session_id() -> str:
    """A random name of this browser session (letters and digits)."""
    return st.session_state.setdefault(Key.SESSION, secrets.token_hex(8))


def project_id() -> int | None:
    """The chosen project, or None when there is none yet. The shell makes sure that it exists."""
    return st.session_state.get(Key.PROJECT)


def set_project(value: int | None) -> None:
    """Choose a project for this session; the browser remembers it for the next one."""
    st.session_state[Key.PROJECT] = value


def remembered_project() -> int | None:
    """The project this browser worked in last, from its cookie."""
    text = st.context.cookies.to_dict().get("ssn_project", "")
    return int(text) if text.isascii() and text.isdigit() else None


def inspector() -> str:
    """The inspector's name; "" when nobody has said it yet in this browser."""
    if Key.INSPECTOR not in st.session_state:
        st.session_state[Key.INSPECTOR] = clean_name(unquote(st.context.cookies.to_dict().get("ssn_inspector", "")))
    return st.session_state[Key.INSPECTOR]


def set_inspector(name: str) -> None:
    """Take a new name for this session; the browser remembers it for the next one."""
    st.session_state[Key.INSPECTOR] = clean_name(name)


def clean_name(name: str) -> str:
    """A name as it is stored: printable, single spaces, at most 100 characters."""
    printable = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(printable.split())[:MAX_NAME].strip()


@dataclass(frozen=True)
class PendingImport:
    """A source that was looked at and is not imported yet."""

    project_id: int
    source: Path
    staged: bool  # uploaded: the folder is ours and goes away after the import
    preview: Preview


def pending_import(project: int) -> PendingImport | None:
    """What waits to be imported into this project, if anything."""
    pending = st.session_state.get(Key.PENDING_IMPORT)
    return pending if pending is not None and pending.project_id == project else None


def set_pending_import(pending: PendingImport | None) -> None:
    """Keep what was found until it is imported or discarded (None)."""
    st.session_state[Key.PENDING_IMPORT] = pending


def upload_key(page: str) -> str:
    """The key of a page's file uploader; it changes when the uploader has been emptied."""
    return f"{Key.UPLOAD_ROUND}-{page}-{st.session_state.get(f'{Key.UPLOAD_ROUND}-{page}', 0)}"


def clear_upload(page: str) -> None:
    """Empty a page's file uploader at the next run: a new key is a new, empty widget."""
    key = f"{Key.UPLOAD_ROUND}-{page}"
    st.session_state[key] = st.session_state.get(key, 0) + 1


def snapshot() -> dict[str, Any]:
    """All values of this session at once, for callbacks.

    Reading them one by one would not do: at each access a run can be cut off by a newer one, and a callback that was
    cut off before it acted has lost the click.
    """
    return st.session_state.to_dict()


def set_train_refusal(error: SsnError | None) -> None:
    """Keep why Train could not start (from its callback), for the page to show below the button."""
    st.session_state[Key.TRAIN_REFUSAL] = error


def take_train_refusal() -> SsnError | None:
    """Why the last click on Train could not start one, once; None when there is nothing to say."""
    return st.session_state.pop(Key.TRAIN_REFUSAL, None)


def set_job_refusal(job: int, error: SsnError) -> None:
    """Keep why a job's button could not do its work (from its callback), for the job's panel to show."""
    st.session_state[f"{Key.JOB_REFUSAL}-{job}"] = error


def take_job_refusal(job: int) -> SsnError | None:
    """Why the last click on one of a job's buttons did nothing, once; None when there is nothing to say."""
    return st.session_state.pop(f"{Key.JOB_REFUSAL}-{job}", None)


def train_size_keys(project: int) -> tuple[str, str]:
    """The keys of the image height and width for training: a project's own, as their first values are."""
    return f"{Key.TRAIN_HEIGHT}-{project}", f"{Key.TRAIN_WIDTH}-{project}"


def model_key(project: int, active: int | None) -> str:
    """The key of the model selector: a project's own, and a new one for each active model.

    So a choice is kept from page to page, but a model that was trained or activated since comes first again.
    """
    return f"{Key.MODEL}-{project}-{active}"


def models_view() -> str:
    """The part of the Models page that is open: "list" or "compare"."""
    return st.session_state.get(Key.MODELS_VIEW) or "list"


def settle_models_view() -> None:
    """Give the switch on the Models page its first value."""
    st.session_state.setdefault(Key.MODELS_VIEW, "list")


def set_deletion_notice(words: str, *, failed: bool) -> None:
    """Keep how a deletion ended until its dialog is closed and the page can say it."""
    st.session_state[Key.MODELS_NOTICE] = (words, failed)


def has_deletion_notice() -> bool:
    """Whether a deletion has ended that the page has not spoken of yet."""
    return Key.MODELS_NOTICE in st.session_state


def take_deletion_notice() -> tuple[str, bool] | None:
    """How the last deletion ended, and whether it failed; once."""
    return st.session_state.pop(Key.MODELS_NOTICE, None)


def comparison_keys(project: int) -> tuple[str, str]:
    """The keys of the two models to compare: a project's own."""
    return f"{Key.COMPARE_FIRST}-{project}", f"{Key.COMPARE_SECOND}-{project}"


def show_comparison(project: int, first: int, second: int) -> None:
    """Open the comparison of two models on the Models page (from a callback: before its selectors are drawn)."""
    for key, model in zip(comparison_keys(project), (first, second), strict=True):
        st.session_state[key] = model
    st.session_state[Key.MODELS_VIEW] = "compare"


def tradeoff_board_key(project: int) -> str:
    """The key of the chart of trade-offs: a project's own."""
    return f"{Key.TRADEOFF_BOARD}-{project}"


def tradeoff_time() -> str:
    """Which time the trade-offs show: "score" (pixels to score) or "file" (decoding included)."""
    return st.session_state.setdefault(Key.TRADEOFF_TIME, "score") or "score"


def regret_keys(project: int) -> tuple[str, str]:
    """The keys of the fast and the slow model of the regret list: a project's own."""
    return f"{Key.REGRET_FAST}-{project}", f"{Key.REGRET_SLOW}-{project}"


def open_report(model: int | None) -> None:
    """Open the reports on a model over the page (from a callback), or none: the dialog was closed."""
    st.session_state[Key.REPORT_OPEN] = model


def report_open() -> int | None:
    """The model whose reports are open over the page."""
    return st.session_state.get(Key.REPORT_OPEN)


def report_purpose_key(model: int) -> str:
    """The key of the field in which the purpose of a model is typed: a model's own."""
    return f"{Key.REPORT_PURPOSE}-{model}"


def ask_report_deletion(report: int) -> None:
    """Ask for a report to be deleted (from the button's callback; the dialog does it, where it can say what failed)."""
    st.session_state[Key.REPORT_DELETION] = report


def take_report_deletion() -> int | None:
    """The report that is to be deleted; once."""
    return st.session_state.pop(Key.REPORT_DELETION, None)


def ask_report(model: int) -> None:
    """Ask for a report (from the button's callback), with the purpose as the browser sent it last."""
    purpose = st.session_state.to_dict().get(report_purpose_key(model)) or ""
    st.session_state[Key.REPORT_ASKED] = (model, purpose)


def report_asked(model: int) -> bool:
    """Whether a report on this model was asked for and not taken yet."""
    asked = st.session_state.get(Key.REPORT_ASKED)
    return asked is not None and asked[0] == model


def take_report_purpose() -> str | None:
    """The purpose of the report that was asked for, once; None when there is nothing to write."""
    asked = st.session_state.pop(Key.REPORT_ASKED, None)
    return None if asked is None else asked[1]


def settle_choice(key: str, options: list[int], value: int) -> None:
    """Give a selector its first value, and another one when what was chosen is no longer offered."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = value


def settle_words(key: str, words: list[str], value: str) -> None:
    """Tell the browser again what is chosen in a selector whose options read differently now: it keeps the old words.

    Args:
        words: of all options.
        value: the option that is chosen at first.
    """
    if st.session_state.get(f"{key}-words") != words:
        st.session_state[f"{key}-words"] = words
        st.session_state[key] = st.session_state.get(key, value)


def board_key(model: int) -> str:
    """The key of the threshold board: a model's own."""
    return f"{Key.THRESHOLD_BOARD}-{model}"


def board_told(model: int, name: str) -> object:
    """What the threshold board told last under this name, as it came from the browser; None before."""
    return (st.session_state.get(board_key(model)) or {}).get(name)


def board_save(model: int) -> dict[str, object] | None:
    """What the board asked to save last, until it is done; None when there is nothing new."""
    asked = board_told(model, "save")
    if not isinstance(asked, dict) or st.session_state.get(f"{Key.THRESHOLD_SAVE}-{model}") == asked.get("turn"):
        return None
    return asked


def set_board_saved(model: int, asked: dict[str, object]) -> None:
    """Note that this request has been dealt with."""
    st.session_state[f"{Key.THRESHOLD_SAVE}-{model}"] = asked.get("turn")


def take_targets(model: int) -> None:
    """Keep the targets typed into the board, for all models; the browser's cookie keeps them for the next session."""
    typed = board_told(model, "targets")
    taken = f"{Key.THRESHOLD_TARGETS}-{model}"
    # Once: another model's board may have been used since.
    if typed is not None and st.session_state.get(taken) != typed:
        st.session_state[taken] = typed
        st.session_state[Key.THRESHOLD_TARGETS] = Targets.of(typed)


def targets() -> Targets:
    """The targets and costs that suggestions are made for."""
    if Key.THRESHOLD_TARGETS not in st.session_state:
        cookie = unquote(st.context.cookies.to_dict().get("ssn_targets", ""))
        st.session_state[Key.THRESHOLD_TARGETS] = Targets.of_cookie(cookie)
    return st.session_state[Key.THRESHOLD_TARGETS]


def study_key(project: int, shown: str) -> str:
    """The key of the selector of studies: a project's own, and a new one whenever a line of it (`shown`) changes.

    The browser keeps the line that was chosen as it was, so another key is needed to say that a study was closed.
    """
    return f"{Key.STUDY}-{project}-{zlib.crc32(shown.encode('utf-8', 'replace'))}"


def chosen_study(project: int) -> int | None:
    """The study that is looked at; None before one was chosen."""
    return st.session_state.get(f"{Key.STUDY}-{project}")


def choose_study(project: int, study: int) -> None:
    """Look at a study."""
    st.session_state[f"{Key.STUDY}-{project}"] = study


def new_study(project: int) -> bool:
    """Whether a study of this project is being set up."""
    return bool(st.session_state.get(f"{Key.STUDY_NEW}-{project}"))


def set_new_study(project: int, value: bool) -> None:
    """Begin or give up setting up a study."""
    st.session_state[f"{Key.STUDY_NEW}-{project}"] = value


def audit_pages(project: int, question: object) -> list[int]:
    """The last event of each page of the audit's log that was turned; emptied when another question is asked."""
    key = f"{Key.AUDIT_PAGES}-{project}"
    if st.session_state.get(key, (None, []))[0] != question:
        st.session_state[key] = (question, [])
    return st.session_state[key][1]


def audit_table_key(project: int, question: object, page: int) -> str:
    """The key of the log's table: another one for each page, so that its chosen row belongs to it."""
    return f"{Key.AUDIT_TABLE}-{project}-{zlib.crc32(repr(question).encode())}-{page}"


def show_verdict_first(project: int, value: bool) -> str:
    """The key of the switch "verdict first", which shows what is stored: somebody else may have changed it."""
    key = f"{Key.VERDICT_FIRST}-{project}"
    st.session_state[key] = value
    return key


def verdict_first_asked(project: int) -> bool:
    """What the switch "verdict first" was turned to (for its callback)."""
    return bool(st.session_state.to_dict().get(f"{Key.VERDICT_FIRST}-{project}"))


def chosen_round(project: int) -> int | None:
    """The round of second opinions that is looked at; None before one was chosen."""
    return st.session_state.get(f"{Key.OPINION_ROUND}-{project}")


def choose_round(project: int, number: int) -> None:
    """Look at a round of second opinions."""
    st.session_state[f"{Key.OPINION_ROUND}-{project}"] = number


def new_round(project: int) -> bool:
    """Whether a round of second opinions is being set up."""
    return bool(st.session_state.get(f"{Key.OPINION_NEW}-{project}"))


def set_new_round(project: int, value: bool) -> None:
    """Begin or give up setting up a round of second opinions."""
    st.session_state[f"{Key.OPINION_NEW}-{project}"] = value


def set_label_file_done(words: str) -> None:
    """Keep what reading a label file in has done, until the page says it."""
    st.session_state[Key.LABEL_FILE_DONE] = words


def take_label_file_done() -> str | None:
    """What the last label file did, once."""
    return st.session_state.pop(Key.LABEL_FILE_DONE, None)


def inspect_job_key(project: int) -> str:
    """The key of the selector of inspections: a project's own."""
    return f"{Key.INSPECT_JOB}-{project}"


def show_inspection(project: int, job: int) -> None:
    """Choose an inspection (before its selector is drawn): the one just started, whichever was looked at before."""
    st.session_state[inspect_job_key(project)] = job


def inspect_table_key(job: int) -> str:
    """The key of an inspection's table: a job's own, so that its chosen row is too."""
    return f"{Key.INSPECT_TABLE}-{job}"


def review_image(model: int) -> int | None:
    """The image under review with this model; None before one was chosen."""
    return st.session_state.get(f"{Key.REVIEW_IMAGE}-{model}")


def set_review_image(model: int, image: int | None) -> None:
    """Go to an image in the review of this model."""
    st.session_state[f"{Key.REVIEW_IMAGE}-{model}"] = image


@dataclass(frozen=True)
class ReviewEntry:
    """One image of a review's worklist, with its score at that time."""

    image_id: int
    score: float
    role: str  # train | calibration | test | out_of_fold | unseen


def worklist(question: tuple[object, ...]) -> list[ReviewEntry] | None:
    """The worklist kept for this question (model, filter, order ...), or None when another one was asked last.

    A list that another page sent here (:func:`open_review`) answers every question that begins as its own does.
    """
    asked, entries = st.session_state.get(Key.REVIEW_LIST, (None, []))
    return entries if asked is not None and question[: len(asked)] == asked else None


def keep_worklist(question: tuple[object, ...], entries: list[ReviewEntry]) -> list[ReviewEntry]:
    """Keep a worklist while the inspector goes through it."""
    st.session_state[Key.REVIEW_LIST] = (question, entries)
    return entries


def worklist_was_sent() -> bool:
    """Whether the worklist came from another page (:func:`open_review`) and not from a filter."""
    asked, _ = st.session_state.get(Key.REVIEW_LIST, (None, []))
    return asked is not None and len(asked) == SENT


def forget_worklist() -> None:
    """Read the worklist again at the next run."""
    st.session_state.pop(Key.REVIEW_LIST, None)


def open_review(project: int, active: int | None, model: int, entries: list[ReviewEntry], image: int) -> None:
    """Let Review open on one of these images, with this model; the list stays until a filter or an order is chosen."""
    st.session_state[model_key(project, active)] = model
    for key in (Key.REVIEW_FILTER, Key.REVIEW_ORDER):
        st.session_state.pop(key, None)  # back to their first values, "all" and "score_desc"
    keep_worklist((model, "all", "score_desc"), entries)  # as long as SENT says
    set_review_image(model, image)


def review_strip_key(model: int) -> str:
    """The key of the thumbnail strip: a model's own."""
    return f"{Key.REVIEW_STRIP}-{model}"


def take_review_pick(model: int) -> None:
    """Go to the image chosen last in the strip, once for each choice.

    Called from the strip's callback and again in the page's body: a callback can be cut off when the next key comes.
    """
    picked = (st.session_state.get(review_strip_key(model)) or {}).get("pick")
    taken = f"{Key.REVIEW_PICK}-{model}"
    if (
        isinstance(picked, dict)
        and isinstance(picked.get("id"), int)
        and st.session_state.get(taken) != picked.get("turn")
    ):
        set_review_image(model, picked["id"])
        st.session_state[taken] = picked.get("turn")


def review_viewer_key(model: int) -> str:
    """The key of the map viewer in Review: a model's own."""
    return f"{Key.REVIEW_VIEWER}-{model}"


def review_verdict_key(model: int) -> str:
    """The key of the buttons that say where the map looks: a model's own."""
    return f"{Key.REVIEW_VERDICT}-{model}"
