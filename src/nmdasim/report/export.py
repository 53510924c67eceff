"""Each figure of a report as an SVG file of its own, drawn by an installed Chromium."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from nmdasim.errors import ReportError
from nmdasim.report.words import escape_json
from nmdasim.rundir import write_atomic

#: Programs that can draw, in the order in which they are looked for.
BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
    "microsoft-edge",
)  # fmt: skip
#: Names the browser where it is not found by itself.
BROWSER_VARIABLE = "NMDASIM_BROWSER"
#: What keeps a headless browser quiet, without network, and able to run as root.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
    # The page's own clock: it is given this long to draw, which is not the time we wait.
    "--virtual-time-budget=60000",
)  # fmt: skip
_TIMEOUT_S = 600
_WIDTH = 960
_DRAW = """
(async () => {
  for (const source of document.querySelectorAll("script[data-for]")) {
    const { data, layout } = JSON.parse(source.textContent);
    const out = document.createElement("pre");
    out.id = source.dataset.for;
    try {
      const width = Number(source.dataset.width), height = Number(source.dataset.height);
      const url = await Plotly.toImage({ data, layout }, { format: "svg", width, height });
      out.textContent = decodeURIComponent(url.slice(url.indexOf(",") + 1));
    } catch (error) {
      out.dataset.failed = String(error.message);
    }
    document.body.append(out);
  }
})();
"""


def find_browser() -> str:
    """Find the program that draws the figures.

    Returns
    -------
    browser : str
        What the variable `NMDASIM_BROWSER` names, or the first installed of `BROWSERS`.

    Raises
    ------
    ReportError
        If there is none.
    """
    asked = os.environ.get(BROWSER_VARIABLE)
    found = next(filter(None, map(shutil.which, [asked] if asked else BROWSERS)), None)
    if found is None:
        raise ReportError(
            f"no browser was found to draw SVG files ({asked or ', '.join(BROWSERS)}): install "
            f"Chromium, or name one in {BROWSER_VARIABLE}; the report itself needs none, and each "
            "of its figures has a button that saves it as SVG"
        )
    return found


def write_svg_files(figures: Mapping[str, tuple[go.Figure, int]], folder: Path) -> list[Path]:
    """Draw figures and write each into a file of its own.

    Parameters
    ----------
    figures : mapping of str to (plotly.graph_objects.Figure, int)
        By the name of the file; with the height in pixels.
    folder : pathlib.Path
        Made when absent.

    Returns
    -------
    paths : list of pathlib.Path
        In the order of `figures`.

    Raises
    ------
    ReportError
        If no browser is installed, it fails, or the folder cannot be made.
    RunStorageError
        If the disk is full or refuses a file.

    Notes
    -----
    Nothing is asked of any network. The 3-D view becomes a picture inside its SVG.
    """
    browser = find_browser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(
            f"{folder} cannot be made ({error.strerror}): give a place that is writable"
        ) from error
    drawn = _Drawn(_draw(browser, _page(figures)))
    missing = [name for name in figures if not drawn.text.get(name)]
    if missing:
        why = "; ".join(filter(None, (drawn.failed.get(name) for name in missing)))
        raise ReportError(
            f"{browser} did not draw {', '.join(missing)} ({why or 'it gave no reason'}): try "
            "another version, or save the figures from the report by their buttons"
        )
    paths = []
    for name in figures:
        path = folder / f"{name}.svg"
        write_atomic(path, drawn.text[name])
        paths.append(path)
    return paths


def _page(figures: Mapping[str, tuple[go.Figure, int]]) -> str:
    sources = "".join(
        f'<script type="application/json" data-for="{name}" data-width="{_WIDTH}" '
        f'data-height="{height}">{escape_json(plotly.io.to_json(figure, validate=False))}</script>'
        for name, (figure, height) in figures.items()
    )
    return (
        '<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>'
        f"{sources}<script>{get_plotlyjs()}</script><script>{_DRAW}</script></body></html>"
    )


def _draw(browser: str, page: str) -> str:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "figures.html"
        path.write_text(page, encoding="utf-8")
        words = [browser, *FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", path.as_uri()]
        try:
            done = subprocess.run(words, capture_output=True, timeout=_TIMEOUT_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise ReportError(f"{browser} could not draw the figures: {error}") from error
    return done.stdout.decode("utf-8", errors="replace")


class _Drawn(HTMLParser):
    """The SVG texts that the page holds after drawing, by name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self._name = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "pre":
            self._name = found.get("id") or ""
            if found.get("data-failed"):
                self.failed[self._name] = found["data-failed"] or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._name = ""

    def handle_data(self, data: str) -> None:
        if self._name:
            self.text[self._name] = self.text.get(self._name, "") + data
