"""What Prometheus reads at /metrics."""

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4, 8, 16)

_stage = Histogram("scanflow_stage_seconds", "Time in a stage of a request", ["stage"], buckets=_BUCKETS)
_predictions = Counter("scanflow_predictions", "Scans predicted, by predicted class", ["prediction"])

# Children are looked up once: a lookup by label takes longer than counting.
STAGES = {stage: _stage.labels(stage) for stage in ("request", "queue", "decode", "prepare", "network")}
PREDICTIONS = {name: _predictions.labels(name) for name in ("Cancer", "Non-Cancer", "Not a brain MRI")}
RESPONSES = Counter("scanflow_responses", "Responses to requests for predictions, by HTTP status", ["status"])
IN_FLIGHT = Gauge("scanflow_in_flight", "Requests for predictions being answered")
BODY_BYTES = Gauge("scanflow_body_bytes", "Bytes of request bodies held in memory")
MODEL = Gauge("scanflow_model", "1 for the release being served", ["version"])
SITES = Gauge("scanflow_site_calibrations", "Sources that are answered by a calibration of their own")
REFUSED_RELEASES = Counter("scanflow_refused_releases", "Releases not served: card, graph and code do not match")
CHALLENGER = Counter("scanflow_challenger", "Scans compared with the challenger, by outcome", ["outcome"])
CHALLENGER_SHARE = Gauge("scanflow_challenger_share", "Share of the scans that the challenger answers", ["version"])
WITHDRAWN = Counter("scanflow_withdrawn_challengers", "Challengers that left their band")
