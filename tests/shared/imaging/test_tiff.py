import io

import numpy as np
import pytest
import tifffile

from shared.errors import Reason, RejectedScan
from shared.imaging.decoding import decode
from shared.imaging.intensity import scaled
from tests.shared.imaging.drawn import DEEP, GREY, RGB


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def written(*pages, **options):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as out:
        for pixels, page in pages:
            out.write(pixels, **page)
    return file.getvalue()


def pages(content):
    return decode(content).pages


def test_big_endian_big_tiff():
    assert np.array_equal(pages(tiff(DEEP, bigtiff=True, byteorder=">"))[0], scaled(DEEP))


@pytest.mark.parametrize("order", "<>")
def test_an_imagej_stack_of_one_directory_is_all_its_slices(order):
    stack = np.stack([DEEP, DEEP[::-1], DEEP // 2])
    content = tiff(stack, imagej=True, byteorder=order)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert len(file.pages) in (1, 3)
    found = pages(content)
    assert len(found) == 3
    assert all(np.array_equal(page, scaled(values)) for page, values in zip(found, stack, strict=True))


def test_masks_thumbnails_and_pyramids_are_no_pages():
    content = written(
        (GREY, {"photometric": "minisblack"}),
        (GREY[::2, ::2], {"photometric": "minisblack", "subfiletype": 1}),
        (GREY > 40, {"photometric": "mask", "subfiletype": 4}),
        (255 - GREY, {"photometric": "minisblack"}),
    )
    found = pages(content)
    assert [page.shape for page in found] == [GREY.shape, GREY.shape]
    assert np.array_equal(found[1], 255 - GREY)


def test_a_file_whose_only_page_says_it_is_reduced_is_read():
    assert np.array_equal(pages(written((GREY, {"photometric": "minisblack", "subfiletype": 1})))[0], GREY)


def test_separate_planes_and_alpha_of_16_bits():
    deep = RGB.astype(np.uint16) * 257
    planes = tiff(np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(pages(planes)[0], RGB)
    alpha = np.full_like(deep[..., :1], 65535)
    alpha[:30] = 0
    page = pages(tiff(np.dstack([deep, alpha]), photometric="rgb", extrasamples=["unassalpha"]))[0]
    assert not page[:30].any()
    assert np.array_equal(page[30:], RGB[30:])


@pytest.mark.parametrize("factor", [257, 1], ids=["16 bits", "8 bits"])
def test_colour_maps_of_16_and_of_8_bits(factor):
    colours = (np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2]) * factor).astype(np.uint16)
    assert np.array_equal(
        pages(tiff(GREY, photometric="palette", colormap=colours))[0], RGB[..., :1][..., [0]] * 0 + RGB
    )


def test_grey_written_as_three_equal_deep_channels_is_grey():
    assert np.array_equal(pages(tiff(np.dstack([DEEP] * 3), photometric="rgb"))[0], scaled(DEEP))


def test_no_data_is_background_and_takes_no_part_in_the_contrast():
    values = DEEP.astype(np.float32)
    hidden = np.zeros_like(GREY, bool)
    hidden[:20] = True
    content = tiff(np.where(hidden, np.float32(-9999), values), extratags=[(42113, "s", 0, "-9999", True)])
    expected = scaled(values, hidden=hidden)
    assert np.array_equal(pages(content)[0], expected)
    assert not expected[:20].any()


@pytest.mark.parametrize("compression", ["png", "jpeg2000", "jpegxl"])
def test_a_good_file_of_a_compression_that_is_not_read_is_unsupported(compression):
    with pytest.raises(RejectedScan) as rejected:
        decode(tiff(GREY, compression=compression))
    assert rejected.value.reason is Reason.UNSUPPORTED_FORMAT


def test_a_chain_of_pages_that_is_cut_is_truncated():
    content = written(*[(GREY, {"photometric": "minisblack"})] * 2)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        second = file.pages[1].offset
    with pytest.raises(RejectedScan) as rejected:
        decode(content[:second])
    assert rejected.value.reason is Reason.TRUNCATED
