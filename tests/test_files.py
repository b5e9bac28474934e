"""Files that are written whole or not at all."""

from pathlib import Path

import pytest

from medcontext.errors import InputError
from medcontext.files import write_text


def test_a_name_that_is_not_utf8_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The name m\\udcfcnster,0\.5 is not UTF-8\. Rename it"):
        write_text(tmp_path / "metrics.csv", "case,dsc\nm\udcfcnster,0.5\n")
    assert list(tmp_path.iterdir()) == []
