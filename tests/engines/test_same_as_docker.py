"""An image that Docker has made runs here as it does there: files, variables, workdir, user, exit codes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.features import missing
from support.registry import registry

from lisrt import ExecResult, Sandbox
from lisrt.store.catalog import Catalog
from lisrt.store.imports import import_image
from lisrt.store.pull import pull

from .conftest import Docker

pytestmark = pytest.mark.root

RECIPE = """
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /srv/app /tmp /home/app /etc /opt/a/b && chmod 1777 /tmp && \
    echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd && echo 'app:x:1234:4321:app:/home/app:/bin/sh' >> /etc/passwd
RUN echo one > /srv/app/f && ln /srv/app/f /srv/app/h && ln -s f /srv/app/l && ln -s /nowhere /srv/app/d && \
    mkdir /srv/gone && touch /srv/gone/x && chmod 755 /srv/app && touch /opt/a/b/old && mkfifo /srv/app/p
RUN rm -r /srv/gone && rm -r /opt/a && mkdir /opt/a && touch /opt/a/new && rm -r /home/app && mkdir /home/app && \
    echo two >> /srv/app/f && chmod 604 /srv/app/f && truncate -s 100M /srv/app/sparse
ENV A="b c" PATH=/srv/app:/bin
WORKDIR /srv/app
USER app
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo default; exit 9"]
"""

#: What Docker puts there itself, and lisrt too.
THEIRS = "-path /proc -o -path /sys -o -path /dev -o -path /etc/hosts -o -path /etc/resolv.conf -o -path /etc/hostname"
THEIRS += " -o -path /etc/mtab -o -path /.dockerenv"
LISTING = f"find / \\( {THEIRS} \\) -prune -o -exec stat -c '%n %F %a %s %h' {{}} + | grep -v ' directory ' | sort"
DIRECTORIES = f"find / \\( {THEIRS} \\) -prune -o -type d -exec stat -c '%n %a' {{}} + | sort"


@pytest.fixture(scope="module")
def built(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, in Docker's engine."""
    busybox = shutil.which("busybox", path="/bin")
    if busybox is None or b"/ld-linux" in Path(busybox).read_bytes()[:4096]:
        missing("busybox, statically linked (Debian's busybox-static)")
    context = tmp_path_factory.mktemp("context")
    shutil.copy(str(busybox), context / "busybox")
    (context / "Dockerfile").write_text(RECIPE)
    docker("build", "--network", "none", "-t", "same:1", str(context))
    yield "same:1"


@pytest.fixture(params=["saved", "pulled"])
def image(
    request: pytest.FixtureRequest, docker: Docker, built: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The same in a store: by `docker save`, and by `docker push` to a registry."""
    monkeypatch.setenv("LISRT_HOME", str(tmp_path / "home"))
    if request.param == "saved":
        docker("save", "-o", str(tmp_path / "saved.tar"), built)
        import_image(tmp_path / "saved.tar", Catalog(), "same")
        yield "same"
        return
    with registry(tmp_path / "registry") as host:
        docker("tag", built, f"{host}/same:1")
        docker("push", f"{host}/same:1")
        pull(f"{host}/same:1", Catalog(), "same")
    yield "same"


def here(image: str, script: str) -> ExecResult:
    with Sandbox(image) as box:
        return box.run([*box._box.root.entrypoint, script])


def there(docker: Docker, script: str) -> tuple[str, int]:
    done = docker.run("run", "--rm", "--network", "none", "--hostname", "sandbox", "same:1", script)
    return done.stdout, done.returncode


@pytest.mark.parametrize(
    "script",
    [
        "pwd", "id -u; id -g", "exit 3", "true", "nosuch", "sh -c 'kill -9 $$'; echo $?", "cat f l h", "echo $A $PATH $HOME",
        "hostname", LISTING, DIRECTORIES,
    ],  # fmt: skip
    ids=["workdir", "user", "status", "true", "not-found", "signal", "links", "variables", "hostname", "files", "directories"],
)
def test_the_same_answer(docker: Docker, image: str, script: str) -> None:
    """Output and exit status."""
    result = here(image, script)
    output, status = there(docker, script)
    if script == DIRECTORIES:  # lisrt makes what it needs: see docs/security.md
        ours = [line for line in result.stdout.splitlines() if line not in output.splitlines()]
        assert ours == [] or {line.split()[0] for line in ours} <= {"/", "/testbed", "/dev", "/proc"}, ours
        theirs = [line for line in output.splitlines() if line not in result.stdout.splitlines()]
        assert {line.split()[0] for line in theirs} <= {"/"}, theirs
        return
    assert (result.stdout.splitlines(), result.returncode) == (output.splitlines(), status)


def test_what_is_run_by_default(docker: Docker, image: str) -> None:
    """ENTRYPOINT and CMD are kept."""
    with Sandbox(image) as box:
        root = box._box.root
        result = box.run([*root.entrypoint, *root.cmd])
    done = docker.run("run", "--rm", "--network", "none", "same:1")
    assert (result.stdout, result.returncode) == (done.stdout, done.returncode) == ("default\n", 9)
