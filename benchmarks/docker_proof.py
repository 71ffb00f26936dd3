"""Builds and runs the Dockerfile with no Docker, to prove it where none can be had.

    python -m benchmarks.docker_proof base /tmp/proof/base
    python -m benchmarks.docker_proof run /tmp/proof/base --torch cpu

The first makes a stand-in for the base image: a fresh Debian of debootstrap with a Python in
`/usr/local`, as the official image has it. The second carries out the steps of the Dockerfile in
order in copies of that root, each as its user, then starts the container three times with a
loopback interface and nothing else, the last time with a read-only root, waits for the HEALTHCHECK,
draws with every tab, and stops it with the STOPSIGNAL. It prints sizes and seconds.

What differs from Docker: no layers, no cgroups, all capabilities during RUN, the whole `/dev`.
Linux, as root, with Debian's debootstrap, iproute2 and util-linux.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parent.parent
# What Docker sets in every container; the official Python images put /usr/local/bin first as well.
DEFAULT_ENV = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
# What a freshly made root lacks of what the Python of the official image is linked against.
LIBRARIES = (
    "ca-certificates,libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,libreadline8t64,"
    "libsqlite3-0,libssl3t64,libuuid1,netbase,tzdata,zlib1g"
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
START_SECONDS = 180.0

# Run inside, with the Python of the image.
DRAW = """
import time
from gradio_client import Client
client = Client("http://127.0.0.1:7860", verbose=False)
for name, settings in {
    "/digits": {"digits": "42", "seed": 7},
    "/color": {"color": "teal", "seed": 7},
    "/text": {"prompt": "ships on the sea", "seed": 7},
}.items():
    begin = time.monotonic()
    images, info = client.predict(**settings, api_name=name)
    print(name, len(images), "images,", info["total_steps"], "steps,",
          round(time.monotonic() - begin, 1), "s")
"""
ALONE = """
import socket
names = [name for _, name in socket.if_nameindex()]
assert names == ["lo"], names
try:
    socket.create_connection(("192.0.2.1", 443), timeout=3)
except OSError as error:
    print("network: lo alone;", error.strerror)
"""
OWNED = """
import os
for name in ("HF_HOME", "GRADIO_TEMP_DIR"):
    os.makedirs(os.environ[name], exist_ok=True)
    assert os.access(os.environ[name], os.W_OK), name
assert os.getuid() == 1000, os.getuid()
assert not os.access("app.py", os.W_OK) and not os.access("/opt/venv", os.W_OK)
print("user 1000 may write to HF_HOME and GRADIO_TEMP_DIR, not to the app")
"""


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile: its flags, such as `--from=builder`, and the rest."""

    name: str
    flags: tuple[str, ...]
    value: str

    def flag(self, name: str) -> str | None:
        values = [flag.partition("=")[2] for flag in self.flags if flag.startswith(f"--{name}=")]
        return values[-1] if values else None

    def words(self) -> list[str]:
        """Returns the value in exec form, or split as a shell would."""
        return json.loads(self.value) if self.value.startswith("[") else shlex.split(self.value)


