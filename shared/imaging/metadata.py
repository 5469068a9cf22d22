"""What a file says of itself that names nobody, and whether it says that it is no brain MRI."""

from dataclasses import dataclass, field

from shared.errors import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Technical attributes of a file. Each is a number or a word of a closed list: free text could name a patient."""

    modality: str | None = None
    body_part: str | None = None
    plane: str | None = None
    """axial, coronal or sagittal, whichever the slice's normal is nearest to."""
    sequence: str | None = None
    """T1, T2, T2*, FLAIR, PD, STIR or DWI."""
    contrast: bool | None = None
    manufacturer: str | None = None
    field_strength_t: float | None = None
    pixel_spacing_mm: float | None = None
    """Side of a pixel once the pixels are square."""
    slice_thickness_mm: float | None = None
    slice_positions_mm: tuple[float | None, ...] = ()
    """Place of each page along the normal of the slices; empty if unknown."""
    study_uid: str | None = field(default=None, repr=False)
    """Of DICOM. Leads to a patient: kept out of logs and events, where a keyed pseudonym stands for it."""
    series_uid: str | None = field(default=None, repr=False)
    accession_number: str | None = field(default=None, repr=False)
    """The hospital's number of the request that the study answers, in upper case; leads to a patient as well."""
    refusal: Reason | None = None
    """Why the file is not scored: what it says of itself that no brain MRI to be read would say."""

    def slice_position_mm(self, page: int) -> float | None:
        """Return the place of a page (from 0) along the normal of the slices."""
        return self.slice_positions_mm[page] if page < len(self.slice_positions_mm) else None


NOTHING = Attributes()
"""What a file says that says nothing: JPEG, PNG, BMP and TIFF."""
