"""Coded concepts of a result, from the standards' own dictionaries."""

from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

Coded = Code | CodedConcept

REPORT_TITLE = codes.DCM.OncologyMeasurementReport
"""Of CID 7021. OHIF shows a report of this title as text; one titled Imaging Measurement Report it takes for drawn
regions, and fails on a report that has none."""
ARTIFICIAL_INTELLIGENCE = codes.DCM.ArtificialIntelligence
PROBABILITY_OF_CANCER = codes.DCM.ProbabilityOfCancer
FINDING = codes.DCM.Finding
PERCENT = codes.UCUM.Percent
BRAIN = codes.SCT.Brain
PRESENT = codes.SCT.Present
ABSENT = codes.SCT.Absent
MRI_OF_BRAIN = CodedConcept("816077007", "SCT", "Magnetic resonance imaging of brain")
NEOPLASM_OF_BRAIN = CodedConcept("126952004", "SCT", "Neoplasm of brain")
TUMOUR_TYPE = CodedConcept("tumour-type", "99SCANFLOW", "Tumour type")
NOT_A_BRAIN_MRI = CodedConcept("not-a-brain-mri", "99SCANFLOW", "Not a brain MRI")

PREDICTED_CLASS = {"Cancer": PRESENT, "Non-Cancer": ABSENT, "Not a brain MRI": NOT_A_BRAIN_MRI}
"""Whether there is a neoplasm of the brain, by predicted class."""

_TUMOUR_TYPES = {
    "glioma": CodedConcept("C3059", "NCIt", "Glioma"),
    "meningioma": CodedConcept("C3230", "NCIt", "Meningioma"),
    "pituitary": CodedConcept("C3330", "NCIt", "Pituitary Neoplasm"),
}


def tumour_type(name: str) -> CodedConcept:
    """Return the code of a tumour type of the model's; one that NCIt's list here lacks is of our own scheme."""
    return _TUMOUR_TYPES.get(name) or CodedConcept(name[:16], "99SCANFLOW", name)