@dataclass
class Stage:
    """What one FROM and the steps after it make; filled in by `parse`, then by `Builder`."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def last(self, name: str) -> Step:
        return next(step for step in reversed(self.steps) if step.name == name)

    def environment(self) -> dict[str, str]:
        """Returns all ENV variables, with earlier ones substituted."""
        env = dict(DEFAULT_ENV)
        for step in self.steps:
            if step.name == "ENV":
                env |= assignments(step, env)
        return env

    def healthcheck(self) -> list[str]:
        """Returns the command of the HEALTHCHECK, in exec form."""
        return json.loads(self.last("HEALTHCHECK").value.partition("CMD")[2])


def parse(path: Path) -> list[Stage]:
    """Returns the stages of a Dockerfile, in order."""
    structure = DockerfileParser(str(path)).structure
    stages: list[Stage] = []
    for row in structure:
        if row["instruction"] == "COMMENT":
            continue
        flags = re.match(r"(?:--\S+\s+)*", row["value"])
        assert flags is not None
        step = Step(
            row["instruction"], tuple(flags[0].split()), row["value"][flags.end() :].strip()
        )
        if step.name == "FROM":
            base, *alias = re.split(r"\s+as\s+", step.value, flags=re.IGNORECASE)
            stages.append(Stage(base, alias[0] if alias else f"stage-{len(stages)}"))
        else:
            stages[-1].steps.append(step)
    return stages


def assignments(step: Step, env: dict[str, str]) -> dict[str, str]:
    """Returns the variables that an ENV step sets; `$NAME` is replaced by its earlier value."""
    pairs = [word.partition("=") for word in step.words()]
    return {
        name: re.sub(r"\$\{?(\w+)\}?", lambda found: env.get(found[1], ""), value)
        for name, _, value in pairs
    }


def _as_regex(pattern: str) -> re.Pattern[str]:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    return re.compile("".join(parts.get(token, re.escape(token)) for token in tokens))


def context(root: Path) -> list[Path]:
    """Returns the files that .dockerignore leaves for `docker build`, relative to root."""
    lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [
        (line.startswith("!"), _as_regex(line.lstrip("!").strip()))
        for line in lines
        if line.strip() and not line.startswith("#")
    ]

    def ignored(path: Path) -> bool:
        names = [str(path), *(str(parent) for parent in path.parents if parent.name)]
        matching = [keep for keep, regex in rules if any(regex.fullmatch(name) for name in names)]
        return bool(matching) and not matching[-1]

    # Folders that no rule brings back are not looked into: there are tens of thousands of files.
    return sorted(
        path.relative_to(root)
        for top in root.iterdir()
        if not ignored(top.relative_to(root))
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file() and not ignored(path.relative_to(root))
    )


def copied(step: Step, files: list[Path], workdir: str) -> dict[Path, str]:
    """Returns the destination of each file of a COPY; a single folder is copied by its content.

    Raises:
        FileNotFoundError: a source that is not in the context.
    """
    *sources, target = step.words()
    into = os.path.join(workdir, target)
    places: dict[Path, str] = {}
    for source in sources:
        inside = [path for path in files if path.is_relative_to(source)]
        if not inside:
            raise FileNotFoundError(f"COPY {source}: not in the context")
        for path in inside:
            rest = str(path.relative_to(source)) if str(path) != source else path.name
            renamed = str(path) == source and len(sources) == 1 and not target.endswith(("/", "."))
            places[path] = os.path.normpath(into if renamed else os.path.join(into, rest))
    return places


def say(*words: object) -> None:
    print(*words, flush=True)


def megabytes(*paths: Path) -> int:
    """Returns their size on disk in 10**6 bytes; counts a hard link once."""
    done = subprocess.run(
        ["du", "-sxc", "--block-size=1", *map(str, paths)], capture_output=True, check=True
    )
    return round(int(done.stdout.split()[-2]) / 1e6)


class Builder:
    """Carries out stages in copies of a root filesystem."""

    def __init__(self, base: Path, work: Path, arguments: dict[str, str]):
        self.base = base
        self.work = work
        self.arguments = arguments
        self.roots: dict[str, Path] = {}
        self.files = context(ROOT)

    def build(self, stage: Stage) -> Path:
        """Builds the stage and returns its root."""
        root = self.work / stage.name
        subprocess.run(["cp", "-a", str(self.base), str(root)], check=True)
        self.roots[stage.name] = root
        env, arguments, workdir, user = dict(DEFAULT_ENV), {}, "/", "0"
        for step in stage.steps:
            begin = time.monotonic()
            match step.name:
                case "ARG":
                    name, _, default = step.value.partition("=")
                    arguments[name] = self.arguments.get(name, default)
                case "ENV":
                    env |= assignments(step, env)
                case "WORKDIR":
                    workdir = os.path.join(workdir, step.value)
                    inside(root, workdir).mkdir(parents=True, exist_ok=True)
                case "USER":
                    user = step.value
                case "COPY":
                    self._copy(root, step, workdir)
                case "RUN":
                    self._run(root, step, env | arguments, workdir, user)
                case "LABEL" | "EXPOSE" | "HEALTHCHECK" | "STOPSIGNAL" | "CMD":
                    pass
                case other:
                    raise ValueError(f"{other} is not an instruction this script knows")
            seconds = time.monotonic() - begin
            say(f"[{stage.name}] {step.name} {step.value.splitlines()[0][:70]}  {seconds:.1f} s")
        return root

    def _copy(self, root: Path, step: Step, workdir: str) -> None:
        assert step.flag("chown") is None, "COPY --chown is not supported here"
        if origin := step.flag("from"):
            source, target = step.words()
            place = inside(root, os.path.join(workdir, target))
            place.parent.mkdir(parents=True, exist_ok=True)
            # Hard links: nothing changes these files afterwards, and they take gigabytes.
            subprocess.run(
                ["cp", "-al", str(inside(self.roots[origin], source)), str(place)], check=True
            )
            return
        for path, target in copied(step, self.files, workdir).items():
            place = inside(root, target)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, place)

    def _run(self, root: Path, step: Step, env: dict[str, str], workdir: str, user: str) -> None:
        mounts = [(Path("/dev"), "/dev"), (Path("/etc/resolv.conf"), "/etc/resolv.conf")]
        if CERTIFICATES.exists():
            mounts.append((CERTIFICATES, str(CERTIFICATES)))
        for flag in step.flags:
            fields = dict(re.findall(r"(\w+)=([^,]+)", flag.removeprefix("--mount=")))
            cache = self.work / "cache" / fields["target"].replace("/", "_")
            cache.mkdir(parents=True, exist_ok=True)
            inside(root, fields["target"]).mkdir(parents=True, exist_ok=True)
            mounts.append((cache, fields["target"]))
        # As Docker hands on the settings of a proxy, which are no part of the image either; and
        # which certificates this machine's pip trusts.
        from_here = {
            name: value
            for name, value in os.environ.items()
            if name.lower().endswith("_proxy") or name == "PIP_CERT"
        }
        script = [f"mount --rbind {shlex.quote(str(a))} {inside(root, b)}" for a, b in mounts]
        script.append(f"mount -t proc proc {inside(root, '/proc')}")
        script.append('exec "$@"')
        subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("sh", "-ec", "\n".join(script), "sh"),
                *entered(root, env | from_here, workdir, user),
                *("/bin/sh", "-c", step.value),
            ],
            check=True,
        )


def inside(root: Path, path: str) -> Path:
    """Returns the path on this machine of a path in the image."""
    return root / path.lstrip("/")


def entered(root: Path, env: dict[str, str], workdir: str, user: str) -> list[str]:
    """Returns the start of a command line that runs the rest in the root as a user."""
    return [
        *("chroot", f"--userspec={user}:{user}", "--groups=", str(root)),
        *("/usr/bin/env", "-i", f"--chdir={workdir}"),
        *(f"{name}={value}" for name, value in env.items()),
    ]


@dataclass
class Container:
    """A started image, alone in namespaces of its own."""

    root: Path
    stage: Stage
    process: subprocess.Popen[bytes]

    @property
    def first(self) -> int:
        """The number on this machine of what is process 1 inside."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(task.read_text().split()[0])

    def run(self, command: list[str], *, quiet: bool = False) -> int:
        """Runs a command like `docker exec` and returns its exit status."""
        namespaces = ["nsenter", f"--target={self.first}", "--mount", "--net", "--pid"]
        errors = subprocess.DEVNULL if quiet else None
        inside = [*namespaces, *prefix(self.root, self.stage), *command]
        return subprocess.run(inside, stderr=errors).returncode


