"""Runs pytest with a browser for the journeys, installing Chromium where this system allows it.

Tells the tests which browser by PLAYGROUND_TEST_CHROMIUM. Where there is none, PLAYGROUND_TEST_BROWSER decides:
"required" (as under CI=true) makes it a failure, anything else skips the browser tests and says so.
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
    browser = installed_browser() or install_from_packages() or install_from_playwright()
    required = os.environ.setdefault(
        "PLAYGROUND_TEST_BROWSER", "required" if os.environ.get("CI") == "true" else "optional"
    )
    if browser:
        os.environ["PLAYGROUND_TEST_CHROMIUM"] = browser
        print(f"==> Browser tests use {browser}", flush=True)
    elif required == "required":
        print("==> No Chromium was found and none could be installed; here the browser tests must run.", flush=True)
        return 1
    else:
        print("==> Browser tests are skipped: no Chromium was found and none could be installed.", flush=True)
    return subprocess.call([sys.executable, "-m", "pytest", *pytest_arguments])


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
    print("==> Installing Chromium from the system's packages ...", flush=True)
    environment = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    subprocess.call([*environment, apt_get, "update", "-qq"], stdout=subprocess.DEVNULL)
    subprocess.call(
        [*environment, apt_get, "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
        stdout=subprocess.DEVNULL,
    )
    return installed_browser()


def install_from_playwright() -> str | None:
    """Playwright's own build: the last try, since it comes from outside the package registries."""
    print("==> Trying Playwright's own Chromium ...", flush=True)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
