"""Technical attributes that name nobody, and what says of itself that it is no brain MRI."""

from dataclasses import asdict

import numpy as np
import pytest
from pydicom import Dataset, Sequence

from shared.errors import Reason, RejectedScan
from shared.imaging.decoding import decode, decode_scan
from tests.shared.imaging.drawn import DEEP, GREY, PATIENT, dataset, dicom, written

AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


def said(**tags):
    return decode(dicom(DEEP, **tags)).attributes


def refusal(**tags):
    content = dicom(DEEP, **tags)
    assert decode(content).pages
    try:
        decode_scan(content)
    except RejectedScan as rejected:
        return rejected.reason
    return None


@pytest.mark.parametrize("modality", ["CT", "CR", "PT", "US", "OT", "NM", "SC"])
def test_another_modality_is_refused(modality):
    assert refusal(Modality=modality) is Reason.NOT_MR


@pytest.mark.parametrize(
    "kind", ["66.4", "481.2", "481.3", "88.11", "88.33", "11.1", "30", "104.1", "66.1", "67", "4.2", "9.1.1"]
)
def test_an_object_without_a_picture_is_refused(kind):
    assert refusal(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}", Modality="MR") is Reason.NO_PICTURE


@pytest.mark.parametrize("kind", ["4", "4.1", "4.3", "7", "7.2"])
def test_pictures_are_not(kind):
    assert refusal(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}", Modality="MR") is None


@pytest.mark.parametrize(
    "part", ["KNEE", "CSPINE", "TSPINE", "ABDOMEN", "CHEST", "Prostate", "NECK", "HIP", "L-SPINE", "LEFT FOOT", "HEART"]
)
def test_another_part_of_the_body_is_refused(part):
    assert refusal(BodyPartExamined=part) is Reason.OTHER_BODY_PART


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ("BRAIN", "BRAIN"),
        ("HEAD", "HEAD"),
        ("Head", "HEAD"),
        ("HEADNECK", "HEAD"),
        ("SKULL", "HEAD"),
        ("PITUITARY", "HEAD"),
        ("Kopf", "HEAD"),
        ("", None),
        ("ROUTINE", None),
        (PATIENT[:16], None),
    ],
)
def test_a_head_and_what_says_nothing_are_read(part, word):
    assert refusal(BodyPartExamined=part) is None
    assert said(BodyPartExamined=part).body_part == word


def test_an_anatomic_region_counts_too():
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "T-D9200", "SRT", "Knee"
    assert refusal(AnatomicRegionSequence=Sequence([region])) is Reason.OTHER_BODY_PART


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"], "SeriesDescription": "AAHead_Scout"},
        {"SeriesDescription": "3-plane loc"},
        {"ProtocolName": "localizer"},
        {"SeriesDescription": "SURVEY_32ch"},
    ],
    ids=str,
)
def test_a_localizer_is_refused(tags):
    assert refusal(**tags) is Reason.LOCALIZER


def test_a_series_whose_name_only_contains_such_letters_is_read():
    assert refusal(SeriesDescription="T1 velocity block") is None
    assert refusal(SeriesDescription="Blocking trial") is None


@pytest.mark.parametrize(
    "types",
    [
        ["P"],
        ["PHASE MAP"],
        ["ADC"],
        ["ADC", "DIS2D"],
        ["FIELD MAP"],
        ["P", "ND"],
        ["T1 MAP"],
        ["FA"],
        ["B0 MAP"],
        ["CBF"],
    ],
    ids=str,
)
def test_a_map_is_refused(types):
    assert refusal(ImageType=["DERIVED", "PRIMARY", *types]) is Reason.PARAMETRIC_MAP


def test_a_phase_of_an_enhanced_object_is_refused():
    assert refusal(ComplexImageComponent="PHASE") is Reason.PARAMETRIC_MAP
    assert refusal(ComplexImageComponent="MAGNITUDE") is None


@pytest.mark.parametrize(
    "types",
    [["M", "ND", "NORM"], ["M_SE", "M", "SE"], ["OTHER"], ["DIFFUSION", "TRACEW"], ["M_FFE", "M", "FFE"]],
)
def test_pictures_of_other_types_are_read(types):
    assert refusal(ImageType=["ORIGINAL", "PRIMARY", *types]) is None


