"""Images from files: each form by its looks, what it says kept, and what is wrong with it named."""

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.archives import COMPRESSIONS, Layout, digest, file, folder, hard, saved, tar
from support.features import missing

from lisrt import ImageError
from lisrt.store import manifest
from lisrt.store.catalog import Catalog
from lisrt.store.imports import import_image
from lisrt.store.record import Config
from lisrt.store.unpack import unpack

from .conftest import contents

BASE = tar([folder("etc"), file("etc/os-release", b"ID=tiny\n"), folder("bin"), file("bin/sh", b"#!\n", 0o755)])
ABOVE = tar([file("etc/more", b"1"), file("etc/.wh.os-release")])
ENV = ["PATH=/bin", "A=b=c", "EMPTY="]
CONFIG = {"Env": ENV, "WorkingDir": "/etc", "User": "1000:5", "Entrypoint": ["/bin/sh"], "Cmd": ["-c"]}
WANTED = Config((("PATH", "/bin"), ("A", "b=c"), ("EMPTY", "")), "/etc", "1000:5", ("/bin/sh",), ("-c",))


@pytest.fixture(autouse=True)
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of these tests are for amd64, wherever they run."""
    monkeypatch.setattr(manifest, "here", lambda: "amd64")


def layout(*layers: bytes, **options: Any) -> Layout:
    made = Layout()
    return made.add(made.image(*layers, **options), "tag")


def paths(catalog: Catalog, name: str, tmp_path: Path) -> list[set[str]]:
    """What is in each layer of an image."""
    found = []
    for number, layer in enumerate(catalog.get(name).layers):
        root = tmp_path / f"{name}-{number}"
        root.mkdir()
        assert unpack(catalog.blobs.path(layer.blob), root, "layer").diff_id == layer.diff_id
        found.append({os.fspath(path.relative_to(root)) for path in root.rglob("*")})
    return found


@pytest.mark.parametrize(
    ("given", "kept"),
    [("", ""), (".", "/"), ("/", "/"), ("work/./here", "/work/here"), ("//a//b/", "/a/b"), ("/caf\u00e9", "/caf\u00e9")],
)
def test_a_workdir(catalog: Catalog, tmp_path: Path, given: str, kept: str) -> None:
    """Relative to the root, as Docker has it; "" is none."""
    (tmp_path / "source").write_bytes(layout(BASE, config={"WorkingDir": given}).archive())
    assert import_image(tmp_path / "source", catalog, "x").config.workdir == kept


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("/a/../../b", "has `..` in it"),
        ("..", "has `..` in it"),
        ("/" + "n" * 256, "is too long"),
        ("/n" * 2048, "is too long"),
        ("/\ud800", "is no text"),
    ],
    ids=lambda value: value[:8].encode("unicode_escape").decode(),
)
def test_a_workdir_that_none_can_be(catalog: Catalog, tmp_path: Path, given: str, says: str) -> None:
    """Said when it comes, not when the first sandbox is to start."""
    (tmp_path / "source").write_bytes(layout(BASE, config={"WorkingDir": given}).archive())
    with pytest.raises(ImageError, match=f"^{tmp_path}/source: its WORKDIR, .*{says}"):
        import_image(tmp_path / "source", catalog, "x")
    assert contents(catalog) == {}


TREES = [{"etc", "etc/os-release", "bin", "bin/sh"}, {"etc", "etc/more", "etc/os-release"}]


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("form", ["directory", *COMPRESSIONS])
def test_an_oci_layout(catalog: Catalog, tmp_path: Path, form: str, how: str) -> None:
    """As a directory, or as an archive however that is compressed, with layers however they are."""
    made = layout(BASE, ABOVE, how=how, config=CONFIG)
    source = tmp_path / "source"
    if form == "directory":
        made.write(source)
    else:
        source.write_bytes(COMPRESSIONS[form](made.archive()))
    record = import_image(source, catalog, "x")
    assert record.config == WANTED
    assert record.architecture == "amd64"
    assert [layer.diff_id for layer in record.layers] == [digest(BASE), digest(ABOVE)]
    assert paths(catalog, "x", tmp_path) == TREES
    assert record.provenance.keys() >= {"kind", "source", "digest", "tag", "at"}
    assert (record.provenance["kind"], record.provenance["tag"]) == ("oci", "tag")
    assert record.provenance["digest"] == made.entries[0]["digest"]
    if how != "plain":  # kept as they came
        assert [layer.blob for layer in record.layers] == [digest(COMPRESSIONS[how](layer)) for layer in (BASE, ABOVE)]


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("how", ["plain", "gzip"])
def test_what_docker_saved(catalog: Catalog, tmp_path: Path, form: str, how: str) -> None:
    """Before Docker 25. A layer that occurs twice is a link in there."""
    source = tmp_path / "source"
    source.write_bytes(COMPRESSIONS[form](saved(BASE, ABOVE, ABOVE, how=how, **CONFIG)))
    record = import_image(source, catalog, "x")
    assert record.config == WANTED
    assert paths(catalog, "x", tmp_path) == [*TREES, TREES[1]]
    assert (record.provenance["kind"], record.provenance["tag"]) == ("docker", "some/image:1")


def test_what_docker_saves_now(catalog: Catalog, tmp_path: Path) -> None:
    """Both forms in one archive, with a statement about how it was built, which is no image."""
    made = Layout()
    statement = made.image(tar([file("in-toto", b"{}")]))
    made.add(made.index({**made.image(BASE, config=CONFIG), "platform": {"os": "linux", "architecture": "amd64"}},
                        {**statement, "platform": {"os": "unknown", "architecture": "unknown"}}), "1")
    entries = [file(name, data) for name, data in made.files().items()]
    text = json.dumps([{"Config": "blobs/sha256/none", "RepoTags": ["x:1"], "Layers": []}]).encode()
    (tmp_path / "source").write_bytes(tar([*entries, folder("blobs"), file("manifest.json", text)]))
    assert import_image(tmp_path / "source", catalog, "x").config == WANTED


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_a_tarball(catalog: Catalog, tmp_path: Path, how: str) -> None:
    """One layer; compressed in a way that images have it stays as it is."""
    (tmp_path / "source").write_bytes(COMPRESSIONS[how](BASE))
    record = import_image(tmp_path / "source", catalog, "x")
    assert [layer.diff_id for layer in record.layers] == [digest(BASE)]
    assert (record.config, record.architecture, record.provenance["kind"]) == (Config(), "", "tar")
    assert paths(catalog, "x", tmp_path) == TREES[:1]
    head = catalog.blobs.path(record.layers[0].blob).read_bytes()[:4]
    assert head == COMPRESSIONS["gzip" if how == "gzip" else "zstd"](b"")[:4]


def test_a_file_system_that_looks_like_an_image(catalog: Catalog, tmp_path: Path) -> None:
    """Names alone don't make one."""
    (tmp_path / "source").write_bytes(tar([file("manifest.json", b"{}"), file("bin/sh", b""), file("index.json", b"")]))
    assert import_image(tmp_path / "source", catalog, "x").provenance["kind"] == "tar"