def prefix(root: Path, stage: Stage) -> list[str]:
    user, workdir = stage.last("USER").value, stage.last("WORKDIR").value
    return entered(root, stage.environment(), workdir, user)


@contextmanager
def started(root: Path, stage: Stage, *, read_only: bool) -> Iterator[Container]:
    """Runs the CMD with no network but loopback; ends it afterwards."""
    script = [
        "ip link set lo up",
        f"mount --bind {root} {root}",
        f"mount --rbind /dev {inside(root, '/dev')}",
        f"mount -t proc proc {inside(root, '/proc')}",
    ]
    if read_only:
        cache = inside(root, "/home/user/.cache")
        script += [
            f"mount -t tmpfs -o mode=1777 tmpfs {inside(root, '/tmp')}",
            f"mount -t tmpfs -o uid=1000,gid=1000 tmpfs {cache}",
            f"mount -o remount,bind,ro {root}",
        ]
    script.append('exec "$@"')
    process = subprocess.Popen(
        [
            *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
            *("sh", "-ec", "\n".join(script), "sh"),
            *prefix(root, stage),
            *stage.last("CMD").words(),
        ]
    )
    container = Container(root, stage, process)
    try:
        yield container
    finally:
        # The death of `unshare` does not end it: Linux forgets --kill-child when the user changes.
        if process.poll() is None:
            os.kill(container.first, signal.SIGKILL)
        process.wait()


