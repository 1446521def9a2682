"""What a recipe may say, and what it is told when it says something else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lisrt.build import recipe as recipes
from lisrt.build.recipe import Apt, Copy, Extends, Pip, Run, SetEnv, SetWorkdir, Suites, Taken
from lisrt.build.recipes import find
from lisrt.errors import ImageError
from lisrt.store.catalog import OWN as OWN_NAMES

OWN = Path(__file__).resolve().parent.parent.parent / "rootfs"
HOST = "[base]\nhost = true\n"
SUITE = '[base]\ndistribution = "debian"\n[[base.source]]\nmirror = "http://x/debian"\nsuites = ["s"]\n'


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in OWN.glob("*/recipe.toml")))
def test_our_own_recipes_are_read(folder: str) -> None:
    """Each has a check, a description, and keys for its packages."""
    read = recipes.read(OWN / folder)
    assert read.name == folder
    assert read.description and read.steps
    assert read.check is not None
    if isinstance(read.base, Suites):
        assert all(Path(source.keyring).is_file() and source.signed_by for source in read.base.sources)


def test_every_kind_of_step_and_base(recipe: Callable[..., Path]) -> None:
    """What is written is what is read, in its order."""
    steps = """
        [[step]]
        apt = ["git", "libc6:amd64", "curl=7.88.1-10+deb12u5"]
        [[step]]
        pip = ["numpy>=2", "scipy==1.11"]
        [[step]]
        run = "echo a\\necho b"
        [[step]]
        copy = "file"
        to = "/etc/file"
        [[step]]
        env = { A = "1", B_2 = "" }
        [[step]]
        workdir = "/testbed"
        """
    folder = recipe(HOST + steps, file="x")
    apt, pip, run, copy, env, workdir = recipes.read(folder).steps
    assert apt == Apt(("git", "libc6:amd64", "curl=7.88.1-10+deb12u5"), False)
    assert pip == Pip(("numpy>=2", "scipy==1.11"))
    assert run == Run("echo a\necho b")
    assert copy == Copy(folder / "file", "/etc/file")
    assert env == SetEnv((("A", "1"), ("B_2", "")))
    assert workdir == SetWorkdir("/testbed")
    assert recipes.read(folder).base == Taken("host", "host")
    recipe(HOST, name="slim")
    assert recipes.read(recipe('[base]\nrecipe = "../slim"\n')).base == Extends(folder / "../slim")
    assert recipes.read(recipe('[base]\nrecipe = "debian-12-slim"\n')).base == Extends(OWN / "debian-12-slim")
    assert recipes.read(recipe('[base]\nimage = "debian:12"\n')).base == Taken("image", "debian:12")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'base' is missing"),
        ("x = [", "recipe.toml: "),
        ('recipe = "debian-12"\n', "'recipe' belongs below [base]"),
        ("comment = 1\n" + HOST, "unknown key 'comment'; known are base, description, step"),
        ("steps = 1\n" + HOST, "unknown key 'steps'; did you mean 'step'?"),
        ("[base]\n", "[base]: a base has exactly one of source, recipe, image, archive, host; it has none"),
        (HOST + 'image = "x"\n', "it has image and host"),
        ('[base]\nrecipe = "debian-21"\n', "'recipe': there is no"),
        (HOST + '[[step]]\nappt = ["git"]\n', "step 1: unknown key 'appt'; did you mean 'apt'?"),
        ("[base]\nhost = false\n", "'host' must be true"),
        ("[base]\nhost = 1\n", "'host' must be true or false, not 1"),
        (SUITE + "key = 1\n", "[base], source 1: unknown key 'key'"),
        (SUITE.replace("http://", "ftp://"), "source 1: 'mirror' is a URL"),
        (SUITE.replace('["s"]', "[]"), "source 1: 'suites' is empty"),
        (SUITE.replace('["s"]', '"s"'), "source 1: 'suites' must be a list of strings, not 's'"),
        (SUITE.replace('"debian"', '"De bian"'), "'distribution' is a name"),
        (HOST + "[[step]]\n", "step 1: a step has exactly one of apt, pip, run, copy, env, workdir; it has none"),
        (HOST + '[[step]]\nrun = "x"\n[[step]]\nrun = "x"\nshell = "zsh"\n', "step 2: unknown key 'shell'"),
        (HOST + '[[step]]\nrun = "x"\npip = ["y"]\n', "step 1: a step has exactly one of"),
        (HOST + '[[step]]\napt = ["--reinstall"]\n', "step 1: 'apt': '--reinstall' is no package's name"),
        (HOST + '[[step]]\napt = ["a; rm -rf /"]\n', "is no package's name"),
        (HOST + '[[step]]\napt = "git"\n', "step 1: 'apt' must be a list of strings, not 'git'"),
        (HOST + '[[step]]\npip = ["--index-url=http://evil"]\n', "is no package's name"),
        (HOST + '[[step]]\nrun = ""\n', "step 1: 'run' must not be empty"),
        (HOST + "[[step]]\nrun = 1\n", "step 1: 'run' must be a string, not 1"),
        (HOST + '[[step]]\ncopy = "../../secret"\nto = "/x"\n', "is not in the recipe's folder"),
        (HOST + '[[step]]\ncopy = "/etc/passwd"\nto = "/x"\n', "is not in the recipe's folder"),
        ('[base]\narchive = "/home"\n', "'archive': '/home' is not in the recipe's folder"),
        ('[base]\narchive = "../.."\n', "'archive': '../..' is not in the recipe's folder"),
        ('[base]\nrecipe = "../../mine"\n', "'recipe': '../../mine' is neither in the recipe's folder nor beside it"),
        ('[base]\nrecipe = ".."\n', "'recipe': '..' is neither in the recipe's folder nor beside it"),
        ('[base]\nrecipe = "/home/mine"\n', "'recipe': '/home/mine' is neither in the recipe's folder nor beside it"),
        (HOST + '[[step]]\ncopy = "missing"\nto = "/x"\n', "step 1: 'copy': there is no "),
        (HOST + '[[step]]\ncopy = "recipe.toml"\nto = "x"\n', "step 1: 'to' must be an absolute path in the image"),
        (HOST + '[[step]]\ncopy = "recipe.toml"\n', "step 1: 'to' is missing"),
        (HOST + '[[step]]\nenv = { "A=B" = "x" }\n', "step 1: 'env': A=B = 'x' is no variable"),
        (HOST + "[[step]]\nenv = { A = 1 }\n", "step 1: 'env': A = 1 is no variable"),
        (HOST + '[[step]]\nworkdir = "/a/../b"\n', "without `..`"),
        (HOST + "[step]\n", "'step' must be tables"),
    ],
)
def test_a_mistake_is_told_with_file_step_and_key(recipe: Callable[..., Path], text: str, said: str) -> None:
    """Before anything is built."""
    folder = recipe(text)
    with pytest.raises(ImageError) as caught:
        recipes.read(folder)
    assert str(caught.value).startswith(str(folder / "recipe.toml"))
    assert said in str(caught.value)


def test_a_link_out_of_the_folder_is_not_copied(recipe: Callable[..., Path], tmp_path: Path) -> None:
    """A recipe may be somebody else's, and its links too."""
    folder = recipe(HOST + '[[step]]\ncopy = "link"\nto = "/x"\n')
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ImageError, match="not in the recipe's folder"):
        recipes.read(folder)


