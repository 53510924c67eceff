"""Take a picture of a report with a headless Chromium, such as the one in the README.

    python scripts/picture_of_report.py runs/first/report.html -o docs/report.png

The page needs no network, so none is given to the browser. Without a graphics card Chromium
draws the 3-D view in software, which takes some seconds.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    # The page's own clock: it is given this long to draw, which is not the time we wait.
    "--virtual-time-budget=20000",
)


def take_picture(report: Path, picture: Path, *, section: str, width: int, height: int) -> None:
    """Show one section of a report alone, or all of it, and save what the window shows."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser was found; install one of {', '.join(BROWSERS)}")
    hide = f"<style>header, section:not(#{section}) {{ display: none }}</style>" if section else ""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(report.read_text(encoding="utf-8") + hide, encoding="utf-8")
        subprocess.run(
            [
                browser,
                *FLAGS,
                f"--user-data-dir={folder}/profile",
                f"--window-size={width},{height}",
                f"--screenshot={picture.resolve()}",
                page.as_uri(),
            ],
            check=True,
            timeout=300,
            stderr=subprocess.DEVNULL,
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="HTML file that nmdasim wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.png"))
    parser.add_argument(
        "--section", default="run1-pore", help="which section to show; '' for the top of the page"
    )
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=960)
    given = parser.parse_args()
    if not given.report.is_file():
        sys.exit(f"{given.report} does not exist; write it with `nmdasim report` first")
    take_picture(
        given.report, given.output, section=given.section, width=given.width, height=given.height
    )
    print(given.output)


if __name__ == "__main__":
    main()