def try_out(root: Path, stage: Stage, *, read_only: bool) -> None:
    """Starts the image, waits for its HEALTHCHECK, draws, and stops it."""
    say(f"\nstart, root {'read-only' if read_only else 'writable'}")
    begin = time.monotonic()
    with started(root, stage, read_only=read_only) as container:
        time.sleep(0.5)
        failed = 0
        while container.run(stage.healthcheck(), quiet=True):
            failed += 1
            if container.process.poll() is not None or time.monotonic() - begin > START_SECONDS:
                raise RuntimeError("the app did not become healthy")
            time.sleep(0.5)
        say(f"healthy after {time.monotonic() - begin:.1f} s; {failed} checks before said no")
        for script in (ALONE, OWNED, DRAW):
            if container.run(["python", "-c", script]):
                raise RuntimeError("the app does not do what it should")
        resident = Path(f"/proc/{container.first}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+)", resident)
        say(f"memory: {int(match[1]) / 1024:.0f} MiB resident" if match else "")
        begin = time.monotonic()
        stop = getattr(signal, stage.last("STOPSIGNAL").value)
        os.kill(container.first, stop)
        container.process.wait(timeout=10)
        say(f"stopped {time.monotonic() - begin:.1f} s after {stop.name}")


main = typer.Typer(add_completion=False, help=__doc__)


@main.command("base")
def make_base(
    folder: Annotated[Path, typer.Argument(help="Where the root goes; must not exist.")],
    python: Annotated[
        Path, typer.Option(help="Prefix of the Python that is put in /usr/local.")
    ] = Path(sys.base_prefix),
    suite: Annotated[str, typer.Option(help="Of Debian.")] = "trixie",
) -> None:
    """Makes a stand-in for the base image."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={LIBRARIES}", suite, str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    # As the official image has it: no tests, nothing compiled, no caches of apt, no manuals.
    left_out = [f"--exclude={name}" for name in ("__pycache__", "test", "tests", "*.a", "idlelib")]
    packages = ["--exclude=site-packages/*"]
    with subprocess.Popen(
        ["tar", "-C", str(python), *left_out, *packages, "-c", "bin", "lib", "include"],
        stdout=subprocess.PIPE,
    ) as pack:
        subprocess.run(
            ["tar", "-C", str(folder / "usr/local"), "--no-same-owner", "-x"],
            stdin=pack.stdout,
            check=True,
        )
    for name in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (folder / "etc/resolv.conf").write_text("")
    subprocess.run(["chroot", str(folder), "ldconfig"], check=True)
    for name in (folder / "usr/local/bin").glob("pip*"):
        name.unlink()  # they begin with the path of the Python that they were installed for
    subprocess.run(
        ["chroot", str(folder), "/usr/local/bin/python3", "-m", "ensurepip"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (folder / "usr/local/bin/pip").symlink_to("pip3")
    python_link = folder / "usr/local/bin/python"
    if not python_link.exists():
        python_link.symlink_to("python3")
    say(f"{folder}: {megabytes(folder)} MB")


@main.command("run")
def prove(
    base: Annotated[Path, typer.Argument(exists=True, help="A root made by `base`.")],
    torch: Annotated[str, typer.Option(help="The build argument TORCH: cpu or cuda.")] = "cpu",
    work: Annotated[Path | None, typer.Option(help="Where to build; kept.")] = None,
    reuse: Annotated[bool, typer.Option(help="Take stages that `work` has already.")] = False,
) -> None:
    """Builds the image, starts it twice, draws, and stops it."""
    stages = parse(ROOT / "Dockerfile")
    with tempfile.TemporaryDirectory(prefix="docker-proof-") as temporary:
        builder = Builder(base, work or Path(temporary), {"TORCH": torch})
        builder.work.mkdir(parents=True, exist_ok=True)
        for stage in stages:
            place = builder.work / stage.name
            if reuse and stage is not stages[-1] and place.exists():
                builder.roots[stage.name] = place
            else:
                shutil.rmtree(place, ignore_errors=True)
                builder.build(stage)
        stage, root = stages[-1], builder.roots[stages[-1].name]
        compiled = list(inside(root, "/opt/venv").rglob("*.pyc"))
        assert not compiled, compiled[:5]
        say(f"\nimage: {megabytes(root)} MB, of which")
        say(f"  base {megabytes(base)} MB, packages {megabytes(inside(root, '/opt/venv'))} MB,")
        say(f"  app {megabytes(inside(root, stage.last('WORKDIR').value))} MB")
        packages = next(inside(root, "/opt/venv/lib").glob("python*/site-packages"))
        sizes = sorted(((megabytes(path), path.name) for path in packages.iterdir()), reverse=True)
        say("  largest: " + ", ".join(f"{name} {size}" for size, name in sizes[:8]))
        try_out(root, stage, read_only=False)
        try_out(root, stage, read_only=False)
        try_out(root, stage, read_only=True)


if __name__ == "__main__":
    main()
