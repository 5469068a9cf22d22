resource "google_monitoring_notification_channel" "email" {
  display_name = "${local.shown}Scanflow alerts"
  type         = "email"
  labels       = { email_address = var.alert_email }
  depends_on   = [time_sleep.apis]
}

locals {
  notification_channels = [google_monitoring_notification_channel.email.id]
}

# What the functions say in their logs, counted. A scan that is never scored ends as a dead-letter message, and
# record_dead_letter then logs how long it has waited: it counts as late in the objective below.

resource "google_logging_metric" "scored" {
  name            = "${local.underscored}scanflow/upload_to_prediction"
  description     = "Seconds from a scan's upload to its prediction or, where there is none, to the dead-letter message"
  filter          = "resource.type=\"cloud_run_revision\" AND ((resource.labels.service_name=\"${module.step["score_scan"].function}\" AND jsonPayload.message=\"scored\") OR (resource.labels.service_name=\"${module.step["record_dead_letter"].function}\" AND jsonPayload.message=\"never scored\"))"
  value_extractor = "EXTRACT(jsonPayload.seconds)"
  label_extractors = {
    prediction = "EXTRACT(jsonPayload.prediction)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "s"
    labels {
      key        = "prediction"
      value_type = "STRING"
    }
  }

  # 60 s is a bucket's bound, so that the objective below counts exactly.
  bucket_options {
    explicit_buckets {
      bounds = [0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600]
    }
  }
}

resource "google_logging_metric" "drifted" {
  name        = "${local.underscored}scanflow/drifted"
  description = "Checks that found the scans' inputs changed, by what most likely changed"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${module.step["check_drift"].function}\" AND jsonPayload.message=\"compared\" AND jsonPayload.change=\"inputs\""
  label_extractors = {
    cause = "EXTRACT(jsonPayload.cause)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    labels {
      key        = "cause"
      value_type = "STRING"
    }
  }
}

resource "google_logging_metric" "rejected" {
  name        = "${local.underscored}scanflow/rejected"
  description = "Files that can never become a scan, by reason"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${module.step["validate_scan"].function}\" AND jsonPayload.message=\"rejected\""
  label_extractors = {
    reason = "EXTRACT(jsonPayload.reason)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    labels {
      key        = "reason"
      value_type = "STRING"
    }
  }
}

resource "google_logging_metric" "synthetic_answered" {
  name            = "${local.underscored}scanflow/synthetic_answered"
  description     = "Seconds from the upload of a known file to its right answer"
  filter          = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${module.step["check_pipeline"].function}\" AND jsonPayload.message=\"synthetic scan answered\""
  value_extractor = "EXTRACT(jsonPayload.seconds)"
  label_extractors = {
    sample = "EXTRACT(jsonPayload.sample)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "s"
    labels {
      key        = "sample"
      value_type = "STRING"
    }
  }
}

resource "google_logging_metric" "synthetic_missed" {
  name        = "${local.underscored}scanflow/synthetic_missed"
  description = "Known files that were not answered in time, or wrongly"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${module.step["check_pipeline"].function}\" AND jsonPayload.message=\"synthetic scan missed\""
  label_extractors = {
    sample = "EXTRACT(jsonPayload.sample)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    labels {
      key        = "sample"
      value_type = "STRING"
    }
  }
}

resource "google_logging_metric" "page_drawn" {
  name            = "${local.underscored}scanflow/page_drawn"
  description     = "Seconds that a page of the dashboard takes to draw"
  filter          = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloud_run_v2_service.dashboard.name}\" AND jsonPayload.message=\"page drawn\""
  value_extractor = "EXTRACT(jsonPayload.seconds)"
  label_extractors = {
    page = "EXTRACT(jsonPayload.page)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "s"
    labels {
      key        = "page"
      value_type = "STRING"
    }
  }
}

resource "google_logging_metric" "page_failed" {
  name        = "${local.underscored}scanflow/page_failed"
  description = "Pages of the dashboard that ended in an error"
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloud_run_v2_service.dashboard.name}\" AND jsonPayload.message=\"page failed\""
  label_extractors = {
    page = "EXTRACT(jsonPayload.page)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    labels {
      key        = "page"
      value_type = "STRING"
    }
  }
}

