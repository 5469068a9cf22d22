# Every table is append-only and named <view>_raw; the view over it keeps one row a key, the one that was said last
# (said_at), because delivery is at least once and in no order. Columns are in schemas/<view>.json. The local stack makes the same tables and views from these declarations.
# Of a column below, a view keeps the rows that meet its condition: all that people, statistics, series and training read.

locals {
  dataset = "${local.underscored}scanflow"

  # Tables that are asked for their last hours every minute: small partitions, and none older than is ever asked for.
  hourly_tables = ["series_slices", "slice_scores"]

  kept_rows = {
    source = "IFNULL(source, '') != 'synthetic'"        # scans that check_pipeline sends itself
    role   = "IFNULL(role, 'champion') != 'challenger'" # answers in shadow, which nobody was given
  }

  tables = {
    scans                = { key = ["scan_id", "label"], said_at = "uploaded_at", cluster = ["label", "scan_id"] }
    rejections           = { key = ["file_id", "label"], said_at = "uploaded_at", cluster = ["label", "reason"] }
    predictions          = { key = ["scan_id", "model_version"], said_at = "predicted_at", cluster = ["prediction", "scan_id"] }
    features             = { key = ["scan_id", "feature_version"], said_at = "recorded_at", cluster = ["label", "scan_id"] }
    cnn_features         = { key = ["scan_id", "backbone"], said_at = "recorded_at", cluster = ["label", "scan_id"] }
    ingestion_checks     = { key = ["check_id", "label"], said_at = "checked_at", cluster = ["label"] }
    feedback             = { key = ["feedback_id"], said_at = "given_at", cluster = ["scan_id"] }
    dead_letters         = { key = ["dead_letter_id"], said_at = "exhausted_at", cluster = ["subscription"] }
    replays              = { key = ["replay_id"], said_at = "replayed_at", cluster = ["step"] }
    release_decisions    = { key = ["decision_id"], said_at = "decided_at", cluster = ["version"] }
    preprocessing_errors = { key = ["manifest", "scan_id", "label"], said_at = "recorded_at", cluster = ["label", "reason"] }
    drift_checks         = { key = ["check_id"], said_at = "checked_at", cluster = ["model_version"] }
    series_slices        = { key = ["series_id", "scan_id"], said_at = "accepted_at", cluster = ["series_id"] }
    slice_scores         = { key = ["series_id", "scan_id", "model_version"], said_at = "predicted_at", cluster = ["series_id"] }
    series               = { key = ["series_id", "revision"], said_at = "answered_at", cluster = ["series_id"] }
    erasures             = { key = ["erasure_id"], said_at = "recorded_at", cluster = ["file_id"] }
  }
}

locals {
  columns = { for name in keys(local.tables) : name => jsondecode(file("${path.module}/schemas/${name}.json"))[*].name }
  kept    = { for name, columns in local.columns : name => join(" AND ", concat(["TRUE"], [for column, condition in local.kept_rows : condition if contains(columns, column)])) }
}

resource "google_bigquery_dataset" "this" {
  dataset_id                 = local.dataset
  location                   = var.region
  description                = "Scans, predictions and features. For research use, not a medical device."
  max_time_travel_hours      = 168
  delete_contents_on_destroy = !var.deletion_protection

  dynamic "default_encryption_configuration" {
    for_each = var.kms_key[*]
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [time_sleep.apis, google_kms_crypto_key_iam_member.agents]
}

resource "google_bigquery_table" "raw" {
  #checkov:skip=CKV_GCP_80: the dataset's default encryption takes var.kms_key, and so does every table in it
  for_each = local.tables

  dataset_id          = google_bigquery_dataset.this.dataset_id
  table_id            = "${each.key}_raw"
  schema              = file("${path.module}/schemas/${each.key}.json")
  clustering          = each.value.cluster
  deletion_protection = var.deletion_protection

  time_partitioning {
    type          = contains(local.hourly_tables, each.key) ? "HOUR" : "DAY"
    field         = "recorded_at"
    expiration_ms = contains(local.hourly_tables, each.key) ? 90 * 24 * 3600 * 1000 : null
  }
}

resource "google_bigquery_table" "view" {
  #checkov:skip=CKV_GCP_80: a view holds no data
  for_each = local.tables

  dataset_id          = google_bigquery_dataset.this.dataset_id
  table_id            = each.key
  deletion_protection = var.deletion_protection

  view {
    use_legacy_sql = false
    query = templatefile("${path.module}/views/latest.sql", {
      dataset = local.dataset
      table   = each.key
      key     = join(", ", each.value.key)
      said_at = each.value.said_at
      kept    = local.kept[each.key]
    })
  }

  depends_on = [google_bigquery_table.raw]
}
