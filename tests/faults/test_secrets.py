"""The key goes to the base URL's origin, and nowhere else, whatever a server does with it; secrets in URLs likewise."""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from tests.conftest import KEY
from tests.support.fake import Answer, Exchange, Fake, png
from tests.support.stage import Stage, key_forms

#: How a server may spell what it was sent.
SPELLED = {
    "raw": KEY,
    "url": quote(KEY, safe=""),
    "json": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "percent": "".join(f"%{ord(c):02X}" for c in KEY),
    "escapes": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "entities": "".join(f"&#x{ord(c):x};" for c in KEY),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "basic": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "header": f"Authorization: Bearer {KEY}",
    "upper": KEY.upper(),
    "spaced": " ".join(KEY),
    "broken": f"{KEY[:14]}\n{KEY[14:]}",
}


def test_only_the_origin_of_the_base_url_gets_the_key(stage: Stage) -> None:
    """Images, uploads and redirects lead to other names and ports; a proxy stands ready."""
    with Fake() as elsewhere, Fake() as proxy:
        away = f"http://localhost:{elsewhere.port}"
        moved = Answer(302, b"", (f"Location: {away}/files/moved.png",))
        elsewhere.on("image", lambda x: x.answer(moved), nth=1)
        ticket = {"upload": {"method": "PUT", "url": f"{away}/put"}, "download_url": f"{away}/files/i.png"}
        stage.fake.on("upload", lambda x: x.answer(x.fake.data(ticket)))
        outputs = [f"{elsewhere.base_url}/files/a.png?signature=s3cret", f"{away}/files/b.png",
                   f"{stage.fake.base_url}/files/c.png"]  # fmt: skip

        def looked_at(exchange: Exchange) -> None:
            document = json.loads(exchange.carried().body)
            document["data"].update(outputs=outputs, urls={"get": f"{away}/look"})
            exchange.answer(Answer(200, json.dumps(document).encode(), ("Set-Cookie: a=b; Path=/",)))

        stage.fake.on("look", looked_at)
        (stage.folder / "photo.png").write_bytes(png("photo", 1_100_000))
        stage.jobs(1, num_images=3)
        netrc = stage.folder / ".netrc"
        netrc.write_text("machine 127.0.0.1 login n password wrong\nmachine localhost login n password w\n")
        netrc.chmod(0o600)
        env = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"), proxy.base_url)
        env |= {"HOME": str(stage.folder), "NETRC": str(netrc), "NO_PROXY": "127.0.0.1,localhost"}
        ended = stage.run("batch jobs.jsonl -o out -i photo.png -v --log-file log.txt", env=env, code=0)
        assert len(stage.pictures()) == 3
        assert proxy.log == []
        assert {request.endpoint for request in elsewhere.log} == {"image", "put"}
        for request in elsewhere.log:
            assert not {"authorization", "cookie"} & set(request.headers)
            assert not any(form in request.raw for form in key_forms())
        for request in stage.fake.log:
            assert request.headers.get("authorization") == (f"Bearer {KEY}" if request.endpoint != "image" else None)
            assert "cookie" not in request.headers
        log = (stage.folder / "log.txt").read_text()
        assert "s3cret" not in log + ended.err + ended.out
        assert "/a.png" in log


def test_a_server_that_says_the_key_back(stage: Stage) -> None:
    """Each job's submission is refused with another spelling of it."""
    stage.jobs(len(SPELLED))

    def refuse(exchange: Exchange) -> None:
        asked = exchange.request.json.get("prompt", "a cat 1") if exchange.request.body else "a cat 1"
        said = [*SPELLED.values()][int(asked.removeprefix("a cat ")) - 1]
        text = json.dumps({"code": 400, "message": f"bad: {said}", "data": {"error": said}}).encode()
        line = said.replace("\n", " ")
        headers = (f"X-Echo: {line}", f"Set-Cookie: key={line}", f"Location: https://x.example/?k={line}")
        exchange.answer(Answer(400 if exchange.request.endpoint == "submit" else 500, text, headers))

    stage.fake.on("submit", refuse)
    stage.fake.on("balance", refuse)
    for command in ("batch jobs.jsonl -o out -v --log-file log.txt", "batch jobs.jsonl -o out2 --json", "doctor"):
        assert stage.run(command).code in (5, 6)  # ``run`` looks for the key
    assert stage.fake.count("submit") == 2 * len(SPELLED)


@pytest.mark.parametrize("status", ["failed", "completed"])
def test_a_task_that_says_the_key_back(stage: Stage, status: str) -> None:
    """In its error, its model, the URLs of its images; then on the gallery's page."""
    names = [stage.task() for _ in SPELLED]
    for name, said in zip(names, SPELLED.values(), strict=True):
        task = stage.fake.tasks[name]
        task.fate, task.error, task.model = status, f"worker saw {said}", said
        task.outputs = [f"http://localhost:9/{said}.png?k={said}"]
    ids = " ".join(names)
    for command in ("status", f"status {ids} --json", f"wait {ids} -o out -v --log-file log.txt", "gallery out"):
        stage.run(command)


def test_the_process_list_and_the_files_of_a_run_do_not_show_it(stage: Stage) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc")
    seen: list[bytes] = []

    def look_around(exchange: Exchange) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.append(path.read_bytes())
        seen.extend(path.read_bytes() for path in stage.folder.rglob("*") if path.is_file())
        exchange.answer(Answer(500))

    stage.fake.on("submit", look_around)
    stage.run("batch jobs.jsonl -o out --on-unknown hold", before=["env"])
    assert any(b"jobs.jsonl" in text for text in seen)
    assert not any(form in text for text in seen for form in key_forms())