# Objectives, each with a fast and a slow burn alert: a fiftieth of a month's allowance gone in an hour, or a twentieth
# in six, as Google's SRE workbook has it.

resource "google_monitoring_custom_service" "pipeline" {
  service_id   = "${var.prefix}pipeline"
  display_name = "${local.shown}Upload to prediction"
  depends_on   = [time_sleep.apis]
}

resource "google_monitoring_slo" "upload_to_prediction" {
  service             = google_monitoring_custom_service.pipeline.service_id
  slo_id              = "upload-to-prediction"
  display_name        = "99% of scans are scored within 60 s of their upload"
  goal                = 0.99
  rolling_period_days = 28

  request_based_sli {
    distribution_cut {
      distribution_filter = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.scored.name}\" resource.type=\"cloud_run_revision\""
      range {
        max = 60
      }
    }
  }
}

resource "google_monitoring_service" "inference" {
  service_id   = "${var.prefix}inference"
  display_name = "${local.shown}Inference"

  basic_service {
    service_type = "CLOUD_RUN"
    service_labels = {
      service_name = google_cloud_run_v2_service.inference.name
      location     = var.region
    }
  }
}

resource "google_monitoring_slo" "inference_availability" {
  service             = google_monitoring_service.inference.service_id
  slo_id              = "availability"
  display_name        = "99.5% of requests to inference are answered"
  goal                = 0.995
  rolling_period_days = 28

  basic_sli {
    availability {
      enabled = true
    }
  }
}

resource "google_monitoring_slo" "inference_latency" {
  service             = google_monitoring_service.inference.service_id
  slo_id              = "latency"
  display_name        = "99% of requests to inference take at most 0.5 s"
  goal                = 0.99
  rolling_period_days = 28

  basic_sli {
    latency {
      threshold = "0.5s"
    }
  }
}

locals {
  objectives = {
    upload_to_prediction   = google_monitoring_slo.upload_to_prediction
    inference_availability = google_monitoring_slo.inference_availability
    inference_latency      = google_monitoring_slo.inference_latency
  }

  # A short window beside the long one ends the alert soon after the trouble ends.
  burns = {
    fast = { rate = 14.4, windows = ["3600s", "300s"], severity = "CRITICAL" }
    slow = { rate = 6, windows = ["21600s", "1800s"], severity = "WARNING" }
  }
}

resource "google_monitoring_alert_policy" "burn" {
  for_each = {
    for pair in setproduct(keys(local.objectives), keys(local.burns)) :
    "${pair[0]} ${pair[1]}" => { objective = local.objectives[pair[0]], burn = local.burns[pair[1]] }
  }

  display_name          = "${local.shown}${each.value.objective.display_name}: not kept (${each.key})"
  combiner              = "AND"
  severity              = each.value.burn.severity
  notification_channels = local.notification_channels

  dynamic "conditions" {
    for_each = each.value.burn.windows
    content {
      display_name = "Burns ${each.value.burn.rate} times too fast over ${conditions.value}"
      condition_threshold {
        filter          = "select_slo_burn_rate(\"${each.value.objective.name}\", \"${conditions.value}\")"
        comparison      = "COMPARISON_GT"
        threshold_value = each.value.burn.rate
        duration        = "0s"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Open the dashboard Scanflow: the first row shows which step holds scans up."
  }
}

resource "google_monitoring_alert_policy" "synthetic" {
  display_name          = "${local.shown}A known file is not answered as it must be"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.notification_channels

  conditions {
    display_name = "A head, a lesion or a cat was missed"
    condition_threshold {
      filter          = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.synthetic_missed.name}\" resource.type=\"cloud_run_revision\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_SUM"
      }
    }
  }

  conditions {
    display_name = "No known file was answered for an hour"
    condition_absent {
      filter   = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.synthetic_answered.name}\" resource.type=\"cloud_run_revision\""
      duration = "3600s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_COUNT"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "check_pipeline sends three known files through the bucket every quarter of an hour; its log names the file and the fault. No answer: open the dashboard Scanflow, whose first row shows which step holds scans up. A wrong answer: `python -m services.training rollback`."
  }
}

