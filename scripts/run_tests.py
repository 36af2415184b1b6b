"""Runs pytest with a browser for the journeys; arguments go on to pytest. Without any, every test is run.

Uses the Chromium that is installed, or that PLAYGROUND_TEST_CHROMIUM names. If there is none, one is installed only
where that is asked for (INSTALL=1, as in `make test INSTALL=1`) or expected (CI=true). Where there is still none the
browser tests are skipped and this says so; PLAYGROUND_TEST_BROWSER=required, as under CI=true, makes it a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MACOS_APPS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def main(pytest_arguments: list[str]) -> int:
    is_ci = os.environ.get("CI") == "true"
    may_install = is_ci or os.environ.get("INSTALL") == "1"
    browser = installed_browser()
    if not browser and may_install:
        browser = install_from_packages() or install_from_playwright()
    required = os.environ.setdefault("PLAYGROUND_TEST_BROWSER", "required" if is_ci else "optional")
    missing = "none could be installed" if may_install else "`make test INSTALL=1` installs one"
    if browser:
        os.environ["PLAYGROUND_TEST_CHROMIUM"] = browser
        say(f"Browser tests use {browser}")
    elif required == "required":
        say(f"No Chromium was found, and {missing}; here the browser tests must run.")
        return 1
    else:
        say(f"Browser tests are skipped: no Chromium was found, and {missing}.")
    if pytest_arguments:
        return run_pytest(*pytest_arguments)
    # A whole file goes to one process: its tests share a playground, a browser or a model.
    several = ["-n", str(processes_with_models()), "--dist", "loadfile", "--no-loadscope-reorder"]
    codes = [run_pytest("-m", "fast", "-n", "logical"), run_pytest("-m", "not fast", *several)]
    return next((code for code in codes if code), 0)


def processes_with_models() -> int:
    """One for each core that can be theirs alone (tests/conftest.py), four at most: each needs 2 GB of memory."""
    return min(len(os.sched_getaffinity(0)), 4) if hasattr(os, "sched_getaffinity") else 0


def run_pytest(*arguments: str) -> int:
    return subprocess.call([sys.executable, "-m", "pytest", *arguments])


def installed_browser() -> str | None:
    """The first browser that starts; Ubuntu has a `chromium-browser` that only asks for a snap."""
    named = os.environ.get("PLAYGROUND_TEST_CHROMIUM")
    candidates = [named] if named else [*(shutil.which(name) for name in NAMES), *MACOS_APPS]
    return next((path for path in candidates if path and starts(path)), None)


def starts(path: str) -> bool:
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def install_from_packages() -> str | None:
    """Debian's and Ubuntu's packages, as root or where sudo asks for no password."""
    apt_get = shutil.which("apt-get")
    if apt_get is None:
        return None
    prefix: list[str] = []
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode != 0:
            return None
        prefix = [sudo, "-n"]
    say("Installing the system packages chromium and fonts-dejavu-core with apt-get ...")
    environment = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    subprocess.call([*environment, apt_get, "update", "-qq"], stdout=subprocess.DEVNULL)
    subprocess.call(
        [*environment, apt_get, "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
        stdout=subprocess.DEVNULL,
    )
    return installed_browser()


def install_from_playwright() -> str | None:
    """Playwright's own build, in the user's cache: the last try, since it comes from outside the package registries."""
    say("Installing Playwright's own Chromium ...")
    try:
        installed = subprocess.run(
            [sys.executable, "-m", "playwright", "install", "chromium"], capture_output=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    if installed.returncode != 0:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() and starts(path) else None


def say(sentence: str) -> None:
    print(f"==> {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
