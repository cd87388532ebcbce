"""What a session without the packages of CUDA says of it."""

from __future__ import annotations

import pytest

from tests.cuda.conftest import _MISSING


@pytest.mark.skipif(bool(_MISSING), reason=f"the tests of CUDA need {', '.join(_MISSING)}; see the extra 'cuda'")
def test_packages_are_there() -> None:
    assert not _MISSING
