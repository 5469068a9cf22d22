# One step of the pipeline: a function with a service account of its own, and, for each topic that drives it, a push
# subscription with back-off. What exhausts its attempts lies in the step's dead-letter subscription until somebody replays it.

locals {
  shown         = var.prefix == "" ? "" : "[${trimsuffix(var.prefix, "-")}] "
  dashed        = "${var.prefix}${replace(var.name, "_", "-")}"
  subscriptions = { for topic, id in var.topics : topic => "${local.dashed}-on-${topic}" }
}

resource "google_service_account" "this" {
  account_id   = local.dashed
  display_name = "${local.shown}Function ${var.name}"
}

resource "google_cloudfunctions2_function" "this" {
  name     = local.dashed
  location = var.region

  build_config {
    runtime           = "python313"
    entry_point       = var.name
    service_account   = var.builder.account
    docker_repository = var.builder.repository

    source {
      storage_source {
        bucket = var.source_code.bucket
        object = var.source_code.name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.this.email
    ingress_settings                 = "ALLOW_INTERNAL_ONLY"
    all_traffic_on_latest_revision   = true
    available_memory                 = var.step.memory
    available_cpu                    = var.step.cpu
    max_instance_count               = var.step.max_instances
    max_instance_request_concurrency = var.step.concurrency
    timeout_seconds                  = coalesce(var.step.timeout, var.delivery.ack_deadline_seconds)
    environment_variables = merge(var.step.environment, var.prefix == "" ? {} : { NAME_PREFIX = var.prefix }, {
      GOOGLE_CLOUD_PROJECT = var.project
      THREADS              = var.step.concurrency # of the Functions Framework's server: one a request
    })

    dynamic "secret_environment_variables" {
      for_each = var.step.secrets
      content {
        key        = secret_environment_variables.key
        project_id = var.project
        secret     = secret_environment_variables.value
        version    = "latest"
      }
    }
  }

  depends_on = [google_secret_manager_secret_iam_member.reads]
}

# A revision that is given a secret which its account may not read does not start: the right comes first.
resource "google_secret_manager_secret_iam_member" "reads" {
  for_each = var.step.secrets

  project   = var.project
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this.member
}

# The function is called by its own account, for Pub/Sub as for Cloud Scheduler and Cloud Tasks, and by nobody else.
resource "google_cloud_run_v2_service_iam_member" "invoker" {
  name     = google_cloudfunctions2_function.this.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.this.member
}

resource "google_service_account_iam_member" "pubsub_signs" {
  count = length(var.topics) > 0 ? 1 : 0

  service_account_id = google_service_account.this.name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = var.pubsub_agent
}

resource "google_pubsub_subscription" "push" {
  for_each = var.topics

  name                 = local.subscriptions[each.key]
  topic                = each.value
  ack_deadline_seconds = var.delivery.ack_deadline_seconds

  push_config {
    push_endpoint = google_cloudfunctions2_function.this.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.this.email
      audience              = google_cloudfunctions2_function.this.service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = var.delivery.minimum_backoff
    maximum_backoff = var.delivery.maximum_backoff
  }

  dead_letter_policy {
    dead_letter_topic     = var.dead_letter_topic
    max_delivery_attempts = var.delivery.max_delivery_attempts
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.invoker,
    google_pubsub_topic_iam_member.dead_letters_arrive,
    google_service_account_iam_member.pubsub_signs,
  ]
}

# A topic without a subscription keeps nothing, and a dead-letter message would be lost.
resource "google_pubsub_subscription" "dead_letter" {
  count = length(var.topics) > 0 ? 1 : 0

  name                       = "${local.dashed}-dead-letter"
  topic                      = var.dead_letter_topic
  ack_deadline_seconds       = 600
  message_retention_duration = "2678400s" # 31 days, the most there is

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "dead_letters_arrive" {
  count = length(var.topics) > 0 ? 1 : 0

  topic  = var.dead_letter_topic
  role   = "roles/pubsub.publisher"
  member = var.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead_letters_leave" {
  for_each = google_pubsub_subscription.push

  subscription = each.value.name
  role         = "roles/pubsub.subscriber"
  member       = var.pubsub_agent
}

resource "google_monitoring_alert_policy" "queue" {
  count = length(var.topics) > 0 ? 1 : 0

  display_name          = "${local.shown}${var.name}: messages wait, or exhausted their retries"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.notification_channels

  conditions {
    display_name = "The oldest message has waited for two minutes"
    condition_threshold {
      filter = join(" AND ", [
        "resource.type = \"pubsub_subscription\"",
        "metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\"",
        "resource.label.subscription_id = one_of(${join(", ", [for name in values(local.subscriptions) : "\"${name}\""])})",
      ])
      comparison      = "COMPARISON_GT"
      threshold_value = 120
      duration        = "60s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  conditions {
    display_name = "A dead-letter message waits"
    condition_threshold {
      filter = join(" AND ", [
        "resource.type = \"pubsub_subscription\"",
        "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\"",
        "resource.label.subscription_id = \"${google_pubsub_subscription.dead_letter[0].name}\"",
      ])
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Read the function's log for the cause, mend it, then replay the dead letters (docs/operations/recovery.md)."
  }
}