@pytest.mark.parametrize(
    ("orientation", "plane"), [(AXIAL, "axial"), (CORONAL, "coronal"), (SAGITTAL, "sagittal"), (None, None)]
)
def test_the_plane_is_that_of_the_normal(orientation, plane):
    assert said(ImageOrientationPatient=orientation).plane == plane


def test_the_position_is_along_the_normal():
    tags = {"ImageOrientationPatient": CORONAL, "ImagePositionPatient": [3, -42.5, 7]}
    assert abs(said(**tags).slice_position_mm(0)) == 42.5
    assert said().slice_position_mm(0) is None


@pytest.mark.parametrize(
    ("tags", "sequence"),
    [
        ({"RepetitionTime": 500, "EchoTime": 12}, "T1"),
        ({"RepetitionTime": 4000, "EchoTime": 100}, "T2"),
        ({"RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500}, "FLAIR"),
        ({"RepetitionTime": 2500, "EchoTime": 15}, "PD"),
        ({"RepetitionTime": 2000, "EchoTime": 2.9, "InversionTime": 900, "ScanningSequence": ["GR", "IR"]}, "T1"),
        ({"RepetitionTime": 700, "EchoTime": 20, "ScanningSequence": "GR"}, "T2*"),
        ({"RepetitionTime": 4000, "EchoTime": 60, "InversionTime": 160, "ScanningSequence": ["SE", "IR"]}, "STIR"),
        ({"RepetitionTime": 5000, "EchoTime": 90, "DiffusionBValue": 1000.0}, "DWI"),
        ({}, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_kind_of_sequence_is_told_by_its_times(tags, sequence):
    assert said(**tags).sequence == sequence


@pytest.mark.parametrize(
    ("agent", "given"), [("GADAVIST", True), ("8 ml Dotarem", True), ("NONE", False), ("no", False), ("", None)]
)
def test_contrast(agent, given):
    assert said(ContrastBolusAgent=agent).contrast is given


@pytest.mark.parametrize(
    ("maker", "name"),
    [
        ("SIEMENS", "Siemens"),
        ("Siemens Healthineers", "Siemens"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("Philips Medical Systems", "Philips"),
        ("TOSHIBA_MEC", "Toshiba"),
        ("Dr. Hypatia", None),
    ],
)
def test_the_manufacturer_is_one_of_a_list(maker, name):
    assert said(Manufacturer=maker).manufacturer == name


def test_field_strength_is_in_tesla_and_spacing_that_of_square_pixels():
    assert said(MagneticFieldStrength=3).field_strength_t == 3
    assert said(MagneticFieldStrength=15000).field_strength_t == 1.5
    found = said(PixelSpacing=[1.2, 0.6], SliceThickness=5)
    assert (found.pixel_spacing_mm, found.slice_thickness_mm) == (0.6, 5)


def test_no_free_text_of_a_header_is_among_the_attributes():
    texts = ("BodyPartExamined", "Manufacturer", "SeriesDescription", "ProtocolName", "ContrastBolusAgent", "ImageType")
    found = said(**dict.fromkeys(texts, "HYPATIA"), ScanningSequence="HYPATIA", StudyInstanceUID="1.2.77")
    assert "HYPATIA" not in str(asdict(found))
    assert "1.2.77" not in repr(found)


def test_a_siemens_mosaic_is_its_slices():
    slices = [np.clip(GREY.astype(int) + 9 * number, 0, 255).astype(np.uint8) for number in range(7)]
    tiles = [*slices, *[np.zeros_like(GREY)] * 2]
    mosaic = np.vstack([np.hstack(tiles[row * 3 : row * 3 + 3]) for row in range(3)])
    made = dataset(mosaic, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"], SpacingBetweenSlices=4)
    made.ImageOrientationPatient, made.ImagePositionPatient = AXIAL, [-200, -200, 10]
    block = made.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", 7)
    decoded = decode(written(made))
    assert all(np.array_equal(page, right) for page, right in zip(decoded.pages, slices, strict=True))
    assert decoded.attributes.slice_positions_mm == (10, 14, 18, 22, 26, 30, 34)
