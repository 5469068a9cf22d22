import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from services.training.evaluation import left_out_figures
from services.training.evaluation.left_out import IN_SKULL, TYPE_LOGITS

COUNT = 80


@pytest.fixture
def unseen() -> pd.DataFrame:
    """Predictions as of two blocks of sources left out, half of each a tumour."""
    number, rng = np.arange(COUNT), np.random.default_rng(0)
    label = number % 2
    table = pd.DataFrame(
        {"block": np.where(number < COUNT // 2, "A", "B"), "label": label, "source": "one", "skull": ""}
    )
    return table.assign(logit=2 * label - 1 + rng.normal(0, 1, COUNT), **dict.fromkeys(TYPE_LOGITS, 0.0))


def test_a_block_is_calibrated_and_cut_by_the_others(unseen):
    own = unseen["block"] == "A"
    shifted = unseen.assign(logit=unseen["logit"] + np.where(own, 5, 0))
    plain, moved = left_out_figures.calibrated_across(unseen), left_out_figures.calibrated_across(shifted)
    assert plain["threshold"][own].tolist() == moved["threshold"][own].tolist()
    assert plain["probability"][~own].tolist() != moved["probability"][~own].tolist()


def test_the_primary_figure_goes_by_the_harder_healthy_source_of_each_block():
    easy, hard = [-3.0] * 20, [1.0] * 20
    logits = {"easy": easy, "hard": hard, "tumours": [0.0] * 15 + [2.0] * 5}
    block = pd.DataFrame([{"source": name, "logit": one} for name, part in logits.items() for one in part])
    block["label"] = (block["source"] == "tumours").astype(int)
    assert left_out_figures.sensitivities(block).to_dict() == {"easy": 1.0, "hard": 0.25}
    both = pd.concat([block.assign(block="A"), block[block["source"] != "hard"].assign(block="B")])
    found = left_out_figures.primary(both)
    assert found["block A"] == 0.25 and found["block B"] == 1.0
    assert found["mean sensitivity at 95% specificity per healthy source"] == pytest.approx(0.625)


def test_two_fits_are_compared_by_person():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    better = pd.DataFrame({"label": labels, "group": np.arange(80), "logit": rng.normal(2.5 * labels)})
    worse = better.assign(logit=better["logit"] + rng.normal(0, 3, 80))
    found = left_out_figures.beside(worse, better)
    area = [roc_auc_score(labels, one["logit"]) for one in (worse, better)]
    assert found["difference"] == pytest.approx(area[0] - area[1])
    assert found["low"] < found["difference"] < found["high"] < 0
    assert left_out_figures.beside(better, better) == {"difference": 0, "low": 0, "high": 0}


def test_stripped_heads_are_judged_within_skulls_at_a_threshold_of_their_own():
    healthy = pd.DataFrame({"label": 0, "source": "oasis", "sequence": "T1", "logit": np.linspace(-3, -1, 40)})
    tumours = pd.DataFrame({"label": 1, "source": "brats", "sequence": ["FLAIR", "T2"] * 10, "logit": 1.0})
    block = pd.concat([healthy, tumours], ignore_index=True).assign(block="A")
    block[IN_SKULL] = block["logit"].where(block["sequence"] != "T2", -2.0) + 5
    other = block.assign(block="B", **{IN_SKULL: np.nan})
    found = left_out_figures.within_skulls(pd.concat([block, other]))
    assert list(found) == ["block A, as they are", "block A, within a skull"]
    assert found["block A, as they are"] == {"AUC": 1, "all": 1, "FLAIR": 1, "T2": 1}
    worse = found["block A, within a skull"]
    assert (worse["all"], worse["FLAIR"], worse["T2"]) == (0.5, 1, 0)
    assert worse["AUC"] == pytest.approx(0.75)


def test_a_block_of_stripped_heads_that_are_all_healthy_is_not_judged_within_skulls(unseen):
    worn = unseen.assign(**{IN_SKULL: unseen["logit"].where(unseen["label"] == 0)})
    assert left_out_figures.within_skulls(worn) == {}
