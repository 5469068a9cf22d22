"""`gcloud` and `terraform` as far as a release uses them, over the folder in CLOUD, which stands for the cloud.

`python cloud_commands.py gcloud ...` and `... terraform ...`. Revisions, traffic, tags, objects and Terraform's state
behave as documented; any other command is an error, so that a release cannot use what nobody has looked up.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

CLOUD = Path(os.environ.get("CLOUD", "."))
PREFIX = os.environ.get("PREFIX", "")


def main() -> int:
    """Run one command."""
    tool, *arguments = sys.argv[1:]
    with (CLOUD / "commands").open("a") as log:
        log.write(" ".join([tool, *arguments]) + "\n")
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in arguments if word.startswith("-"))
    words = [word for word in arguments if not word.startswith("-")]
    return gcloud(words, flags) if tool == "gcloud" else terraform(words)


def gcloud(words: list[str], flags: dict[str, str]) -> int:
    """Run one of the four commands that a release needs."""
    match words:
        case ["run", "services", "describe", name]:
            service = read("cloud.json")["services"][name]
            shown = {"status": {"traffic": [to | {"url": url(service, to)} for to in service["traffic"]]}}
            print(url(service, serving(service)) if flags["format"] == "value(status.url)" else json.dumps(shown))
        case ["run", "deploy", name]:
            change(name, lambda service: deploy(service, flags["image"], flags["tag"]))
        case ["run", "services", "update-traffic", name]:
            change(name, lambda service: move(service, flags))
        case ["storage", "cp", source, target]:
            return copy(source, target)
        case _:
            raise SystemExit(f"gcloud has no such command here: {words}")
    return 0


def terraform(words: list[str]) -> int:
    """Run init or apply: images become revisions with all the traffic, functions those beside terraform/."""
    if words[0] == "apply":
        images = json.loads(Path(words[1]).read_text()) if len(words) > 1 else read("bucket/images.json")
        cloud = read("cloud.json")
        for image in images.keys() & {name.removeprefix(PREFIX) for name in cloud["services"]}:
            if images[image] != cloud["state"][image]:
                roll(cloud["services"][PREFIX + image], images[image])
        cloud |= {"state": images, "functions": Path("../functions/main.py").read_text()}
        write("cloud.json", cloud)
        if (CLOUD / "fail-after-apply").exists():
            (CLOUD / "fail-after-apply").unlink()
            return 1
    return 0


def deploy(service: dict[str, Any], image: str, tag: str) -> None:
    """Add a revision without traffic. What followed the latest revision is pinned to the one it meant."""
    service["traffic"] = [pinned(service, to) for to in service["traffic"] if to.get("tag") != tag]
    service["traffic"].append({"revisionName": add(service, image), "tag": tag})


def move(service: dict[str, Any], flags: dict[str, str]) -> None:
    """Give a tag a share of the traffic, or a revision all of it."""
    if "to-tags" in flags:
        tag, share = flags["to-tags"].split("=")
        main = serving(service)
        main["percent"] -= int(share)
        next(to for to in service["traffic"] if to.get("tag") == tag)["percent"] = int(share)
    else:
        revision, share = flags["to-revisions"].split("=")
        tagged = [{name: to[name] for name in ("revisionName", "tag")} for to in service["traffic"] if "tag" in to]
        service["traffic"] = [{"revisionName": revision, "percent": int(share)}, *tagged]


def roll(service: dict[str, Any], image: str) -> None:
    service["traffic"] = [{"revisionName": add(service, image), "percent": 100, "latestRevision": True}]


def add(service: dict[str, Any], image: str) -> str:
    name = f"revision-{len(service['revisions']) + 1}"
    service["revisions"][name] = image
    return name


def pinned(service: dict[str, Any], to: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in to.items() if name != "latestRevision"}


def serving(service: dict[str, Any]) -> dict[str, Any]:
    return max(service["traffic"], key=lambda to: to.get("percent", 0))


def url(service: dict[str, Any], to: dict[str, Any]) -> str:
    """Address of the process that runs a revision's image."""
    return read("addresses.json").get(service["revisions"][to["revisionName"]], "http://127.0.0.1:9")


def change(name: str, how: Any) -> None:
    cloud = read("cloud.json")
    how(cloud["services"][name])
    write("cloud.json", cloud)


def copy(source: str, target: str) -> int:
    found, into = (
        CLOUD / "bucket" / Path(end).name if end.startswith("gs://") else Path(end) for end in (source, target)
    )
    if not found.exists():
        return 1
    shutil.copy(found, into)
    return 0


def read(name: str) -> Any:
    return json.loads((CLOUD / name).read_text())


def write(name: str, value: object) -> None:
    (CLOUD / name).write_text(json.dumps(value))


if __name__ == "__main__":
    sys.exit(main())
