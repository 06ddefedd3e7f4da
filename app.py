"""The web app: `streamlit run app.py`.

Streamlit serves the interface (pages/shell.py); beside it, our own routes hand out images and take verdicts, because
a verdict must not wait for a page script to run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:  # Streamlit puts the folder of the page script there, not this one
    sys.path.insert(0, str(ROOT))

from pages.components.label_routes import LABEL_ROUTES  # noqa: E402  # needs the line above
from pages.components.people_routes import PEOPLE_ROUTES  # noqa: E402
from pages.components.plotly_route import PLOTLY_ROUTES  # noqa: E402
from pages.components.routes import ROUTES  # noqa: E402
from pages.components.study_routes import STUDY_ROUTES  # noqa: E402

app = st.App(
    ROOT / "pages" / "shell.py",
    routes=[*ROUTES, *LABEL_ROUTES, *STUDY_ROUTES, *PEOPLE_ROUTES, *PLOTLY_ROUTES],
)
