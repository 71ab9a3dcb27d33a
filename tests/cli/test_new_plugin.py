"""``rewardkit new-plugin``: what it writes, and what it refuses."""

import ast
import os
import tomllib

import pytest

from rewardkit import cli
from rewardkit.cli.new_plugin import write_plugin
from rewardkit.errors import OutputError


def run(capsys, *arguments):
    """Exit code and output of the command."""
    code = cli.run(["new-plugin", *map(str, arguments)])
    return code, capsys.readouterr()


def test_it_writes_a_package_and_says_what_to_do_next(tmp_path, capsys):
    """All files are there, listed, and the next commands are printed."""
    code, said = run(capsys, "word-count", "--into", tmp_path)
    folder = tmp_path / "rewardkit-word-count"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert code == 0
    assert files == {
        ".github/workflows/test.yml",
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "reward.yaml",
        "rewardkit_word_count.py",
        "tests/test_word_count.py",
    }
    assert all(file in said.out for file in files)
    assert "pip install -e '.[test]'" in said.out
    assert list(tmp_path.iterdir()) == [folder]


def test_the_module_is_about_ten_lines(tmp_path):
    """A reward is a short function and one decorator."""
    module = (write_plugin("palindrome", tmp_path) / "rewardkit_palindrome.py").read_text()
    lines = [line for line in module.splitlines() if line.strip()]
    assert len(lines) <= 11
    assert any(isinstance(node, ast.FunctionDef) and node.name == "palindrome" for node in ast.parse(module).body)


def test_the_entry_point_names_the_module(tmp_path):
    """The install registers the module in the group that rewardkit looks in."""
    project = tomllib.loads((write_plugin("palindrome", tmp_path) / "pyproject.toml").read_text())["project"]
    assert project["name"] == "rewardkit-palindrome"
    assert project["entry-points"]["rewardkit"] == {"palindrome": "rewardkit_palindrome"}


def test_no_placeholder_is_left(tmp_path):
    """Every template is filled in."""
    for path in write_plugin("palindrome", tmp_path).rglob("*"):
        assert path.is_dir() or "$" not in path.read_text().replace("${{", "").replace("$REWARDKIT", "")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Word Count", "such as word_count"),
        ("9lives", "such as lives"),
        ("a__b", "such as a_b"),
        ("../evil", "such as evil"),
        ("ünï", "can't be the name of a reward"),
        ("", "such as palindrome"),
        ("class", "would be misread"),
        ("reward", "would be misread"),
        ("rewardkit-length2", "new-plugin length2"),
        ("format", "offers 'format."),
    ],
)
def test_a_name_that_will_not_do_is_refused(tmp_path, capsys, name, says):
    """A bad name is wrong use, told with a better one, and leaves nothing behind."""
    code, said = run(capsys, name, "--into", tmp_path)
    assert code == 2
    assert says in said.err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path, capsys):
    """A folder of that name stays as it is."""
    (tmp_path / "rewardkit-palindrome").mkdir()
    code, said = run(capsys, "palindrome", "--into", tmp_path)
    assert code == 2
    assert "exists already" in said.err
    assert list((tmp_path / "rewardkit-palindrome").iterdir()) == []


def test_the_workflow_installs_rewardkit_from_where_it_came(tmp_path, monkeypatch):
    """Before a release, the workflow installs rewardkit from its repository at the commit that is installed."""
    monkeypatch.setattr(
        "importlib.metadata.PathDistribution.read_text",
        lambda _self, _name: '{"url": "https://example.org/r.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
    )
    workflow = (write_plugin("palindrome", tmp_path) / ".github/workflows/test.yml").read_text()
    assert "vars.REWARDKIT || 'rewardkit @ git+https://example.org/r.git@abc' }}" in workflow
    assert "python-version: ${{ matrix.python-version }}" in workflow


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_not_be_written_is_a_clear_error(tmp_path):
    """No permission is told with the folder's name, and nothing is left."""
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="can't be written: Permission denied"):
        write_plugin("palindrome", tmp_path)


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    """A full disk while writing is told, and no half-written package stays."""

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_plugin("palindrome", tmp_path)
    assert list(tmp_path.iterdir()) == []
