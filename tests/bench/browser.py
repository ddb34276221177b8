"""A headless Chromium that opens a file as a reader would, with what its console said."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--window-size=1280,900",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # a page that asks a network for anything shows it as an error
)


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Skips where no Chromium or ChromeDriver is installed; Debian has both (`chromium`, `chromium-driver`)."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with ChromeDriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(30)
        yield driver
    finally:
        driver.quit()


def opened(driver: webdriver.Chrome, page: Path, *, width: int = 1280, dark: bool = False) -> None:
    """Load a page afresh, as wide as this, in the system's light or dark."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get("about:blank")
    driver.get(page.as_uri())


def complaints(driver: webdriver.Chrome) -> list[Any]:
    """What the console was told since last asked."""
    return list(driver.get_log("browser"))
