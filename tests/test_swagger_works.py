"""The Swagger page, in a real browser: a person tries the API there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Locator, Page, expect

from tests.stack import Stack
from tests.test_the_admin_shows_it import watched


@contextmanager
def docs(browser: Browser, velo: Stack, *expected: int) -> Iterator[Page]:
    with watched(browser, velo.base, expected) as page:
        page.goto("/docs")
        expect(page.locator(".info .title")).to_contain_text("Velo")
        yield page


def transform(page: Page) -> Locator:
    """Its panel, opened."""
    panel = page.locator("#operations-transform-transform")
    panel.locator(".opblock-summary-control").click()
    expect(panel).to_contain_text("Send a bare JSON string")
    return panel


def test_the_docs_list_every_endpoint(browser: Browser, velo: Stack) -> None:
    with docs(browser, velo) as page:
        listed = page.locator(".opblock-summary-path")
        expect(listed).to_have_count(28)
        assert [path.get_attribute("data-path") for path in listed.all()] == [
            "/transform",
            "/models",
            "/models/all-MiniLM-L6-v2/transform",
            "/models/{model}/versions/{version}/transform",
            "/v1/embeddings",
            "/embeddings",
            "/v1/models",
            "/v1/models/{name}",
            "/",
            "/",
            "/embed",
            "/embed_all",
            "/similarity",
            "/tokenize",
            "/info",
            "/health",
            "/v2/models/{model}/infer",
            "/v2/models/{model}/versions/{version}/infer",
            "/v2",
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models/{model}",
            "/v2/models/{model}/versions/{version}",
            "/v2/models/{model}/ready",
            "/v2/models/{model}/versions/{version}/ready",
            "/stat",
            "/health/live",
            "/health/ready",
        ]


def test_the_example_is_embedded_with_one_click(browser: Browser, velo: Stack) -> None:
    with docs(browser, velo) as page:
        panel = transform(page)
        expect(panel.locator("textarea")).to_have_value('"Тест!"')
        panel.get_by_role("button", name="Execute").click()
        answer = panel.locator(".live-responses-table")
        expect(answer.locator("tbody .response-col_status").first).to_contain_text("200")
        numbers = json.loads(answer.locator("tbody pre").first.text_content() or "")
        assert len(numbers) == 384
        assert all(isinstance(number, float) for number in numbers)
        assert numbers == velo.transform("Тест!").json
        expect(answer).to_contain_text("x-velo-model-version")


def test_a_bad_body_shows_the_problem(browser: Browser, velo: Stack) -> None:
    with docs(browser, velo, 400) as page:
        panel = transform(page)
        panel.locator("textarea").fill('{"text": "Hello"}')
        panel.get_by_role("button", name="Execute").click()
        answer = panel.locator(".live-responses-table")
        expect(answer.locator("tbody .response-col_status").first).to_contain_text("400")
        problem = json.loads(answer.locator("tbody pre").first.text_content() or "")
        assert problem["code"] == "not_a_string"
        assert "got an object" in problem["detail"]
