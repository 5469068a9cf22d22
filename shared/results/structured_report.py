"""A series' answer as a Comprehensive SR after TID 1500 "Measurement Report" (PS3.16)."""

from collections.abc import Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementProperties,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.uid import ExplicitVRLittleEndian

from shared.events import ScoredSlice, SeriesSummarised
from shared.results import codes
from shared.results.headers import join_study, reference
from shared.results.identity import MANUFACTURER, MODEL_NAME, NOTICE, instance_uid, series_uid, uid_of
from shared.scan import page_of

KIND = "structured-report"
_SERIES_NUMBER = 9701


def structured_report(answer: SeriesSummarised, headers: Sequence[Dataset]) -> ComprehensiveSR:
    """Return the report on a series; `headers` are those of `answer.suspicious`, in order.

    It holds the probability with the range that leaving out a slice gives it, the predicted class, the tumour type if
    Cancer, and one measurement group for each suspicious slice, with its probability and a reference to the image.
    """
    evidence = [reference(header) for header in headers]
    report = ComprehensiveSR(
        evidence=_distinct(evidence),
        content=_content(answer, headers),
        series_instance_uid=series_uid(answer.series_id, KIND),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=instance_uid(answer.revision, answer.series_id, KIND),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=answer.model_version,
        device_serial_number=answer.model_version,
        series_description="Scanflow report (unverified, research use)",
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=_predecessor(answer, evidence[0]),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    join_study(report, headers[0], answer.answered_at)
    return report


def _content(answer: SeriesSummarised, headers: Sequence[Dataset]) -> Dataset:
    observer = DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", answer.model_version),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=answer.model_version,
    )
    context = ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=dictionary.DCM.Device, observer_identifying_attributes=observer
        )
    )
    slices = zip(answer.suspicious, headers, strict=True)
    report = MeasurementReport(
        observation_context=context,
        procedure_reported=codes.MRI_OF_BRAIN,
        imaging_measurements=[_series(answer, headers), *(_slice(answer, one, header) for one, header in slices)],
        title=codes.REPORT_TITLE,
    )
    return report[0]


def _series(answer: SeriesSummarised, headers: Sequence[Dataset]) -> MeasurementsAndQualitativeEvaluations:
    """Return the group of the series: what the whole of it says."""
    evaluations = [QualitativeEvaluation(codes.NEOPLASM_OF_BRAIN, codes.PREDICTED_CLASS[answer.prediction])]
    if answer.tumour_type:
        evaluations.append(QualitativeEvaluation(codes.TUMOUR_TYPE, codes.tumour_type(answer.tumour_type)))
    uncertainty = MeasurementProperties(
        upper_measurement_uncertainty=_percent(answer.highest_probability - answer.probability),
        lower_measurement_uncertainty=_percent(answer.probability - answer.lowest_probability),
    )
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uid_of(answer.series_id, "tracking"), identifier=f"Series, {answer.scored} slices"
        ),
        finding_type=codes.NEOPLASM_OF_BRAIN,
        finding_sites=[FindingSite(codes.BRAIN)],
        algorithm_id=_algorithm(answer),
        measurements=[
            Measurement(
                name=codes.PROBABILITY_OF_CANCER,
                value=_percent(answer.probability),
                unit=codes.PERCENT,
                properties=uncertainty,
            )
        ],
        qualitative_evaluations=evaluations,
        source_images=[_source(one, header) for one, header in zip(answer.suspicious, headers, strict=True)],
    )


def _slice(answer: SeriesSummarised, one: ScoredSlice, header: Dataset) -> MeasurementsAndQualitativeEvaluations:
    """Return the group of one suspicious slice."""
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uid_of(answer.series_id, one.scan_id), identifier=f"Slice {answer.suspicious.index(one) + 1}"
        ),
        finding_type=codes.NEOPLASM_OF_BRAIN,
        finding_sites=[FindingSite(codes.BRAIN)],
        algorithm_id=_algorithm(answer),
        measurements=[
            Measurement(name=codes.PROBABILITY_OF_CANCER, value=_percent(one.probability), unit=codes.PERCENT)
        ],
        qualitative_evaluations=[QualitativeEvaluation(codes.NEOPLASM_OF_BRAIN, codes.PREDICTED_CLASS[one.prediction])],
        source_images=[_source(one, header)],
    )


def _algorithm(answer: SeriesSummarised) -> AlgorithmIdentification:
    """Return TID 4019, whose parameters say how to read the probability."""
    return AlgorithmIdentification(
        name=MODEL_NAME,
        version=answer.model_version,
        manufacturer=MANUFACTURER,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        parameters=[
            NOTICE,
            f"Probability calibrated on single slices. Cancer at or above {answer.threshold:.3f}.",
            f"The answer rests on {answer.scored} of {answer.accepted} slices. Its uncertainty is the range of the "
            "probability where any one slice is left out.",
        ],
    )


def _source(one: ScoredSlice, header: Dataset) -> SourceImageForMeasurementGroup:
    page = page_of(one.scan_id)
    return SourceImageForMeasurementGroup(
        referenced_sop_class_uid=str(header.SOPClassUID),
        referenced_sop_instance_uid=str(header.SOPInstanceUID),
        referenced_frame_numbers=None if page is None else [page + 1],
    )


def _predecessor(answer: SeriesSummarised, evidence: Dataset) -> list[Dataset] | None:
    """Return a reference to the report that this one takes the place of."""
    if not answer.previous_revision:
        return None
    before = reference(evidence)
    before.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    before.SOPInstanceUID = instance_uid(answer.previous_revision, answer.series_id, KIND)
    before.SeriesInstanceUID = series_uid(answer.series_id, KIND)
    return [before]


def _distinct(evidence: Sequence[Dataset]) -> list[Dataset]:
    """Return each instance once: several frames of one are one piece of evidence."""
    return list({str(one.SOPInstanceUID): one for one in evidence}.values())


def _percent(share: float) -> float:
    return round(100 * share, 2)