def test_a_directory(catalog: Catalog, tmp_path: Path) -> None:
    """Packed as it lies there."""
    (tmp_path / "source/bin").mkdir(parents=True)
    (tmp_path / "source/bin/sh").write_text("#!")
    record = import_image(tmp_path / "source", catalog, "x")
    assert record.provenance["kind"] == "directory"
    assert paths(catalog, "x", tmp_path) == [{"bin", "bin/sh"}]


def test_the_one_for_this_machine(catalog: Catalog, tmp_path: Path) -> None:
    """From an index of several, also where the index does not say and the image does."""
    made = Layout()
    entries = [made.image(BASE, architecture=name, config={"Env": [f"ARCH={name}"]}) for name in ("arm64", "amd64", "s390x")]
    for entry, name in zip(entries, ("arm64", "amd64", "s390x"), strict=True):
        made.add(entry, architecture=name)
    assert import_image(made.write(tmp_path / "a"), catalog, "a").config.env == (("ARCH", "amd64"),)
    silent = Layout()
    silent.blobs = made.blobs
    for entry in entries:
        silent.add(entry)
    assert import_image(silent.write(tmp_path / "b"), catalog, "b").config.env == (("ARCH", "amd64"),)


def test_what_lies_beside_an_image(catalog: Catalog, tmp_path: Path) -> None:
    """A signature that does not say what it is for, an index that has one image and says nothing: the image is taken."""
    made = Layout()
    signature = made.json(
        {
            "schemaVersion": 2,
            "mediaType": manifest.MANIFEST,
            "artifactType": "application/vnd.example.signature",
            "config": made.blob(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [made.blob(b"signed", "text/plain")],
        },
        manifest.MANIFEST,
    )
    made.add(signature).add(made.index(made.image(BASE)))
    assert import_image(made.write(tmp_path / "source"), catalog, "x").layers[0].diff_id == digest(BASE)


def test_several(catalog: Catalog, tmp_path: Path) -> None:
    """One must be picked, by tag or digest."""
    made = Layout()
    made.add(made.image(BASE), "one").add(made.image(ABOVE), "two")
    source = made.write(tmp_path / "source")
    with pytest.raises(ImageError, match="several images, so say which one: one, two"):
        import_image(source, catalog, "x")
    assert import_image(source, catalog, "x", pick="two").layers[0].diff_id == digest(ABOVE)
    assert import_image(source, catalog, "x", pick=made.entries[0]["digest"]).layers[0].diff_id == digest(BASE)
    with pytest.raises(ImageError, match="named 'three' and"):
        import_image(source, catalog, "x", pick="three")


def test_layers_are_there_once(catalog: Catalog, tmp_path: Path) -> None:
    """However they come, a layer that the store has is not taken in again."""
    import_image(layout(BASE, how="gzip").write(tmp_path / "a"), catalog, "a")
    import_image(layout(BASE, ABOVE, how="zstd").write(tmp_path / "b"), catalog, "b")
    (tmp_path / "c").write_bytes(saved(BASE, ABOVE))
    import_image(tmp_path / "c", catalog, "c")
    assert len(list(catalog.home.part("blobs").iterdir())) == 2


def test_nothing_is_left_of_the_import(catalog: Catalog, tmp_path: Path) -> None:
    """No draft, no descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "source").write_bytes(gzip.compress(saved(BASE)))
    import_image(tmp_path / "source", catalog, "x")
    assert os.listdir(catalog.home.part("new")) == []
    assert len(os.listdir("/proc/self/fd")) == before


def _broken(make: Layout, name: str, data: bytes) -> Layout:
    make.blobs[name] = data
    return make


def _without(make: Layout, name: str) -> Layout:
    del make.blobs[name]
    return make


GZ = COMPRESSIONS["gzip"](BASE)
BAD_LAYOUTS = {
    "a layer with another digest": (_broken(layout(BASE), digest(GZ), GZ[:-1] + b"x"), "layer 1 of 1: its digest is"),
    "a layer that is cut off": (_broken(layout(BASE), digest(GZ), GZ[:-9]), f"layer 1 of 1: it ends after {len(GZ) - 9} of"),
    "a layer that is longer": (_broken(layout(BASE), digest(GZ), GZ + b"x"), "layer 1 of 1: it is longer"),
    "a layer that is not there": (_without(layout(BASE), digest(GZ)), "layer 1 of 1: it lacks 'blobs/sha256/"),
    "a layer with other contents": (layout(ABOVE, BASE, diff_ids=[digest(ABOVE)] * 2), "layer 2 of 2: its contents have digest"),
    "layers that nobody speaks of": (layout(BASE, BASE, diff_ids=[digest(BASE)]), "2 layers, and its configuration speaks of 1"),
    "no layers": (layout(), "no layers"),
    "an unknown media type": (layout(BASE, layer_type="application/vnd.oci.image.layer.v1.tar+lz4"), "layer 1 has the unknown"),
    "no image": (layout(BASE, layer_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip"), "media type"),
    "another processor": (layout(BASE, architecture="s390x"), "linux/s390x"),
    "another system": (layout(BASE, os="windows"), "windows/amd64"),
    "a path that leads out": (layout(tar([file("../x", b"")])), "layer 1 of 1: entry '../x': `..` in a path"),
    "a hard link that leads out": (layout(tar([hard("x", "../../etc/passwd")])), "layer 1 of 1: entry 'x': `..`"),
    "a layer that is no archive": (layout(b"x" * 5000), "layer 1 of 1"),
    "an environment without a name": (layout(BASE, config={"Env": ["=x"]}), "variable"),
    "a configuration that is a list": (layout(BASE, config={"Env": {"A": "b"}}), "'Env'"),
    "a digest of another kind": (layout(BASE, diff_ids=["md5:0"]), "not a SHA-256 digest: 'md5:0'"),
    "a path for a digest": (layout(BASE, diff_ids=["sha256:../../../etc/passwd"]), "not a SHA-256 digest"),
}


@pytest.mark.parametrize("name", BAD_LAYOUTS)
def test_bad_layouts(catalog: Catalog, tmp_path: Path, name: str) -> None:
    """ImageError with path, layer and cause. What was in the store is, and nothing else, the first layer of two included."""
    import_image(layout(tar([file("good", b"")])).write(tmp_path / "good"), catalog, "good")
    before = contents(catalog)
    made, says = BAD_LAYOUTS[name]
    for form in ("directory", "archive"):
        source = tmp_path / form
        if form == "directory":
            made.write(source)
        else:
            source.write_bytes(made.archive())
        with pytest.raises(ImageError) as caught:
            import_image(source, catalog, "x")
        assert str(caught.value).startswith(f"{source}: ")
        assert says in str(caught.value)
        assert contents(catalog) == before


BAD_ARCHIVES = {
    "empty": (b"", ""),
    "noise": (bytes(range(256)) * 10, ""),
    "no list": (tar([file("manifest.json", b'{"Config": 1}')]), "manifest.json is not that"),
    "an empty list": (tar([file("manifest.json", b"[]")]), "no image"),
    "deep": (tar([file("manifest.json", b"[" * 100_000)]), "manifest.json"),
    "a configuration outside": (tar([file("manifest.json", b'[{"Config": "../../etc/passwd", "Layers": []}]')]), "it lacks"),
    "of the future": (tar([file("oci-layout", b'{"imageLayoutVersion": "9"}'), file("index.json", b"{}")]), "version '9'"),
    "an index that is none": (
        tar([file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), file("index.json", b"[]")]),
        "no JSON object",
    ),
    "nothing in it": (tar([]), ""),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archives(catalog: Catalog, tmp_path: Path, name: str) -> None:
    """The same for files that are not even that."""
    data, says = BAD_ARCHIVES[name]
    (tmp_path / "source").write_bytes(data)
    if name == "nothing in it":  # an empty file system is one
        assert import_image(tmp_path / "source", catalog, "x").layers[0].diff_id == digest(data)
        return
    with pytest.raises(ImageError) as caught:
        import_image(tmp_path / "source", catalog, "x")
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'source'}: ")
    assert str(caught.value).count(str(tmp_path)) == 1
    assert contents(catalog) == {}


def test_indexes_in_a_circle(catalog: Catalog, tmp_path: Path) -> None:
    """Digests allow none, but a chain may be long."""
    made = Layout()
    entry = made.image(BASE)
    for _ in range(6):
        entry = made.index(entry)
    with pytest.raises(ImageError, match="deep"):
        import_image(made.add(entry).write(tmp_path / "source"), catalog, "x")


@pytest.mark.parametrize("name", ["host", "../x", "", "a b", "abcdef012345"])
def test_names_that_images_cannot_have(catalog: Catalog, tmp_path: Path, name: str) -> None:
    """Said before anything is read."""
    with pytest.raises(ValueError, match="name"):
        import_image(tmp_path / "not there", catalog, name)


@pytest.fixture
def tools() -> None:
    for program in ("skopeo", "umoci"):
        if shutil.which(program) is None:
            missing(program)


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(cwd)})
    assert done.returncode == 0, done.stderr


def test_images_of_real_tools(catalog: Catalog, tmp_path: Path, tools: None) -> None:
    """umoci makes one of two layers; skopeo turns it into each of the forms. All of them are one image here."""
    for command in (
        ["umoci", "init", "--layout", "layout"],
        ["umoci", "new", "--image", "layout:tag"],
        ["umoci", "unpack", "--rootless", "--image", "layout:tag", "one"],
    ):
        run(*command, cwd=tmp_path)
    (tmp_path / "one/rootfs/etc").mkdir()
    (tmp_path / "one/rootfs/etc/hello").write_text("hello")
    os.link(tmp_path / "one/rootfs/etc/hello", tmp_path / "one/rootfs/etc/again")
    (tmp_path / "one/rootfs/link").symlink_to("/etc/hello")
    run("umoci", "repack", "--image", "layout:tag", "one", cwd=tmp_path)
    run("umoci", "unpack", "--rootless", "--image", "layout:tag", "two", cwd=tmp_path)
    (tmp_path / "two/rootfs/etc/again").unlink()
    (tmp_path / "two/rootfs/new").write_text("new")
    run("umoci", "repack", "--image", "layout:tag", "two", cwd=tmp_path)
    options = ["--config.env", "A=b=c", "--config.workingdir", "/etc", "--config.user", "7", "--config.entrypoint", "/x"]
    run("umoci", "config", "--image", "layout:tag", "--architecture", "amd64", *options, cwd=tmp_path)
    run("skopeo", "copy", "oci:layout:tag", "docker-archive:docker.tar:some/x:1", cwd=tmp_path)
    run("skopeo", "copy", "oci:layout:tag", "oci-archive:oci.tar:tag", cwd=tmp_path)
    run("skopeo", "copy", "--dest-compress-format", "zstd", "--dest-compress", "oci:layout:tag", "oci:zstd:tag", cwd=tmp_path)
    (tmp_path / "docker.tar.gz").write_bytes(gzip.compress((tmp_path / "docker.tar").read_bytes(), 1))
    forms = ("layout", "docker.tar", "docker.tar.gz", "oci.tar", "zstd")
    records = [import_image(tmp_path / form, catalog, form) for form in forms]
    assert len({record.id for record in records}) == 1
    assert records[0].config == Config((("A", "b=c"),), "/etc", "7", ("/x",))
    below, above = paths(catalog, "layout", tmp_path)
    assert below == {"etc", "etc/hello", "etc/again", "link"}
    assert above >= {"etc", "etc/again", "new"}  # and the other name of what was a hard link
    assert (tmp_path / "layout-1/etc/again").is_char_device()
