"""Plotly's script for our own components, from the Python package that draws Streamlit's charts; nothing is fetched.

Streamlit gives its own copy to `st.plotly_chart` alone. That chart cannot report a dragged line, so the Trade-offs page
draws in a component, and takes the script from here.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import plotly
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import BaseRoute, Route

HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",  # the address changes with the version
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@lru_cache(maxsize=1)
def script() -> Path:
    """The file in the installed package."""
    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def address() -> str:
    """Where the browser gets it, below the app's own address."""
    return f"ssn/plotly-{plotly.__version__}.js"


def send(_request: Request) -> FileResponse:
    """The script. It is public software: no token is asked for."""
    return FileResponse(script(), media_type="text/javascript", headers=HEADERS)


PLOTLY_ROUTES: list[BaseRoute] = [Route(f"/{address()}", send)]