def test_ledger_and_manifest_are_their_owners_alone(stage: Stage) -> None:
    stage.run("batch jobs.jsonl -o out --log-file log.txt", code=0)
    stage.run("submit 'a cat'", code=0)
    for path in (stage.out / "manifest.json", stage.out / "ledger.sqlite3", stage.folder / "log.txt",
                 *(p for p in stage.state.rglob("*") if p.is_file())):  # fmt: skip
        assert path.stat().st_mode & 0o077 == 0, path


SECRET = "tok_5ecret_0123456789"


def test_a_token_in_a_url_is_sent_and_never_shown(stage: Stage) -> None:
    """In a LoRA's or an image's URL, in a prompt: the request keeps it, what is shown or shared does not."""
    lora = {"path": f"https://civitai.com/api/download/models/1?token={SECRET}", "scale": 1}
    (stage.folder / "old").mkdir()
    (stage.folder / "old" / "p.yaml").write_text("version: 1\njobs: [{id: v, prompt: none}]\n")
    (stage.folder / "p.yaml").write_text(f"""version: 1
name: "https://x.example/?key={SECRET}"
vars: {{place: ["https://v.example/?token={SECRET}"]}}
defaults: {{size: 512*512, loras: [{json.dumps(lora)}], image: "https://bob:p@{SECRET}@example.com/a.png"}}
jobs: [{{id: v, prompt: "${{place}}"}}, {{prompt: "a cat, https://p.example/#api_key={SECRET}"}}, {{prompt: refuse}}]
""")

    def refuse(exchange: Exchange) -> None:
        said = f"no {lora['path']} " + json.dumps({"url": f"https://u:{SECRET}@h/"}).replace("/", "\\/")
        refused = exchange.request.json["prompt"] == "refuse"
        exchange.answer(exchange.fake.refusal(400, said) if refused else exchange.carried())

    stage.fake.on("submit", refuse)
    summary = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(stage.folder / "summary.md")}
    batch = "batch p.yaml -o out -v --log-file log.txt --junit j.xml --format github"
    spoken = [stage.run(command, env=summary) for command in (
        "preset check p.yaml", "preset check p.yaml --json", "preset list . --json", f"{batch} --json", batch,
        "preset show p.yaml", "preset show p.yaml --as yaml", "preset show p.yaml --json",
        "preset diff p.yaml --from old", "preset diff p.yaml --from old --json",
        "batch p.yaml -o out2 --dry-run --json", "status", "gallery out", "embed out -o shared", "merge out -o joined",
        "replay out refuse --to-preset", "replay out refuse --dry-run --json -v",
    )]  # fmt: skip
    assert [ended.code for ended in spoken[3:5]] == [6, 6], spoken[3].err
    assert "token=***:1" in spoken[5].out
    assert "# A secret is masked" in spoken[15].out
    sent = [request.json for request in stage.fake.log if request.endpoint == "submit"]
    assert sent[0]["loras"][0]["path"] == lora["path"]
    assert [SECRET for ended in spoken if SECRET in ended.out + ended.err] == []
    for path in stage.folder.rglob("*"):
        assert SECRET.encode() not in os.fsencode(path)
        # The ledgers keep it; the images are the service's own.
        if path.is_file() and path.name not in ("p.yaml", "ledger.sqlite3") and path.suffix != ".png":
            assert SECRET.encode() not in path.read_bytes(), path
    for path in (stage.folder / "shared").rglob("*.png"):
        with Image.open(path) as image:
            assert SECRET not in str(image.info)


def test_a_key_inside_the_base_url_is_not_printed(stage: Stage) -> None:
    for url in (f"https://{SECRET}@api.example", f"http://user:{SECRET}@127.0.0.1:9", f"ftp://x:{SECRET}@h/"):
        ended = stage.run("status t1 --allow-custom-host", base_url=url)
        assert ended.code in (2, 5)
        assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize("name", [".git/config", ".env", "sub/.secret/list.txt", "../outside.txt"])
def test_names_with_a_dot_are_out_of_a_presets_reach(stage: Stage, name: str) -> None:
    """A stranger's pull request must not send the token of the CI service anywhere."""
    for place in {name, "wildcards/.env.txt"}:
        path = stage.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[http]\n extraheader = AUTHORIZATION: basic {SECRET}\n")
    (stage.folder / "p.yaml").write_text(f"version: 1\njobs: [{{prompts_file: {name}}}]\n")
    (stage.folder / "w.yaml").write_text("version: 1\njobs: [{prompt: 'a __.env__ cat'}]\n")
    if not name.startswith(".."):
        (stage.folder / "link.txt").symlink_to(name)
        stage.run("batch link.txt -o out", code=10)
    for command in ("preset show p.yaml", "preset check p.yaml", "batch p.yaml -o out", "preset show w.yaml"):
        ended = stage.run(command)
        assert SECRET not in ended.out + ended.err
    stage.run("batch p.yaml -o out", code=10)
    assert stage.fake.count("submit") == 0


REFUSALS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "nonsense": b"SSH-2.0-OpenSSH_9\r\n",
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_proxy_that_refuses_is_named_with_its_variable(stage: Stage, refusal: str) -> None:
    with Fake(always=lambda x: x.send(REFUSALS[refusal])) as proxy:
        env = {"HTTPS_PROXY": f"http://user:{SECRET}@127.0.0.1:{proxy.port}"}
        ended = stage.run("status t1 --allow-custom-host", base_url="https://api.example", env=env)
    assert (ended.code, "HTTPS_PROXY" in ended.err, SECRET in ended.err) == (5, True, False)
    assert proxy.raw and all(request.startswith(b"CONNECT api.example:443") for request in proxy.raw)
    assert not any(form in request for request in proxy.raw for form in key_forms())
