"""A series' answer as an R4 transaction: ImagingStudy, Device, Observation and a preliminary DiagnosticReport.

Everything is created only where its identifier is not there yet, so that ten deliveries leave one of each
(https://hl7.org/fhir/R4/http.html#ccreate).
"""

import uuid
from typing import Any
from urllib.parse import quote

from pydicom import Dataset

from shared.events import SeriesSummarised
from shared.results import codes
from shared.results.headers import text_of
from shared.results.identity import MANUFACTURER, MODEL_NAME, NOTICE, instance_uid, uid_of
from shared.results.structured_report import KIND as REPORT

_UID = "urn:dicom:uid"
_SYSTEMS = {"SCT": "http://snomed.info/sct", "DCM": "http://dicom.nema.org/resources/ontology/DCM"}
_NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
_OWN = "urn:scanflow"
Resource = dict[str, Any]


def transaction(answer: SeriesSummarised, header: Dataset) -> Resource:
    """Return the Bundle that puts an answer into an EMR; `header` is that of any slice of the series."""
    resources = {
        "study": _study(header),
        "device": _device(answer),
        "observation": _observation(answer, header),
        "report": _report(answer, header),
    }
    addresses = {name: f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, answer.revision + name)}" for name in resources}
    entries = [_entry(_linked(resource, addresses), addresses[name]) for name, resource in resources.items()]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _entry(resource: Resource, address: str) -> Resource:
    identifier = resource["identifier"][0]
    condition = f"identifier={quote(identifier['system'], safe='')}|{quote(identifier['value'], safe='')}"
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    return {"fullUrl": address, "resource": resource, "request": request}


def _study(header: Dataset) -> Resource:
    study: Resource = {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": _UID, "value": f"urn:oid:{_text(header, 'StudyInstanceUID')}"}],
        "status": "available",
        "subject": _subject(header),
        "modality": [_coding(_SYSTEMS["DCM"], _text(header, "Modality") or "MR")],
    }
    if number := _text(header, "AccessionNumber"):
        study["identifier"].append({"type": {"coding": [_accession()]}, "value": number})
    return study


def _device(answer: SeriesSummarised) -> Resource:
    return {
        "resourceType": "Device",
        "identifier": [{"system": _OWN, "value": f"{MODEL_NAME} {answer.model_version}"}],
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": MODEL_NAME, "type": "model-name"}],
        "version": [{"value": answer.model_version}],
        "note": [{"text": NOTICE}],
    }


def _observation(answer: SeriesSummarised, header: Dataset) -> Resource:
    observation: Resource = {
        "resourceType": "Observation",
        "identifier": [{"system": _OWN, "value": uid_of(answer.series_id, answer.revision, "observation")}],
        "status": "preliminary",
        "category": [_concept("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging")],
        "code": _coded(codes.PROBABILITY_OF_CANCER),
        "subject": _subject(header),
        "effectiveDateTime": answer.answered_at,
        "valueQuantity": _percent(answer.probability),
        "interpretation": [_coded(codes.PREDICTED_CLASS[answer.prediction])],
        "bodySite": _coded(codes.BRAIN),
        "device": {"reference": "device"},
        "derivedFrom": [{"reference": "study"}],
        "note": [{"text": f"{NOTICE} The answer rests on {answer.scored} of {answer.accepted} slices."}],
        "referenceRange": [
            {"high": _percent(answer.threshold), "text": "Cancer at or above the operating threshold of the model"}
        ],
        "component": [
            _component("lowest-probability", "Lowest, any one slice left out", answer.lowest_probability),
            _component("highest-probability", "Highest, any one slice left out", answer.highest_probability),
        ],
    }
    if answer.tumour_type:
        kind = _coded(codes.tumour_type(answer.tumour_type))
        observation["component"].append({"code": _coded(codes.TUMOUR_TYPE), "valueCodeableConcept": kind})
    if answer.previous_revision:
        before = uid_of(answer.series_id, answer.previous_revision, "observation")
        replaced = {"type": "Observation", "identifier": {"system": _OWN, "value": before}}
        address = "http://hl7.org/fhir/StructureDefinition/observation-replaces"
        observation["extension"] = [{"url": address, "valueReference": replaced}]
    return observation


def _report(answer: SeriesSummarised, header: Dataset) -> Resource:
    return {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": _UID, "value": f"urn:oid:{instance_uid(answer.revision, answer.series_id, REPORT)}"}],
        "status": "preliminary",
        "category": [_concept("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")],
        "code": {"coding": [_coding("http://loinc.org", "24590-2", "MR Brain")]},
        "subject": _subject(header),
        "effectiveDateTime": answer.answered_at,
        "issued": answer.answered_at,
        "result": [{"reference": "observation"}],
        "imagingStudy": [{"reference": "study"}],
        "conclusion": f"{answer.prediction} (probability {answer.probability:.2f}). {NOTICE}",
    }


def _linked(resource: Resource, addresses: dict[str, str]) -> Resource:
    """Return a resource whose references to its neighbours are their addresses in the bundle."""
    for value in resource.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and item.get("reference") in addresses:
                item["reference"] = addresses[item["reference"]]
    return resource


def _subject(header: Dataset) -> Resource:
    """Return a logical reference to the patient: the EMR knows who has this number."""
    identifier = {"value": _text(header, "PatientID") or "unknown"}
    if issuer := _text(header, "IssuerOfPatientID"):
        identifier["system"] = f"urn:scanflow:issuer:{quote(issuer, safe='')}"
    subject: Resource = {"type": "Patient", "identifier": identifier}
    if name := _text(header, "PatientName"):
        subject["display"] = name.replace("^", " ").strip()
    return subject


def _text(header: Dataset, keyword: str) -> str:
    """Return an attribute as R4 takes a string: without control characters, and without blanks around it."""
    return "".join(sign for sign in text_of(header, keyword) if sign.isprintable()).strip()


def _component(code: str, text: str, probability: float) -> Resource:
    return {"code": _concept(_OWN, code, text), "valueQuantity": _percent(probability)}


def _percent(share: float) -> Resource:
    return {"value": round(100 * share, 2), "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}


def _coded(code: codes.Coded) -> Resource:
    system = {"NCIt": _NCIT, "99SCANFLOW": _OWN}.get(code.scheme_designator) or _SYSTEMS[code.scheme_designator]
    return _concept(system, code.value, code.meaning)


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [_coding(system, code, display)]}


def _coding(system: str, code: str, display: str = "") -> Resource:
    return {"system": system, "code": code} | ({"display": display} if display else {})


def _accession() -> Resource:
    return _coding("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN", "Accession ID")
