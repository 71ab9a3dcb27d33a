"""The contract of a plugin's documentation, held against plugins that break it."""

import pytest

from rewardkit.testing import ContractBrokenError, DocsContract

DESCRIBED = '''
    from rewardkit import reward

    @reward("{name}"{more})
    def palindrome(rollout, *, strict: bool = False) -> float:
        """Score 1 if a completion reads the same backwards.

        Args:
            strict: Whether spaces count.
        """
        return 1.0
'''
UNDESCRIBED = """
    from rewardkit import reward

    @reward("{name}"{more})
    def palindrome(rollout, *, strict: bool = False) -> float:
        return 1.0
"""
FILE = "```yaml\nversion: 1\ncomponents:\n  it: {{use: acme, with: {{{with_}}}}}\n```\n"


def documented(install_plugin, folder, *, code=DESCRIBED, readme="`acme`\n", more=""):
    """The contract of an installed plugin ``acme`` with such a README."""
    install_plugin(code.format(name="acme", more=more), "acme")
    (folder / "README.md").write_text(readme)

    class Docs(DocsContract):
        plugin = "acme"

    Docs.readme = folder / "README.md"
    return Docs()


def test_good_documentation_passes(install_plugin, tmp_path):
    """A README with files that are accepted, and descriptions of everything, keep the contract."""
    docs = documented(install_plugin, tmp_path, readme="`acme`\n" + FILE.format(with_="strict: true"))
    docs.test_every_reward_file_in_the_readme_is_accepted()
    docs.test_every_example_is_accepted()
    docs.test_everything_is_described()


def test_a_reward_file_that_is_refused_is_told_with_its_line(install_plugin, tmp_path):
    """The error names the README's own line."""
    docs = documented(install_plugin, tmp_path, readme="# acme\n\n" + FILE.format(with_="strickt: true"))
    with pytest.raises(ContractBrokenError, match=r"README\.md:6:\d+: .*strickt"):
        docs.test_every_reward_file_in_the_readme_is_accepted()


def test_an_example_that_is_refused_is_told(install_plugin, tmp_path):
    """An example that can't be copied breaks the contract."""
    docs = documented(install_plugin, tmp_path, more=', example="it: {use: acme, with: {strickt: true}}"')
    with pytest.raises(ContractBrokenError, match=r"example of 'acme' is refused: .*strickt"):
        docs.test_every_example_is_accepted()


def test_what_is_not_described_is_told(install_plugin, tmp_path):
    """A reward and a parameter without a description, and a README that does not name the reward, are all told at once."""
    docs = documented(install_plugin, tmp_path, code=UNDESCRIBED, readme="Nothing.\n")
    with pytest.raises(ContractBrokenError) as told:
        docs.test_everything_is_described()
    assert "'acme' has no description" in str(told.value)
    assert "does not name `acme`" in str(told.value)
    assert "parameter 'strict' of 'acme' has no description" in str(told.value)


def test_a_plugin_that_is_not_installed_is_told():
    """A plugin without rewards fails the test."""

    class Docs(DocsContract):
        plugin = "nowhere"

    with pytest.raises(ContractBrokenError, match="no installed plugin 'nowhere'"):
        Docs().test_every_example_is_accepted()
