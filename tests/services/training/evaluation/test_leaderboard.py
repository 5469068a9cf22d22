"""Any classifier is asked the same questions, however it is reached."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from local.stack.system import Stack
from services.training import experiment as experiments
from services.training.evaluation import leaderboard
from services.training.experiment import Experiment
from services.training.modelling.lesions import drawn
from tests.support.training_scans import head

HEADS = 48
RELEASE = "services/inference/release"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Drawn heads, half of them with a bright lesion, as a source that is a block."""
    folder, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for place in ("notumor", "glioma"):
        (folder / "kaggle" / place).mkdir(parents=True)
    for number in range(HEADS):
        small = cv2.resize(head(number), (128, 128))
        cv2.imwrite(str(folder / f"kaggle/notumor/a{3 * number}.png"), small)
        cv2.imwrite(str(folder / f"kaggle/glioma/b{3 * number}.png"), drawn(small, rng)[0])
    return experiments.read_experiment(str(folder), tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def table(experiment: Experiment, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    here = "tests.services.training.evaluation.test_leaderboard"
    entrants = [
        f"refuses={here}:refuses",
        f"guesses={here}:guesses",
        f"release={RELEASE}",
        f"address={stack.url('inference')}",
    ]
    return leaderboard.measured(experiment, str(tmp_path_factory.mktemp("no other organs")), entrants)


def refuses(images: np.ndarray) -> np.ndarray:
    """An entrant that gives no probability."""
    return np.full(len(images), np.nan)


def guesses(images: np.ndarray) -> np.ndarray:
    """An entrant that says the same of every image."""
    return np.full(len(images), 0.5)


def test_what_refuses_everything_and_what_guesses_stand_at_chance(table: pd.DataFrame) -> None:
    for name, refused in (("refuses", "100.0%"), ("guesses", "0.0%")):
        assert table.loc[name, "block C, AUC"].startswith("0.500 (0.500 to 0.500)")
        assert table.loc[name, "scans refused"] == table.loc[name, "OOD images refused"] == refused


def test_a_release_is_measured_alike_in_its_folder_and_behind_its_address(table: pd.DataFrame) -> None:
    """But that the service crops a prepared image again."""
    release, address = (float(table.loc[name, "block C, AUC"].partition(" ")[0]) for name in ("release", "address"))
    assert release == pytest.approx(address, abs=0.05)
    assert release > 0.5
    refused = ["scans refused", "OOD images refused"]
    assert table.loc["release", refused].to_dict() == table.loc["address", refused].to_dict()


def test_the_area_is_that_of_scikit_learn_where_values_tie() -> None:
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 2, 200), rng.integers(0, 9, 200) / 8
    assert leaderboard._area(labels, values) == pytest.approx(roc_auc_score(labels, values))


def test_every_shortcut_is_beside_them_and_the_page_is_a_table(table: pd.DataFrame) -> None:
    shortcuts = [name for name in table.index if name.startswith("shortcut: ")]
    assert len(shortcuts) == 7
    lines = leaderboard.as_markdown(table).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert len(rows) == len(table) + 2
    assert "nan" not in "".join(rows)


def test_an_entrant_without_a_name_is_told_how_to_give_one(experiment: Experiment) -> None:
    with pytest.raises(SystemExit, match="NAME=WHAT"):
        leaderboard.measured(experiment, "here", [RELEASE])


def test_data_without_a_test_are_told_so(experiment: Experiment) -> None:
    nothing = replace(experiment, split=np.full(len(experiment.scans), "train"))
    with pytest.raises(SystemExit, match="too few people"):
        leaderboard.measured(nothing, "here", [f"release={RELEASE}"])
