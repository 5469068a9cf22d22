"""The heat map image is valid, in the study, and shows the evidence where it lies."""

from pathlib import Path

import numpy as np

from shared.results.headers import read_header
from shared.results.heat_map_image import heat_map_images, overlay
from tests.shared.results.conftest import as_read
from tests.support.series import slices, summarised


def test_images_have_no_error(errors, heat_maps) -> None:
    files = slices()[10:13]
    images = heat_map_images(summarised(files), [read_header(file) for file in files], heat_maps)
    assert [errors(image) for image in images] == [set()] * 3


def test_dirty_header_gives_images_with_no_error_of_their_own(data: Path, errors, heat_maps) -> None:
    files = [file.read_bytes() for file in sorted((data / "dicom" / "brainix-epi").iterdir())[:3]]
    for image in heat_map_images(summarised(files), [read_header(file) for file in files], heat_maps):
        assert {error for error in errors(image) if "Patient" not in error} == set()


def test_each_image_is_of_the_study_and_names_its_source(heat_maps) -> None:
    files = slices()[10:13]
    headers = [read_header(file) for file in files]
    images = [as_read(image) for image in heat_map_images(summarised(files), headers, heat_maps)]
    assert {image.StudyInstanceUID for image in images} == {headers[0].StudyInstanceUID}
    assert len({image.SeriesInstanceUID for image in images}) == 1
    sources = [image.SourceImageSequence[0].ReferencedSOPInstanceUID for image in images]
    assert sources == [header.SOPInstanceUID for header in headers]
    assert images[0].PatientOrientation == ["L", "P"]


def test_slice_without_orientation_gives_an_image_all_the_same(errors, heat_maps) -> None:
    files = slices()[10:11]
    header = read_header(files[0])
    del header.ImageOrientationPatient
    (image,) = heat_map_images(summarised(files), [header], heat_maps[:1])
    assert not errors(image)
    assert not as_read(image).PatientOrientation


def test_evidence_is_coloured_where_it_lies_and_nowhere_else(heat_maps) -> None:
    image = overlay(heat_maps[0]).astype(int)
    coloured = np.ptp(image, axis=2) > 30
    scale = image.shape[1] / 197
    row, column = (4.5 / 16 * 233) * scale, (12.5 / 16 * 233 - 18) * scale
    rows, columns = np.nonzero(coloured)
    assert abs(rows.mean() - row) < 6
    assert abs(columns.mean() - column) < 6


def test_legend_is_below_the_image_and_says_research_use(heat_maps) -> None:
    files = slices()[10:11]
    (image,) = heat_map_images(summarised(files), [read_header(files[0])], heat_maps[:1])
    picture = overlay(heat_maps[0])
    assert image.Rows > picture.shape[0]
    assert (image.pixel_array[picture.shape[0] :] == 255).any()
    assert image.BurnedInAnnotation == "NO"
