# Every table is append-only and named <view>_raw; the view over it keeps one row a key, because delivery is at least
# once. Columns are in schemas/<view>.json. The local stack makes the same tables and views from these declarations.

locals {
  dataset = "scanflow"

  tables = {
    scans                = { key = ["scan_id", "label"], cluster = ["label", "scan_id"] }
    rejections           = { key = ["file_id", "label"], cluster = ["label", "reason"] }
    predictions          = { key = ["scan_id", "model_version"], cluster = ["prediction", "scan_id"] }
    features             = { key = ["scan_id", "feature_version"], cluster = ["label", "scan_id"] }
    cnn_features         = { key = ["scan_id", "backbone"], cluster = ["label", "scan_id"] }
    ingestion_checks     = { key = ["check_id", "label"], cluster = ["label"] }
    feedback             = { key = ["feedback_id"], cluster = ["scan_id"] }
    preprocessing_errors = { key = ["manifest", "scan_id", "label"], cluster = ["label", "reason"] }
  }
}
