"""A folder in reports/ is a report: nothing else has to be told, and a mistake in it is named at its line."""

from __future__ import annotations

import pytest
from report_tables import made

from occorr.errors import DefinitionError, OccorrError
from occorr.report import document, library


def test_every_maker_of_every_report_can_be_had():
    for name, report in library.reports().items():
        assert report.about, name
        for form in report.makers:
            assert callable(library.pick(name, form))


def test_a_template_alone_makes_a_report():
    tables = made()
    assert library.pick("analyze", "md")(tables) == document.markdown(tables)


def test_all_mistakes_of_a_folder_are_told_with_their_line(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "page.md.j2").write_text("x")
    (folder / "report.toml").write_text('about = "x"\nmd = "pge.md.j2"\nhtml = "nowhere"\nhtlm = "page:html"\n')
    with pytest.raises(DefinitionError) as told:
        library.reports(tmp_path)
    assert [(p.line, p.message.partition(";")[2].strip()) for p in told.value.problems] == [
        (2, "did you mean 'page.md.j2'?"),
        (3, ""),
        (4, "did you mean 'html'?"),
    ]


def test_an_unknown_report_or_form_names_what_there_is():
    with pytest.raises(OccorrError, match="did you mean 'timeline'"):
        library.pick("timelien", "html")
    with pytest.raises(OccorrError, match=r"timeline comes as \.html, \.md, \.json; not as \.pdf"):
        library.pick("timeline", "pdf")
