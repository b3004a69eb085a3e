"""Archives in parts: what damage is called, and that nothing is written outside of their folder."""

import io
import os
import tarfile

import pytest

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir import archives


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def content(tmp_path):
    """A folder of files, some of them larger than a part."""
    folder = tmp_path / "content"
    (folder / "deep").mkdir(parents=True)
    for number, size in enumerate((0, 10, 5000, 30_000)):
        (folder / "deep" / f"{number}").write_bytes(os.urandom(size))
    (folder / "top").write_text("text\n" * 100)
    return folder


@pytest.mark.parametrize("compressed", [False, True])
def test_parts_have_their_size_and_join_to_the_same_files(compressed, content, tmp_path):
    members = list(archives.members_of(content))
    record = archives.write(tmp_path, "a.tar", members, 7000, compressed=compressed)
    sizes = [(tmp_path / part["name"]).stat().st_size for part in record["parts"]]
    assert len(sizes) > 4
    assert max(sizes) <= 7000
    archives.unpack(tmp_path, record, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(content)
    assert archives.size_of(members, compressed=compressed) == sum(sizes)


DAMAGE = {
    "a bit": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"~"), "its checksum is another one"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "it has 6999 bytes, not 7000"),
    "missing": (lambda path: path.unlink(), "is missing, a part of a.tar"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_named_and_nothing_is_unpacked(damage, content, tmp_path):
    spoil, sentence = DAMAGE[damage]
    record = archives.write(tmp_path, "a.tar", archives.members_of(content), 7000)
    spoil(tmp_path / "a.tar.001")
    with pytest.raises(LrjaxError, match=sentence) as refused:
        archives.unpack(tmp_path, record, tmp_path / "out")
    assert "a.tar.001" in str(refused.value)
    assert not (tmp_path / "out").exists()


def tar_of(*members):
    """A tar file of (name, type, target of a link)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"evil"))
    stream.seek(0)
    return stream


FILE = tarfile.REGTYPE
EVIL = {
    "above": ([("../evil", FILE, "")], "lies outside"),
    "deep above": ([("a/../../evil", FILE, "")], "lies outside"),
    "absolute": ([("{elsewhere}/evil", FILE, "")], "lies outside"),
    "a link": ([("a", tarfile.SYMTYPE, ".."), ("a/evil", FILE, "")], "a link or a device"),
    "a hard link": ([("a", tarfile.LNKTYPE, "/etc/passwd")], "a link or a device"),
    "a pipe": ([("a", tarfile.FIFOTYPE, "")], "a link or a device"),
    "twice": ([("a", FILE, ""), ("a", FILE, "")], "twice"),
    "too much": ([(str(number), FILE, "") for number in range(6)], "more than its record says"),
}


@pytest.mark.parametrize("evil", EVIL)
def test_an_archive_writes_nothing_outside_of_its_folder(evil, tmp_path):
    members, sentence = EVIL[evil]
    members = [(name.format(elsewhere=tmp_path / "elsewhere"), kind, target) for name, kind, target in members]
    with pytest.raises(LrjaxError, match=sentence):
        archives.extract(tar_of(*members), "it", tmp_path / "out", 20)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_link_is_left_out_or_where_all_is_wanted_refused(content, tmp_path):
    before = list(archives.members_of(content))
    (content / "deep" / "link").symlink_to(tmp_path)
    assert list(archives.members_of(content)) == before
    assert list(archives.members_of(content, leave=lambda path: path.name == "link", whole=True)) == before
    with pytest.raises(LrjaxError, match=r"deep/link is a link, which is not packed"):
        list(archives.members_of(content, whole=True))


def test_a_part_that_cannot_be_read_is_named_and_not_where_it_is_unpacked_to(content, tmp_path, monkeypatch):
    record = archives.write(tmp_path, "a.tar", archives.members_of(content), 7000)

    def refused(path, *arguments):
        if str(path).endswith("a.tar.001"):
            raise PermissionError(13, "Permission denied")
        return open(path, *arguments)

    monkeypatch.setattr(archives, "open", refused, raising=False)
    sentence = r"cannot read .*a\.tar\.001 \(Permission denied\); copy it again"
    with pytest.raises(LrjaxError, match=sentence):  # once its checksum was right
        archives.unpack(tmp_path, record, tmp_path / "out")
    monkeypatch.setattr(archives, "sha256", lambda path: refused(path, "rb").read())
    record["parts"] = record["parts"][1:]
    with pytest.raises(LrjaxError, match=sentence):
        archives.verify(tmp_path, record)


def test_sizes_are_read_and_others_refused():
    assert archives.to_bytes("1.5G", "--x") == 1_500_000_000
    with pytest.raises(LrjaxError, match="--part_size=large is no size; write, say, 500K, 60M or 1G"):
        archives.to_bytes("large", "--part_size")
