"""Pages of ``npgpt explain``, and a browser that opens them: the system's chromium, without a window."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_explain_cases import small_model, wait_for

from npgpt.cli import main
from npgpt.study.explain.page import page
from npgpt.study.trace.tracing import Trace, trace

TEXT = "the cat sat on the mat and the dog sat on the rug"


def traced(text: str) -> Trace:
    model, tokenizer = small_model(text)
    ids = tokenizer.encode(text)[:17]
    return trace(model, np.array([ids[:-1]]), np.array([ids[1:]]), tokenizer=tokenizer)


@pytest.fixture(scope="session")
def small() -> Trace:
    return traced(TEXT)


@pytest.fixture(scope="session")
def small_file(small: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "small.html"
    path.write_text(page(small, "an untrained model of one block"), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps."""
    folder = tmp_path_factory.mktemp("run") / "run"
    sizes = ["--n-layer", "2", "--n-head", "4", "--n-embd", "64", "--vocab-size", "300", "--context-length", "32"]
    sizes += ["--positions", "learned"]
    assert main(["train", "--out", str(folder), "--steps", "4", "--eval-every", "4", *sizes]) == 0
    return folder


@pytest.fixture(scope="session")
def trained_file(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "trained.html"
    text = "The value of an expression is an object, and a name refers to it."
    assert main(["explain", text, "--run", str(run_folder), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser. CI requires it; elsewhere the test is skipped without one."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        message = "needs chromium: `apt-get install chromium`"
        (pytest.fail if "browser" in os.environ.get("NPGPT_REQUIRE", "").split() else pytest.skip)(message)
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a file. A message on the console, an error or a request fails the test."""
    contexts: list[Any] = []
    trouble: list[str] = []

    def open_(path: Path, address: str = "", width: int = 1400, scheme: str = "light", is_proven: bool = True) -> Any:
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        shown = contexts[-1].new_page()
        shown.on("console", lambda message: trouble.append(f"console: {message.text}"))
        shown.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        shown.on(
            "request", lambda request: trouble.extend([request.url] if not request.is_navigation_request() else [])
        )
        shown.goto(path.as_uri() + address)
        if is_proven:
            wait_for(shown, "page.proof.isDone")
        return shown

    yield open_
    for context in contexts:
        context.close()
    assert trouble == []
