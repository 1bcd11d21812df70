"""`/docs` needs nothing from elsewhere."""

import re

import httpx


def test_the_page_and_all_it_loads_come_from_the_server(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    assert not [each for each in loaded if "//" in each]
    for each in loaded:
        answer = client.get(f"/{each}")
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
    assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "<script>" not in page.text
