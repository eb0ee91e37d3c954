"""What others do with the same jobs: the official SDK.

Run as ``python peers.py JOBS THREADS POLL FOLDER``; the base URL and the CA file come from the environment as for the
real command. Prints how many jobs brought an image.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from wavespeed.api.client import Client


def main(jobs: str, threads: str, poll: str, folder: str) -> None:
    """The SDK as its page shows it, and ``requests.get`` for the image, which the SDK leaves to the user."""
    client = Client(api_key="k", base_url=os.environ["WAVESPEED_BASE_URL"])

    def done(number: int) -> bool:
        wanted = {"prompt": f"a red rocket, number {number}", "seed": number, "num_inference_steps": 28, "loras": []}
        try:
            result = client.run("wavespeed-ai/flux-dev-lora", wanted, poll_interval=float(poll))
            Path(folder, f"{number}.png").write_bytes(requests.get(result["outputs"][0], timeout=30).content)
        except Exception:  # a peer's failures are what is counted here
            return False
        return True

    with ThreadPoolExecutor(int(threads)) as pool:
        print(sum(pool.map(done, range(int(jobs)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
