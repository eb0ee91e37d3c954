"""What others do with the same jobs: the official SDK, and requests tuned.

Run as ``python peers.py PEER JOBS THREADS POLL FOLDER``; the base URL and the CA file come from the environment as for
the real command. Prints how many jobs brought an image.
"""

from __future__ import annotations

import os
import ssl
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BASE = os.environ.get("WAVESPEED_BASE_URL", "")
MODEL = "wavespeed-ai/flux-dev-lora"
Job = Callable[[int, Path], object]


def request(number: int) -> dict[str, Any]:
    """What is asked for; the same for all."""
    return {"prompt": f"a red rocket, number {number}", "seed": number, "num_inference_steps": 28, "loras": []}


def sdk(poll: float) -> Job:
    """The SDK as its page shows it, and ``requests.get`` for the image, which the SDK leaves to the user."""
    import requests
    from wavespeed.api.client import Client

    client = Client(api_key="k", base_url=BASE)

    def job(number: int, file: Path) -> None:
        result = client.run(MODEL, request(number), poll_interval=poll)
        file.write_bytes(requests.get(result["outputs"][0], timeout=30).content)

    return job


def tuned(poll: float) -> Job:
    """``requests`` at its best: no look-ups in the environment, one TLS context for all, bodies streamed."""
    import requests
    from requests.adapters import HTTPAdapter

    ca = os.environ.get("REQUESTS_CA_BUNDLE")
    context = ssl.create_default_context(cafile=ca) if BASE.startswith("https") else None

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, ssl_context=context, **kwargs)

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            conn.cert_reqs = "CERT_REQUIRED"

    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Adapter(pool_maxsize=64))
    session.mount("http://", HTTPAdapter(pool_maxsize=64))

    def job(number: int, file: Path) -> None:
        answer = session.post(f"{BASE}/api/v2/{MODEL}", json=request(number), timeout=30).json()["data"]
        url = f"{BASE}/api/v2/predictions/{answer['id']}/result"
        while (answer := session.get(url, timeout=30).json()["data"])["status"] != "completed":
            time.sleep(poll)
        with session.get(answer["outputs"][0], stream=True, timeout=30) as image, file.open("wb") as out:
            for piece in image.iter_content(65536):
                out.write(piece)

    return job


def main(peer: str, jobs: str, threads: str, poll: str, folder: str) -> None:
    job = {"sdk": sdk, "requests": tuned}[peer](float(poll))

    def done(number: int) -> bool:
        try:
            job(number, Path(folder, f"{number}.png"))
        except Exception:  # a peer's failures are what is counted here
            return False
        return True

    with ThreadPoolExecutor(int(threads)) as pool:
        print(sum(pool.map(done, range(int(jobs)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
