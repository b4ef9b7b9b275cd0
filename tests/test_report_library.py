"""A folder in reports/ is a report: nothing else has to be told, and a mistake in it is named at its line."""

from __future__ import annotations

import pytest
from report_tables import made
from typer.testing import CliRunner
from weekly_results import MONDAY, close, result

from occorr import results
from occorr.cli import app
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


def test_a_page_that_no_tracker_takes_is_written_only_when_asked_for(tmp_path, monkeypatch):
    results.save(result([close(MONDAY)]), tmp_path / "r", {})
    ask = lambda size, *more: (  # noqa: E731
        monkeypatch.setattr(library, "pick", lambda *_: lambda _: "x" * size),
        CliRunner().invoke(app, ["report", "timeline", str(tmp_path / "r"), "-o", str(tmp_path / "t.html"), *more]),
    )[1]
    refused = ask(25_000_001)
    assert "25 MB, which no tracker takes" in str(refused.exception) and "--force" in str(refused.exception)
    assert not (tmp_path / "t.html").exists()
    assert "more than some trackers take" in ask(25_000_001, "--force").stderr
    assert (tmp_path / "t.html").stat().st_size == 25_000_001
    assert "more than some trackers take" in ask(10_000_001).stderr
    assert "trackers" not in ask(10_000_000).stderr