resource "google_monitoring_alert_policy" "pages" {
  display_name          = "${local.shown}Pages of the dashboard fail or are slow"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.notification_channels

  conditions {
    display_name = "A page ended in an error"
    condition_threshold {
      filter          = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.page_failed.name}\" resource.type=\"cloud_run_revision\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_SUM"
      }
    }
  }

  conditions {
    display_name = "A twentieth of the draws of a page take over 5 s"
    condition_threshold {
      filter          = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.page_drawn.name}\" resource.type=\"cloud_run_revision\""
      comparison      = "COMPARISON_GT"
      threshold_value = 5
      duration        = "600s"

      aggregations {
        alignment_period   = "600s"
        per_series_aligner = "ALIGN_PERCENTILE_95"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "The dashboard's log has an entry `page failed` with the page and the kind of error, and the traceback beside it. Slow pages: BigQuery or inference answers late."
  }
}

# Dead-letter and waiting messages have their alerts in modules/step.

resource "google_monitoring_alert_policy" "preprocessing_waits" {
  display_name          = "${local.shown}Scans wait for preprocessing"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.notification_channels

  conditions {
    display_name = "The oldest accepted scan has waited for three hours"
    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.label.subscription_id = \"${google_pubsub_subscription.pull["preprocessing"].name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 10800
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "scheduled_step_fails" {
  display_name          = "${local.shown}A scheduled step fails"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.notification_channels

  conditions {
    display_name = "Cloud Scheduler got an error"
    condition_matched_log {
      filter = "resource.type=\"cloud_scheduler_job\" AND severity>=ERROR AND resource.labels.job_id=(${join(" OR ", [for name in local.schedule_names : "\"${name}\""])})"
      label_extractors = {
        job = "EXTRACT(resource.labels.job_id)"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "verify-ingestion fails when a count or a hash differs: the table ingestion_checks says which. start-preprocessing fails when five batches of a manifest failed: read the last one's log."
  }
}

resource "google_monitoring_alert_policy" "training_fails" {
  display_name          = "${local.shown}Training failed"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.notification_channels

  conditions {
    display_name = "An execution ended with a failure"
    condition_threshold {
      filter          = "resource.type = \"cloud_run_job\" AND metric.type = \"run.googleapis.com/job/completed_execution_count\" AND metric.label.result = \"failed\" AND resource.label.job_name = \"${google_cloud_run_v2_job.training.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_SUM"
      }
    }
  }
}

# Drift, as far as predictions show it: other scans than before, or another scanner, move these shares first.
locals {
  # PromQL needs the resource type of a metric that several have.
  predictions = "logging_googleapis_com:user_${local.underscored}scanflow_upload_to_prediction_count"
  all         = "${local.predictions}{monitored_resource=\"cloud_run_revision\",prediction!=\"\"}"
  selected    = { for prediction in ["Cancer", "Not a brain MRI"] : prediction => "${local.predictions}{monitored_resource=\"cloud_run_revision\",prediction=\"${prediction}\"}" }
}

resource "google_monitoring_alert_policy" "drift" {
  display_name          = "${local.shown}Scans or predictions have drifted"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.notification_channels

  conditions {
    display_name = "The share of Cancer over 6 hours differs by more than 0.2 from the 18 hours before"
    condition_prometheus_query_language {
      query = join(" ", [
        "abs(sum(increase(${local.selected["Cancer"]}[6h])) / sum(increase(${local.all}[6h]))",
        "- sum(increase(${local.selected["Cancer"]}[18h] offset 6h)) / sum(increase(${local.all}[18h] offset 6h))) > 0.2",
      ])
      duration            = "0s"
      evaluation_interval = "600s"
    }
  }

  conditions {
    display_name = "More than a tenth of the files over 6 hours is not a brain MRI"
    condition_prometheus_query_language {
      query               = "sum(increase(${local.selected["Not a brain MRI"]}[6h])) / sum(increase(${local.all}[6h])) > 0.1"
      duration            = "0s"
      evaluation_interval = "600s"
    }
  }

  conditions {
    display_name = "check_drift told the newest scans from those that the release was measured on"
    condition_threshold {
      filter          = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.drifted.name}\" resource.type=\"cloud_run_revision\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "600s"
        per_series_aligner = "ALIGN_SUM"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Open the dashboard's page Operations: has a source been added, or a scanner changed? A model's figures hold only for scans like those it was tested on."
  }
}

