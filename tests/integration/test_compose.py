"""The containers without a container engine: the file against the Compose specification, each image's packages as its
Dockerfile installs them, and every command of ours run as a plain process on real servers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import Kafka, Valkey, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (REPOSITORY / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def stage(target: str) -> str:
    """Return the Dockerfile's lines of one target."""
    found = re.search(rf"^FROM \S+ AS {target}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found, f"docker/Dockerfile has no target {target}"
    return found[1]


def install_command(target: str, python: Path) -> list[str]:
    """Return the Dockerfile's own install command, aimed at another interpreter and at the cache."""
    found = re.search(r"^RUN (uv pip install .*)$", stage(target), re.MULTILINE)
    assert found
    words = [word for word in shlex.split(found[1]) if word not in ("--system", "--no-cache")]
    return [str(Path(sys.executable).with_name("uv")), *words[1:], "--python", str(python)]


def test_the_compose_file_follows_the_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    answer = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", REPOSITORY / "docker-compose.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_reference_of_the_compose_file_exists() -> None:
    for name, service in SERVICES.items():
        for other, condition in (service.get("depends_on") or {}).items():
            assert other in SERVICES, f"{name} depends on {other}"
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for the health of {other}"
        for volume in service.get("volumes") or []:
            assert volume.partition(":")[0] in COMPOSE["volumes"]
    for service in OURS.values():
        assert 'ENTRYPOINT ["kairos"]' in stage(service["build"]["target"])


def test_the_wheel_of_the_images_holds_every_room_of_the_project() -> None:
    packed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    let_in = (REPOSITORY / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY (\w+) \1$", stage("wheel"), re.MULTILINE)
    assert sorted(copied) == sorted(packed["packages"])
    assert all(f"!{room}" in let_in for room in copied)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the project's wheel as the Dockerfile does."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return next(directory.glob("kairos-*.whl"))


def test_the_flows_of_the_compose_file_own_every_partition_once() -> None:
    made = int(SERVICES["log"]["command"][-1])
    owned: list[int] = []
    for name, service in SERVICES.items():
        if name.startswith("flow-"):
            first, _, last = service["command"][-1].partition("-")
            owned += range(int(first), int(last) + 1)
    assert sorted(owned) == list(range(made))


@pytest.mark.parametrize(
    ("target", "absent", "program"),
    [
        ("serving", ("bytewax", "sklearn", "polars"), "import serving.app, cli.api"),
        ("dataflow", ("fastapi", "faiss", "numba", "onnxruntime"), "import dataflows.features, dataflows.materialiser"),
        ("train", ("fastapi", "bytewax"), "import cli.train"),
    ],
)
def test_an_image_holds_what_it_needs_and_no_more(
    target: str, absent: tuple[str, ...], program: str, wheel: Path, tmp_path: Path
) -> None:
    python = tmp_path / "v" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    command = install_command(target, python)
    if subprocess.run([*command, "--offline"], cwd=REPOSITORY, capture_output=True, check=False).returncode:
        subprocess.run(command, cwd=REPOSITORY, check=True)  # the cache of `make setup` is gone
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "pip", "install", "-q", "--python", python, "--no-deps", wheel], check=True)
    check = f"{program}\nimport importlib.util as u\nprint([m for m in {absent!r} if u.find_spec(m)])"
    answer = subprocess.run(
        [python, "-P", "-c", check],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr


def test_a_package_that_the_lock_does_not_know_ends_the_build(tmp_path: Path) -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    (tmp_path / "requirements.lock").write_text(re.sub(r"^bytewax==.*?(?=^\S)", "", lock, flags=re.M | re.S))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    command = [*install_command("dataflow", tmp_path / "v" / "bin" / "python"), "--dry-run", "--offline"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert "no trusted hash was provided for: `bytewax`" in " ".join(answer.stderr.split())


def test_every_command_of_the_compose_file_runs_as_a_plain_process(
    own_valkey: Valkey, kafka: Kafka, tmp_path: Path
) -> None:
    port = free_port()
    addresses = {"redis://store:6379": own_valkey.tcp_url, "kafka://kafka:9092/events": kafka.topic_url()}

    def command(name: str) -> list[str]:
        words = [str(port) if word == "8000" else word for word in OURS[name]["command"]]
        return [str(Path(sys.executable).with_name("kairos")), *words]  # every target's entry point

    def environment(name: str) -> dict[str, str]:
        given = OURS[name].get("environment") or {}
        told = {key: addresses.get(value, value) for key, value in given.items()}
        told |= {"KAIROS_SECRET_KEY": "s" * 32} if "KAIROS_SECRET_KEY" in told else {}
        return {**os.environ, "KAIROS_DATA_DIR": str(tmp_path), **told}

    for name in ("log", "train"):
        answer = subprocess.run(command(name), env=environment(name), capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in sorted(set(OURS) - {"log", "train"}):
            with (tmp_path / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    command(name), env=environment(name), cwd=tmp_path, stdout=log, stderr=log
                )
        assert ready(f"http://127.0.0.1:{port}/readyz", running), logs(tmp_path)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        codes = {name: process.wait(30) for name, process in running.items()}
    assert codes == dict.fromkeys(running, 0), logs(tmp_path)


def ready(url: str, running: dict[str, subprocess.Popen[bytes]]) -> bool:
    """Wait until the API is ready while everything runs."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and all(process.poll() is None for process in running.values()):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


def logs(directory: Path) -> str:
    return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in directory.glob("*.log"))
