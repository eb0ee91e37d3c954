"""Uploads, both ways, and images as inputs."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from tests.sandbox.conftest import Caller, Make


def _png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(out, "PNG")
    return out.getvalue()


def _upload(call: Caller, data: bytes) -> str:
    ticket = call(
        "POST", "/api/v3/media/uploads", {"filename": "dir/a b.png", "size": len(data), "content_type": "image/png"}
    ).data
    order = ticket["upload"]
    assert order["method"] == "PUT"
    assert call("PUT", order["url"], data, key=None, headers=order["headers"]).status == 200
    url: str = ticket["download_url"]
    return url


def test_a_file_goes_up_by_ticket_and_comes_back(call: Caller) -> None:
    got = call("GET", _upload(call, _png()), key=None)
    assert got.body == _png() and got.headers["Content-Type"] == "image/png"


def test_a_file_goes_up_as_multipart(call: Caller) -> None:
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n'
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + _png() + b"\r\n--xyz--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=xyz"}
    url = call("POST", "/api/v3/media/upload/binary", body, headers=kind).data["download_url"]
    assert call("GET", url, key=None).body == _png()
    assert call("POST", "/api/v3/media/upload/binary", b"x", headers=kind).status == 400
    assert call("POST", "/api/v3/media/upload/binary", b"x").status == 400


def test_nothing_goes_up_without_a_ticket(call: Caller) -> None:
    assert call("PUT", "/uploads/" + "0" * 32 + "/x", b"x", key=None).status == 404
    assert call("POST", "/api/v3/media/uploads", {"filename": "x", "size": 1}, key=None).status == 401
    assert call("POST", "/api/v3/media/uploads", {"filename": "x", "size": 300_000_000}).status == 400


@pytest.mark.parametrize("form", ["data", "bare", "upload"])
def test_an_input_image_shines_through(make: Make, form: str) -> None:
    call = make(pictures="scene")
    data = _png()
    text = base64.b64encode(data).decode()
    image = {"data": f"data:image/png;base64,{text}", "bare": text, "upload": _upload(call, data)}[form]
    made = Image.open(io.BytesIO(call.image(image=image, strength=0.0))).convert("RGB")
    red, green, blue = made.getpixel((256, 200))  # type: ignore[misc]
    assert red > 200 and green < 40 and blue < 40


@pytest.mark.parametrize(
    "image",
    [
        "data:image/png;base64," + base64.b64encode(b"<html>").decode(),
        "data:image/png;base64,%%%",
        "data:nothing",
        "not base64 at all!",
        "http://127.0.0.1:1/uploads/" + "0" * 32 + "/x.png",
    ],
)
def test_an_input_that_is_no_image_fails_the_task(call: Caller, image: str) -> None:
    data = call.look(call.submit(image=image)["id"])
    assert data["status"] == "failed" and data["code"] == 1402
    assert "image" in data["error"] and data["outputs"] == []


def test_images_on_other_hosts_are_never_fetched(make: Make) -> None:
    call = make(pictures="scene")
    one = call.image(image="https://example.com/one.jpg", seed=1)
    assert one != call.image(image="https://example.com/two.jpg", seed=1)
    assert one == call.image(image="https://example.com/one.jpg", seed=1)