resource "google_monitoring_dashboard" "this" {
  dashboard_json = templatefile("${path.module}/dashboard.json", {
    title         = "${local.shown}Scanflow"
    prefix        = var.prefix
    underscored   = local.underscored
    subscriptions = var.prefix == "" ? "" : " resource.label.subscription_id=starts_with(\\\"${var.prefix}\\\")"
    services      = var.prefix == "" ? "" : " resource.label.service_name=starts_with(\\\"${var.prefix}\\\")"
    datasets      = var.prefix == "" ? "" : " resource.label.dataset_id=\\\"${local.dataset}\\\""
  })
  depends_on = [time_sleep.apis]
}

resource "google_billing_budget" "this" {
  count = var.billing_account != null && var.owns_project ? 1 : 0

  billing_account = var.billing_account
  display_name    = "Scanflow ${var.project}"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = var.monthly_budget
    }
  }

  dynamic "threshold_rules" {
    for_each = [[0.5, "CURRENT_SPEND"], [0.9, "CURRENT_SPEND"], [1, "CURRENT_SPEND"], [1, "FORECASTED_SPEND"]]
    content {
      threshold_percent = threshold_rules.value[0]
      spend_basis       = threshold_rules.value[1]
    }
  }

  all_updates_rule {
    monitoring_notification_channels = local.notification_channels
  }

  depends_on = [time_sleep.apis]
}

# Logs. Entries that may hold a file name, and so a patient's, go to the audit bucket and nowhere else. A project has one
# sink _Default and one audit configuration: those of the environment that owns the project take every environment's logs.

# The bucket _Default lies in `global` and cannot be moved; its sink is pointed at one in the region.
resource "google_logging_project_bucket_config" "regional" {
  count = var.owns_project ? 1 : 0

  project        = var.project
  location       = var.region
  bucket_id      = "${var.prefix}scanflow"
  retention_days = var.log_retention_days
  description    = "Logs of the system, in its region"
  depends_on     = [time_sleep.apis]
}

# Google makes this sink with the project; Terraform takes it over.
resource "google_logging_project_sink" "default" {
  count = var.owns_project ? 1 : 0

  name                   = "_Default"
  destination            = "logging.googleapis.com/${google_logging_project_bucket_config.regional[0].id}"
  filter                 = "NOT LOG_ID(\"cloudaudit.googleapis.com/activity\") AND NOT LOG_ID(\"externalaudit.googleapis.com/activity\") AND NOT LOG_ID(\"cloudaudit.googleapis.com/system_event\") AND NOT LOG_ID(\"externalaudit.googleapis.com/system_event\") AND NOT LOG_ID(\"cloudaudit.googleapis.com/access_transparency\") AND NOT LOG_ID(\"externalaudit.googleapis.com/access_transparency\")"
  unique_writer_identity = true

  exclusions {
    name        = "data-access"
    description = "Kept in the audit bucket alone"
    filter      = local.data_access
  }

  depends_on = [google_logging_project_sink.audit]
}

resource "google_logging_project_bucket_config" "audit" {
  count = var.owns_project ? 1 : 0

  project        = var.project
  location       = var.region
  bucket_id      = "${var.prefix}audit"
  retention_days = 400
  description    = "Who read or changed which scan"
  depends_on     = [time_sleep.apis]
}

locals {
  data_access = "log_id(\"cloudaudit.googleapis.com/data_access\")"
}

resource "google_logging_project_sink" "audit" {
  count = var.owns_project ? 1 : 0

  name                   = "${var.prefix}audit"
  description            = "Data access, kept apart because object names may hold a patient's"
  destination            = "logging.googleapis.com/${google_logging_project_bucket_config.audit[0].id}"
  filter                 = local.data_access
  unique_writer_identity = true
}
