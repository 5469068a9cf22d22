"""A series' answer as an HL7 v2.5.1 ORU^R01 message."""

from datetime import datetime

from hl7apy.core import Message, Segment
from pydicom import Dataset
from pydicom.valuerep import PersonName

from shared.events import SeriesSummarised
from shared.results import codes
from shared.results.headers import text_of
from shared.results.identity import MANUFACTURER, MODEL_NAME, NOTICE, instance_uid
from shared.results.structured_report import KIND as REPORT

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_PRELIMINARY = "P"


def observation_message(answer: SeriesSummarised, header: Dataset) -> str:
    """Return the message, its segments ended by carriage returns; `header` is that of any slice of the series."""
    message = Message("ORU_R01", version="2.5.1")
    at = datetime.fromisoformat(answer.answered_at).strftime("%Y%m%d%H%M%S%z")
    _fill(
        message.msh,
        {
            "msh_3": MANUFACTURER.upper(),
            "msh_7": at,
            "msh_9": "ORU^R01^ORU_R01",
            "msh_10": control_id(answer),
            "msh_11": "P",
            "msh_18": "UNICODE UTF-8",
        },
    )
    group = message.add_group("ORU_R01_PATIENT_RESULT")
    _fill(group.add_group("ORU_R01_PATIENT").add_segment("PID"), _patient(header))
    order = group.add_group("ORU_R01_ORDER_OBSERVATION")
    _fill(order.add_segment("OBR"), _request(answer, header, at))
    for number, observation in enumerate(_observations(answer, header), start=1):
        segment = order.add_group("ORU_R01_OBSERVATION").add_segment("OBX")
        _fill(segment, {"obx_1": str(number), "obx_11": _PRELIMINARY, "obx_14": at} | observation)
    return str(message.to_er7()) + "\r"


def control_id(answer: SeriesSummarised) -> str:
    """Return the message's control id: the same for each delivery of one revision, 20 characters."""
    return instance_uid(answer.revision, answer.series_id, "hl7").removeprefix("2.25.")[:20]


def _fill(segment: Segment, fields: dict[str, str]) -> None:
    for name, value in fields.items():
        if value:
            setattr(segment, name, value)


def _patient(header: Dataset) -> dict[str, str]:
    sex = text_of(header, "PatientSex")
    return {
        "pid_3": _text(header, "PatientID"),
        "pid_5": _name(header),
        "pid_7": _date(text_of(header, "PatientBirthDate")),
        "pid_8": sex if sex in {"M", "F", "O"} else "",
    }


def _request(answer: SeriesSummarised, header: Dataset, at: str) -> dict[str, str]:
    return {
        "obr_1": "1",
        "obr_3": _text(header, "AccessionNumber") or control_id(answer),
        "obr_4": "24590-2^MR Brain^LN",
        "obr_7": at,
        "obr_22": at,
        "obr_24": "MR",
        "obr_25": _PRELIMINARY,
    }


def _observations(answer: SeriesSummarised, header: Dataset) -> list[dict[str, str]]:
    """Return the fields of each OBX: probability, class, type, where to find the report, and the notice."""
    shown = [
        {
            "obx_2": "NM",
            "obx_3": _code(codes.PROBABILITY_OF_CANCER),
            "obx_5": f"{100 * answer.probability:.2f}",
            "obx_6": "%^Percent^UCUM",
            "obx_18": escaped(f"{MODEL_NAME} {answer.model_version}"),
        },
        {
            "obx_2": "CWE",
            "obx_3": _code(codes.NEOPLASM_OF_BRAIN),
            "obx_5": _code(codes.PREDICTED_CLASS[answer.prediction]),
        },
    ]
    for name, probability in (("lowest", answer.lowest_probability), ("highest", answer.highest_probability)):
        code = f"{name}-probability^{name.capitalize()} where any one slice is left out^99SCANFLOW"
        shown.append({"obx_2": "NM", "obx_3": code, "obx_5": f"{100 * probability:.2f}", "obx_6": "%^Percent^UCUM"})
    if answer.tumour_type:
        kind = _code(codes.tumour_type(answer.tumour_type))
        shown.append({"obx_2": "CWE", "obx_3": _code(codes.TUMOUR_TYPE), "obx_5": kind})
    uids = {
        "113014^DICOM Study^DCM": text_of(header, "StudyInstanceUID"),
        "113012^Report instance^99SCANFLOW": instance_uid(answer.revision, answer.series_id, REPORT),
    }
    shown += [{"obx_2": "ST", "obx_3": code, "obx_5": escaped(uid)} for code, uid in uids.items()]
    notice = f"{NOTICE} The answer rests on {answer.scored} of {answer.accepted} slices."
    return [*shown, {"obx_2": "TX", "obx_3": "notice^Notice^99SCANFLOW", "obx_5": notice}]


def _name(header: Dataset) -> str:
    """Return a DICOM person name as XPN: prefix and suffix change places (PS3.5 6.2; HL7 v2.5.1 2.A.88)."""
    name = PersonName(text_of(header, "PatientName"))
    parts = [name.family_name, name.given_name, name.middle_name, name.name_suffix, name.name_prefix]
    return "^".join(escaped(str(part)) for part in parts).rstrip("^")


def _date(text: str) -> str:
    """Return a date as DICOM and HL7 both write it, empty if it is none: an interface refuses the message for one."""
    try:
        return datetime.strptime(text, "%Y%m%d").strftime("%Y%m%d")
    except ValueError:
        return ""


def _text(header: Dataset, keyword: str) -> str:
    return escaped(text_of(header, keyword))


def _code(code: codes.Coded) -> str:
    return f"{code.value}^{escaped(code.meaning)}^{code.scheme_designator}"


def escaped(text: str) -> str:
    """Return text with HL7's delimiters escaped (v2.5.1 2.7) and without control characters, which end segments."""
    return "".join(_ESCAPES.get(sign, sign) for sign in text if sign.isprintable())