@pytest.mark.parametrize("name", ["recipe.toml", "check.sh", "recipe.lock"])
def test_a_recipes_own_files_are_no_links_out(recipe: Callable[..., Path], tmp_path: Path, name: str) -> None:
    """Whether there is something at their end or not; a link to what is beside it is fine."""
    folder = recipe(HOST, check__sh="#!/bin/sh\n")
    private = tmp_path / "private"
    for _ in range(2):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("../../private")
        with pytest.raises(ImageError, match=f"{name}: a link that leads out of the recipe's folder"):
            recipes.read(folder)
        private.write_text(HOST)
    (folder / name).unlink()
    (folder / "beside").write_text(HOST if name == "recipe.toml" else "#!/bin/sh\n")
    (folder / name).symlink_to("beside")
    recipes.read(folder)


@pytest.mark.parametrize("base", ['archive = "link"', 'archive = "link/deeper"', 'archive = "layout"', 'recipe = "link"'])
def test_a_base_through_a_link_that_leads_out(recipe: Callable[..., Path], tmp_path: Path, base: str) -> None:
    """It is refused, be it the path itself, a part of it, or a blob of an image layout."""
    folder = recipe(f"[base]\n{base}\n")
    (tmp_path / "private/deeper").mkdir(parents=True)
    (tmp_path / "private/recipe.toml").write_text(HOST)
    (folder / "link").symlink_to(tmp_path / "private")
    (folder / "layout/blobs").mkdir(parents=True)
    (folder / "layout/oci-layout").write_text("{}")
    (folder / "layout/blobs/sha256").symlink_to(tmp_path / "private")
    with pytest.raises(ImageError, match="is not in the recipe's folder|leads out of the recipe's|neither in the recipe's"):
        recipes.read(folder)


def test_links_of_a_system_in_a_directory_stay(recipe: Callable[..., Path]) -> None:
    """They mean something in the image alone."""
    folder = recipe('[base]\narchive = "system"\n')
    (folder / "system").mkdir()
    (folder / "system/sh").symlink_to("/bin/sh")
    assert recipes.read(folder).base == Taken("archive", str(folder / "system"))


def test_a_check_that_nothing_can_run(recipe: Callable[..., Path]) -> None:
    """What is missing is said before anything is built."""
    folder = recipe(HOST, check__sh="echo looking\n")
    with pytest.raises(ImageError, match=r"check\.sh: its first line must be `#!` and the program"):
        recipes.read(folder)
    (folder / "check.sh").unlink()
    (folder / "check.sh").mkdir()
    with pytest.raises(ImageError, match=r"check\.sh: Is a directory"):
        recipes.read(folder)


def test_our_own_names_are_known_to_the_store() -> None:
    """It says how an image is made that is not there yet."""
    assert sorted(OWN_NAMES) == sorted(path.parent.name for path in OWN.glob("*/recipe.toml"))


def test_names_and_directories(recipe: Callable[..., Path]) -> None:
    """A directory goes before a name; a name that is none gets advice."""
    folder = recipe(HOST)
    assert find(str(folder)) == folder
    assert find("debian-12").name == "debian-12"
    with pytest.raises(ImageError, match="did you mean 'debian-12'"):
        find("debian-21")
    with pytest.raises(ImageError, match="directory without a recipe.toml"):
        find(str(folder.parent))
