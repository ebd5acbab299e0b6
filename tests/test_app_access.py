"""Flags of the app that let nobody in, or the wrong ones: told in a line, before gradio is imported."""

import socket
from pathlib import Path

import pytest

from videopainter import locks
from videopainter.app.options import AppOptions
from videopainter.app.ui.access import check_access, check_address, check_models, read_accounts, root_path_of
from videopainter.app.ui.served import Served, uploaded
from videopainter.cli.app import read_options
from videopainter.errors import InputError


def test_default_flags_work_and_listen_to_this_machine_alone():
    options = read_options([])
    check_models(options)
    assert (options.host, options.port) == ("127.0.0.1", 12346)


def test_accounts_are_read_as_people_write_them(tmp_path):
    file = tmp_path / "users.txt"
    file.write_text("# team\n\nann:open sesame\n ben : x:y \n")
    assert read_accounts(str(file)) == [("ann", "open sesame"), ("ben", " x:y ")]
    assert read_accounts(None) is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "a file that can be read"),
        (b"", "expected lines NAME:PASSWORD, got none"),
        (b"# nobody\n", "expected lines NAME:PASSWORD, got none"),
        (b"ann\n", "got another text in line 1"),
        (b"ann:a\n:b\n", "in line 2"),
        (b"ann:\n", "in line 1"),
        (b"ann:a\nann:b\n", "every name once, got 'ann' again in line 2"),
        (b"\xff\xfe\x00", "text in UTF-8"),
    ],
)
def test_accounts_that_cannot_be_meant(content, told, tmp_path):
    file = tmp_path / "users.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=told) as error:
        check_access(AppOptions(auth=str(file)))
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_a_line_that_may_be_a_password_is_not_told(tmp_path):
    file = tmp_path / "users.txt"
    file.write_text("my secret\n")
    with pytest.raises(InputError) as error:
        read_accounts(str(file))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("path", ["videopainter", "//elsewhere", "/a b", "/a?b", "/a#b", "ftp://x"])
def test_root_paths_that_are_none(path):
    with pytest.raises(InputError, match="--root_path: expected a path"):
        root_path_of(AppOptions(root_path=path))


def test_root_paths():
    assert root_path_of(AppOptions(root_path="/videopainter/")) == "/videopainter"
    assert root_path_of(AppOptions(root_path="https://example.com/app")) == "https://example.com/app"


def test_an_address_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"got 127.0.0.1:{port}"):
            check_address(AppOptions(port=port))
    assert check_address(AppOptions(port=port)) == port
    assert check_address(AppOptions(port=0)) > 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"model_path": "/nowhere"}, "--inpainting_branch: expected one with"),
        ({"segmenter": "sam9"}, "--segmenter: expected"),
        ({"llm_model": "replay:/nowhere"}, "expected a file, got none"),
        ({"img_inpainting_model": "/nowhere/flux"}, "img_inpainting_model: expected"),
        ({"device": "cuda:77"}, "--device: expected"),
    ],
)
def test_models_that_cannot_work(flags, told):
    with pytest.raises(InputError, match=told):
        check_models(AppOptions(**flags))


def test_files_are_served_under_names_that_nobody_guesses(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    served = Served(tmp_path)
    file = tmp_path / "projects" / "session" / "result.mp4"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"video")
    link = served.link(file, "removed.mp4")
    assert link == served.link(file, "removed.mp4") and link.endswith("/removed.mp4") and "session" not in link
    assert Path(link).read_bytes() == b"video"
    remade = file.with_name("new.mp4")
    remade.write_bytes(b"another video")
    remade.replace(file)
    served.clean()
    assert not Path(link).exists()
    link = served.link(file, "removed.mp4")
    assert Path(link).read_bytes() == b"another video"
    served.clean()
    assert Path(link).exists()
    file.unlink()
    served.clean()
    assert not Path(link).exists()
    assert served.link(file) is None and served.link(None) is None


@pytest.mark.parametrize("path", ["/etc/passwd", "served/../users.txt", "", "a\0b", None, 3, "served", "served/link"])
def test_a_path_that_was_not_uploaded(path, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    served = Served(tmp_path)
    (tmp_path / "users.txt").write_text("ann:a")
    (served.folder / "link").symlink_to(tmp_path / "users.txt")
    mine = served.folder / "ab" / "clip.mp4"
    mine.parent.mkdir()
    mine.write_bytes(b"video")
    assert uploaded({"path": str(mine)}) == mine.resolve()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="uploaded here"):
        uploaded({"path": path})


@pytest.mark.slow
def test_a_second_server_of_a_folder_is_refused_and_takes_nothing_from_the_first(tmp_path):
    from videopainter.app.ui.serving import Server

    options = AppOptions(work_dir=str(tmp_path), port=0)
    with locks.held(tmp_path, folder=True):  # as the first one holds it
        link = tmp_path / "served" / "link.mp4"
        link.parent.mkdir()
        link.touch()
        with (
            pytest.raises(InputError, match="--work_dir: expected a folder that no other server uses"),
            Server(options),
        ):
            pass
        assert link.exists()


def test_a_server_that_cannot_be_reached_lets_its_folder_go(tmp_path, monkeypatch):
    from videopainter.app.ui import serving

    monkeypatch.setattr(serving, "_launch", lambda blocks, server: 1 / 0)
    with pytest.raises(ZeroDivisionError), serving.Server(AppOptions(work_dir=str(tmp_path), port=0)):
        pass
    with locks.held(tmp_path, folder=True, patience=0):
        pass
