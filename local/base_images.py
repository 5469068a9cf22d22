"""Pin base images and builders by their digests: ask their registries, and write `name:tag` as `name:tag@sha256:...`.

The digest is that of the image's index, which names one image a platform. `--check` also looks for the checksums of
Terraform's providers, which Terraform itself writes.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

import requests

ROOT = Path(__file__).parents[1]
_FILES = ("cloudbuild.yaml", "terraform/images.yaml", "terraform/triggers.tf", "services/*/Dockerfile", "*/Dockerfile")
_NAMED = re.compile(
    r"^(?P<before>FROM |\s+name: |\s+name\s+= \")(?P<image>[\w./-]+(?::[\w.-]+)?)"
    r"(?P<digest>@sha256:[0-9a-f]{64})?(?=[\s\"]|$)",
    re.MULTILINE,
)
"""Where a Dockerfile, a Cloud Build file or a trigger's step names an image."""
_VERSIONS, _LOCK = "terraform/versions.tf", "terraform/.terraform.lock.hcl"
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (*_INDEXES, "application/vnd.oci.image.manifest.v1+json")
_DOCKER_HUB = "registry-1.docker.io"
_TIMEOUT_S = 30


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.base_images", description=__doc__)
    parser.add_argument("--check", action="store_true", help="ask nobody; name what is not pinned, and fail")
    if parser.parse_args().check:
        return check(ROOT)
    try:
        texts = {file: pinned(file.read_text(), digest) for file in files(ROOT)}
    except requests.RequestException as problem:
        print(f"No digest was written: a registry did not answer as it should. Are you online? ({problem})")
        return 1
    for file, text in texts.items():
        file.write_text(text)
    return 0


def check(root: Path) -> int:
    """Say what is not pinned, and by which command it will be; return 1 if something is not."""
    loose = sorted({image for file in files(root) for image in unpinned(file.read_text())})
    if loose:
        print("Not pinned by a digest:", *loose, "\nRun `make pin` and commit what it writes.")
    unknown = unlocked((root / _VERSIONS).read_text(), _text(root / _LOCK))
    if unknown:
        print(f"Without checksums in {_LOCK}:", *unknown)
        print("Run `terraform -chdir=terraform providers lock -platform=linux_amd64` and commit that file.")
    return 1 if loose or unknown else 0


def unlocked(versions: str, lock: str) -> list[str]:
    """Return the providers that Terraform's versions name and its lock has no checksums for.

    Those that begin with `zh:` are signed by the provider's publisher, and there is one of each platform.
    """
    blocks = re.findall(r'^provider "[^"/]+/([^"]+)" \{(.*?)^\}', lock, re.MULTILINE | re.DOTALL)
    locked = {name for name, block in blocks if re.search(r'"zh:[0-9a-f]{64}"', block)}
    return sorted(set(re.findall(r'source = "([^"]+)"', versions)) - locked)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def files(root: Path) -> list[Path]:
    """Return the files of the repository that name base images or builders."""
    return sorted(file for pattern in _FILES for file in root.glob(pattern))


def unpinned(text: str) -> list[str]:
    """Return the images that a file names without a digest."""
    return [found["image"] for found in _NAMED.finditer(text) if not found["digest"]]


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """Return a file's text with the current digest behind every image, instead of an older one."""
    return _NAMED.sub(lambda found: f"{found['before']}{found['image']}@{digest_of(found['image'])}", text)


def digest(image: str) -> str:
    """Return the digest that a registry has under `name:tag` now.

    It speaks the OCI distribution API, with the anonymous token that a registry asks for. Raises
    requests.RequestException.
    """
    host, name, tag = address(image)
    url = f"{'http' if host.startswith('127.0.0.1') else 'https'}://{host}/v2/{name}/manifests/{tag}"
    headers = {"Accept": ", ".join(_MANIFESTS)}
    answer = requests.head(url, headers=headers, timeout=_TIMEOUT_S)
    if answer.status_code == requests.codes.unauthorized:
        headers["Authorization"] = f"Bearer {_token(answer.headers['WWW-Authenticate'])}"
        answer = requests.head(url, headers=headers, timeout=_TIMEOUT_S)
    answer.raise_for_status()
    return answer.headers["Docker-Content-Digest"]


def address(image: str) -> tuple[str, str, str]:
    """Return registry, name and tag, with Docker's own defaults: `python:3.13` is library/python at Docker Hub."""
    name, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        name, tag = image, "latest"
    host, _, rest = name.partition("/")
    if "." in host:
        return host, rest, tag
    return _DOCKER_HUB, name if "/" in name else f"library/{name}", tag


def _token(challenge: str) -> str:
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    answer = requests.get(asked.pop("realm"), params=asked, timeout=_TIMEOUT_S)
    answer.raise_for_status()
    token: str = answer.json()["token"]
    return token


if __name__ == "__main__":
    sys.exit(main())
