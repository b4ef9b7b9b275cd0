"""Reports of one analysis: words for people (markdown), tables for programs (JSON), and a page to dig in (HTML).

Each function is pure: the same tables give the same bytes.
"""

from __future__ import annotations

from occorr.report.document import json_text, markdown
from occorr.report.page import timeline_html
from occorr.report.tables import Tables

__all__ = ["Tables", "json_text", "markdown", "timeline_html"]
