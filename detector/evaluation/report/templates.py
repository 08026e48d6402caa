"""The templates of the HTML pages, which stand beside this file and share one style."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from detector.evaluation.report.charts import percent
from detector.progress.messages import escape_controls


def template(name: str) -> Template:
    """A template that escapes all values."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error, not a blank
        trim_blocks=True,
        lstrip_blocks=True,
        # Control characters and broken letters of file names become visible.
        # A subclass of str is markup that has been escaped already.
        finalize=lambda value: escape_controls(value) if type(value) is str else value,
    )
    environment.filters["percent"] = percent
    return environment.get_template(name)
