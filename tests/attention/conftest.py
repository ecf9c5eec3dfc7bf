"""Small trainings that several modules look at."""

from pathlib import Path

import pytest

from tests.attention.small import SIZES, shrink, small


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of each model the folder of a training, which no test changes."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        for model in SIZES:
            found[model] = tmp_path_factory.mktemp(model)
            small(found[model], model=model, learning_rate=0.02)
    return found
