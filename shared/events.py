"""The facts that travel between steps, to and from JSON. They carry ids and object names, never pixels."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self

from shared import config
from shared.labels import Label, label_of
from shared.scan import Placement, placement_of, source_of

Push = Mapping[str, Any]
"""Body of a Pub/Sub push: `{"message": {"data": <base64>, "attributes": {...}, ...}, "subscription": ...}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanUploaded:
    """A new object in the uploads bucket, as Cloud Storage's own notification tells it."""

    bucket: str
    name: str = field(repr=False)  # may name a patient: kept out of every log
    generation: int
    size: int
    """Bytes."""
    source: str
    uploaded_at: str
    """RFC 3339 time of the object's creation."""
    placement: Placement | None = None
    """Of a slice that its uploader put into a series."""

    @property
    def label(self) -> Label:
        """What the top folder says of the scan."""
        return label_of(self.name)

    @property
    def is_folder(self) -> bool:
        """Whether this is the empty object by which a console shows a folder."""
        return self.name.endswith("/") and self.size == 0

    @classmethod
    def from_push(cls, push: Push) -> Self:
        """Parse an OBJECT_FINALIZE notification with a JSON_API_V1 payload, as a push subscription delivers it."""
        return cls.from_notification(json.loads(_data(push)))

    @classmethod
    def from_notification(cls, resource: Mapping[str, Any]) -> Self:
        """Return the upload of a notification's payload. Raises KeyError, TypeError or ValueError for another."""
        return cls(
            bucket=resource["bucket"],
            name=resource["name"],
            generation=int(resource["generation"]),
            size=int(resource["size"]),
            source=source_of(resource.get("metadata") or {}),
            # The same instant as the same text, whoever announces it: some leave zeros at the end out, some do not.
            uploaded_at=datetime.fromisoformat(resource["timeCreated"]).isoformat().replace("+00:00", "Z"),
            placement=placement_of(resource.get("metadata") or {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    def to_json(self) -> bytes:
        """The event as a Pub/Sub message's data."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The event from a Pub/Sub message's data; unknown fields are ignored, so that publishers may go first."""
        known = cls.__dataclass_fields__
        fields: dict[str, Any] = {name: value for name, value in json.loads(data).items() if name in known}
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanAccepted(_Fact):
    """One validated page or frame, now an object of the scans bucket."""

    TOPIC = "scan-accepted"

    scan_id: str
    label: str
    source: str
    bucket: str
    """The scans bucket."""
    name: str
    """Object name in it, made of label and scan id."""
    content_sha256: str
    """SHA-256 of that object's bytes: the scan id itself where the upload passed through unchanged."""
    format: str
    """Format of the upload: JPEG, PNG, BMP, TIFF, DICOM or NIfTI."""
    page: int
    """From 0."""
    pages: int
    width: int
    height: int
    size: int
    """Bytes of the object in the scans bucket."""
    uploaded_at: str
    accepted_at: str
    content_md5: str | None = None
    """MD5 of the upload, base64 as Cloud Storage gives it."""
    generation: int | None = None
    """Of the upload in the uploads bucket."""
    study_id: str | None = None
    """Keyed pseudonym of the study that the file belongs to, where it names one."""
    accession_id: str | None = None
    """Keyed pseudonym of the accession number, by which a hospital finds the study."""
    series_id: str | None = None
    """Keyed pseudonym of the series; the file's own id for a volume or a stack of pages."""
    slice_position_mm: float | None = None
    """Place along the normal of the slices."""
    modality: str | None = None
    """DICOM's code, as in MR."""
    body_part: str | None = None
    """DICOM's word, as in HEAD or BRAIN."""
    plane: str | None = None
    """axial, coronal or sagittal: of the slice's normal."""
    sequence: str | None = None
    """T1, T2, FLAIR, PD, DWI or another kind, as TR, TE and TI tell it."""
    contrast: bool | None = None
    """Whether a contrast agent was given, where the header says so."""
    manufacturer: str | None = None
    field_strength_t: float | None = None
    pixel_spacing_mm: float | None = None
    """Side of a pixel of the stored scan, whose pixels are square."""
    slice_thickness_mm: float | None = None
    note: str | None = None
    """A value of shared.errors.Note: what a reader should know of the picture, such as text burnt into it."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any], bucket: str) -> Self:
        """Return the event that a row of the table `scans` was made of; `bucket` is the scans bucket."""
        known = {name: value for name, value in row.items() if name in cls.__dataclass_fields__}
        times = {name: known[name].isoformat() for name in ("uploaded_at", "accepted_at")}
        return cls(**known | times | {"name": row["object_name"], "bucket": bucket})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRejected(_Fact):
    """A file that can never become a scan, with the reason."""

    TOPIC = "scan-rejected"

    file_id: str
    label: str
    source: str
    reason: str
    """A value of shared.errors.Reason."""
    generation: int
    """Of the object in the uploads bucket, by which an operator finds the file: its name goes nowhere."""
    size: int
    uploaded_at: str
    rejected_at: str
    content_md5: str | None = None
    """MD5 of the upload, base64 as Cloud Storage gives it; None where it was too large to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanScored(_Fact):
    """One model version's prediction for one accepted scan."""

    TOPIC = "scan-scored"

    scan_id: str
    label: str
    model_version: str
    prediction: str
    """A value of shared.ml.model.PredictedClass."""
    probability: float
    """Calibrated probability of Cancer, 0 to 1."""
    threshold: float
    """The release's operating threshold: Cancer at or above it."""
    uploaded_at: str
    predicted_at: str
    study_id: str | None = None
    series_id: str | None = None
    source: str = "unknown"
    tumour_type: str | None = None
    """The most probable type, given that there is a tumour."""
    bucket: str = ""
    """The scans bucket."""
    name: str = ""
    """Object name in it."""
    role: str = "champion"
    """Whose answer it is, a value of shared.ml.prediction.Role; shadow answers are not announced."""
    embedding: list[float] | None = None
    """The network's pooled features, so that nobody runs it again for them; None from a publisher of before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSlice:
    """One slice of a summarised series."""

    scan_id: str
    name: str
    """Of the object in the scans bucket."""
    probability: float
    """Calibrated probability of Cancer of this slice alone, 0 to 1."""
    prediction: str
    position_mm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSummarised(_Fact):
    """One answer for a whole series by one model version. The same slices and version give the same revision."""

    TOPIC = "series-summarised"

    series_id: str
    study_id: str | None
    label: str
    revision: str
    """SHA-256 of the sorted scan ids and the model version."""
    model_version: str
    prediction: str
    """A value of shared.ml.model.PredictedClass."""
    probability: float
    """Probability of Cancer of the series, 0 to 1."""
    lowest_probability: float
    """The least that it becomes where any one slice is left out."""
    highest_probability: float
    """The most that it becomes where any one slice is left out."""
    threshold: float
    tumour_type: str | None
    """None unless the prediction is Cancer."""
    scored: int
    """Slices that the answer rests on."""
    accepted: int
    """Slices that were accepted by then: more than were scored where some had no prediction in time."""
    suspicious: list[ScoredSlice]
    """The most suspicious slices first, a few of them."""
    answered_at: str
    """Time of the last prediction that the answer rests on, so that a second publication says the same."""
    source: str = "unknown"
    previous_revision: str | None = None
    """The revision that this one takes the place of."""

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the event from a Pub/Sub message's data, its slices as ScoredSlice."""
        known = cls.__dataclass_fields__
        fields: dict[str, Any] = {name: value for name, value in json.loads(data).items() if name in known}
        slices = [
            {k: v for k, v in item.items() if k in ScoredSlice.__dataclass_fields__} for item in fields["suspicious"]
        ]
        return cls(**fields | {"suspicious": [ScoredSlice(**item) for item in slices]})


Event = ScanAccepted | ScanRejected | ScanScored | SeriesSummarised


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A dead-letter message: one that exhausted its retries. It says which scan or upload, and nothing else of it."""

    dead_letter_id: str
    """The same for the same message, however often it is dead-lettered or delivered."""
    subscription: str
    """Where it exhausted its retries, as in `score-scan-on-scan-accepted`: without the environment's prefix."""
    attempts: int
    scan_id: str | None
    """None for an upload, whose bytes nobody has hashed yet."""
    generation: int | None
    """Of the object in the uploads bucket, for an upload or a rejected file."""
    published_at: str
    exhausted_at: str
    reason: str | None = None
    """Why it was set aside at once, for a message that no retry can help; None for one that exhausted its retries."""

    @classmethod
    def from_push(cls, push: Push) -> Self:
        """Parse what a dead-letter topic pushes. Pub/Sub's attributes say where the message comes from:
        https://cloud.google.com/pubsub/docs/handling-failures. Its content may be anything, or nothing.
        """
        message = push["message"]
        return cls.from_message(_data(push), message["attributes"], message["publishTime"])

    @classmethod
    def from_message(cls, data: bytes, source: Mapping[str, str], exhausted_at: str) -> Self:
        """Return what a dead-letter message with these attributes says. Raises KeyError if it is none."""
        subscription = source[f"{_DEAD_LETTER}Subscription"].removeprefix(config.name_prefix())
        published_at = source[f"{_DEAD_LETTER}TopicPublishTime"]
        about = _content(data)
        return cls(
            dead_letter_id=hashlib.sha256(f"{subscription}/{published_at}/".encode() + data).hexdigest(),
            subscription=subscription,
            attempts=int(source[f"{_DEAD_LETTER}DeliveryCount"]),
            scan_id=_text(about.get("scan_id")) or _text(about.get("file_id")),
            generation=_whole(about.get("generation")),
            published_at=published_at,
            exhausted_at=exhausted_at,
            reason=source.get(REASON),
        )


REASON = "reason"
"""Attribute of a message that was set aside by a step itself."""
_DEAD_LETTER = "CloudPubSubDeadLetterSource"
"""What the names of the attributes begin with that Pub/Sub gives a dead-letter message."""


def set_aside(subscription: str, published_at: str, attempts: int, reason: str) -> dict[str, str]:
    """Return the attributes that make a message a dead-letter message, as Pub/Sub would, with the reason for it."""
    return {
        f"{_DEAD_LETTER}Subscription": subscription,
        f"{_DEAD_LETTER}TopicPublishTime": published_at,
        f"{_DEAD_LETTER}DeliveryCount": str(attempts),
        REASON: reason,
    }


def original_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return a dead-letter message's attributes as its publisher gave them."""
    return {name: text for name, text in attributes.items() if not name.startswith(_DEAD_LETTER) and name != REASON}


def event_of(attributes: Mapping[str, str], data: bytes) -> Event:
    """The event in a Pub/Sub message. Raises KeyError for a message that is none of ours."""
    kinds: dict[str, type[Event]] = {
        event.TOPIC: event for event in (ScanAccepted, ScanRejected, ScanScored, SeriesSummarised)
    }
    return kinds[attributes["event"]].from_json(data)


def pushed(push: Push) -> Event:
    """The event that a push subscription delivers. Raises KeyError for a message that is none of ours."""
    return event_of(push["message"]["attributes"], _data(push))


def _content(data: bytes) -> dict[str, Any]:
    """The fields of a message; none where it is no JSON object."""
    try:
        fields = json.loads(data)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    """Return a whole number from JSON, where Cloud Storage writes one as text; None if it is none."""
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None


def _data(push: Push) -> bytes:
    return base64.b64decode(push["message"].get("data", ""))
