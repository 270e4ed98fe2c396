"""Sections of a Markdown file: where they end, at which level they stand, and links that a site cannot follow."""

from __future__ import annotations

import pytest

from nbkit.core.checks import NbkitError
from nbkit.site.sections import section

TEXT = """# Title

## One
words [a file](LICENSE), [a place](https://x.org), ![picture](a.png)

```
# no heading
```

### Below
more

## Two
end
"""


def test_a_section_holds_what_is_below_it(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(TEXT, encoding="utf-8")
    assert section(file, "One", level=3) == (
        "### One\nwords a file, [a place](https://x.org), ![picture](a.png)\n\n"
        "```\n# no heading\n```\n\n#### Below\nmore\n")
    assert section(file, "Below") == "## Below\nmore\n"
    assert section(file, "Two", level=1) == "# Two\nend\n"


def test_a_heading_that_is_gone_is_told_with_the_nearest(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(TEXT, encoding="utf-8")
    with pytest.raises(NbkitError, match=r"README.md: section.*Did you mean 'Below'"):
        section(file, "Belov")
    with pytest.raises(NbkitError, match="no heading"):
        section(file, "no heading")
