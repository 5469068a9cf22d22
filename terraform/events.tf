# The topics and the steps they drive. The local stack reads these same declarations, so it cannot drift from the cloud.

locals {
  topics = ["scan-uploaded", "scan-accepted", "scan-rejected", "scan-scored", "series-summarised"]

  # Every step is a function behind one push subscription per topic, named <step>-on-<topic>. Its size is given where
  # the module's default does not fit.
  steps = {
    validate_scan = {
      topics        = ["scan-uploaded"]
      memory        = "4Gi" # a 50-megapixel file takes up to 0.7 GiB while it is decoded
      cpu           = "2"
      concurrency   = 4
      max_instances = 10 # 20 vCPU and 40 GiB, the most that a new project may ask for; var.max_instances raises it
      environment = {
        SCANS_BUCKET      = local.buckets.scans
        QUARANTINE_BUCKET = local.buckets.quarantine
        BURNT_IN_TEXT     = var.burnt_in_text
      }
      secrets = { PSEUDONYM_KEY = local.pseudonym_key }
    }
    write_features = {
      topics        = ["scan-scored"]
      memory        = "4Gi"
      cpu           = "2"
      concurrency   = 32 # it decodes two at a time; the rest is waiting
      max_instances = 10
      environment = {
        PREPARED_BUCKET = local.buckets.prepared
        DATASET         = local.dataset
      }
    }
    score_scan = {
      topics = ["scan-accepted"]
      environment = {
        INFERENCE_URL = local.inference_url
        DATASET       = local.dataset
      }
    }
    record_scan = {
      topics = ["scan-accepted", "scan-rejected", "scan-scored", "series-summarised"]
      environment = {
        DATASET              = local.dataset
        REGION               = var.region
        SERIES_QUIET_SECONDS = var.series_quiet_seconds
      }
    }
    record_dead_letter = {
      topics = [
        "validate-scan-dead-letter",
        "write-features-dead-letter",
        "score-scan-dead-letter",
        "record-scan-dead-letter",
        "preprocessing-dead-letter",
        "deliver-dicom-dead-letter",
        "deliver-dicomweb-dead-letter",
        "deliver-fhir-dead-letter",
        "deliver-hl7-dead-letter",
      ]
      environment = {
        DATASET = local.dataset
      }
    }
  }

  # Every scheduled step is a function that Cloud Scheduler calls over HTTP.
  scheduled = {
    ingest_scans = {
      schedule      = "*/15 * * * *"
      timeout       = 1800
      concurrency   = 1 # a call that comes while one runs is refused, and comes again with the next
      max_instances = 1
      environment = {
        UPLOADS_BUCKET = local.buckets.uploads
        SOURCE_BUCKET  = var.source_bucket
        SOURCE_PREFIX  = var.source_prefix
        LABEL_MAP      = var.label_map
      }
    }
    summarise_series = {
      schedule      = "* * * * *"
      timeout       = 60
      max_instances = 1
      environment = {
        DATASET              = local.dataset
        SERIES_QUIET_SECONDS = var.series_quiet_seconds
      }
    }
    verify_ingestion = {
      schedule      = "30 2 * * *"
      timeout       = 1800
      memory        = "4Gi" # as reconcile
      max_instances = 1
      environment = {
        UPLOADS_BUCKET = local.buckets.uploads
        SCANS_BUCKET   = local.buckets.scans
        SOURCE_BUCKET  = var.source_bucket
        SOURCE_PREFIX  = var.source_prefix
        LABEL_MAP      = var.label_map
        DATASET        = local.dataset
      }
    }
    reconcile = {
      schedule      = "30 1 * * *" # before verify_ingestion, which then finds nothing lost
      timeout       = 1800
      memory        = "4Gi" # its temporary files lie in memory: some 150 bytes an upload, twice
      max_instances = 1
      environment = {
        UPLOADS_BUCKET = local.buckets.uploads
        SCANS_BUCKET   = local.buckets.scans
        DATASET        = local.dataset
      }
    }
    check_pipeline = {
      schedule      = "7-59/15 * * * *"
      timeout       = 180
      max_instances = 1
      environment = {
        UPLOADS_BUCKET = local.buckets.uploads
        MODELS_BUCKET  = local.buckets.models
        DATASET        = local.dataset
      }
    }
    check_drift = {
      schedule      = "20 */3 * * *"
      timeout       = 300
      memory        = "1Gi"
      max_instances = 1
      environment = {
        MODELS_BUCKET = local.buckets.models
        DATASET       = local.dataset
      }
    }
    start_preprocessing = {
      schedule      = "0 * * * *"
      timeout       = 540
      memory        = "2Gi" # a manifest of 50,000 scans is built in memory
      max_instances = 1
      environment = {
        PREPARED_BUCKET = local.buckets.prepared
        MODELS_BUCKET   = local.buckets.models
        DATASET         = local.dataset
        REGION          = var.region
        BATCH_TEMPLATE  = local.batch_template
      }
    }
  }

  # Retry and dead-letter policy of every push subscription: twenty attempts take 2.3 hours, so that an outage of a service,
  # or a burst that Cloud Run refuses with 429, ends before the messages do. The alerts fire after minutes.
  delivery = {
    ack_deadline_seconds  = 60
    minimum_backoff       = "10s"
    maximum_backoff       = "600s"
    max_delivery_attempts = 20
  }

  # Drained in batches by start_preprocessing. What nobody can read goes to <name>-dead-letter.
  pull_subscriptions = {
    preprocessing = { topic = "scan-accepted", ack_deadline_seconds = 600 }
    # The gateway's, one for each destination: one that is down holds up none of the others.
    deliver-dicom    = { topic = "series-summarised", ack_deadline_seconds = 60 }
    deliver-dicomweb = { topic = "series-summarised", ack_deadline_seconds = 60 }
    deliver-fhir     = { topic = "series-summarised", ack_deadline_seconds = 60 }
    deliver-hl7      = { topic = "series-summarised", ack_deadline_seconds = 60 }
  }
}

resource "google_pubsub_topic" "this" {
  for_each = toset(local.topics)

  name                       = "${var.prefix}${each.value}"
  kms_key_name               = var.kms_key
  message_retention_duration = "${24 * 3600 * (each.value == "scan-uploaded" ? var.upload_notification_days : 7)}s" # a subscription can be wound back for as long

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [time_sleep.apis, google_kms_crypto_key_iam_member.agents]
}

# What exhausts its attempts goes to a dead-letter topic: a subscription keeps the message until somebody replays it, and
# record_dead_letter writes a row.
resource "google_pubsub_topic" "dead_letter" {
  for_each = merge(local.steps, local.pull_subscriptions)

  name         = "${var.prefix}${replace(each.key, "_", "-")}-dead-letter"
  kms_key_name = var.kms_key

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [time_sleep.apis, google_kms_crypto_key_iam_member.agents]
}

# Messages for one step alone: dead-letter messages that are replayed, and what reconcile finds undone. On the events' own
# topics every other step would get them too.
resource "google_pubsub_topic" "replay" {
  for_each = local.steps

  name         = "${var.prefix}${replace(each.key, "_", "-")}-replay"
  kms_key_name = var.kms_key

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [time_sleep.apis, google_kms_crypto_key_iam_member.agents]
}

locals {
  topic_ids = merge(
    { for name, topic in google_pubsub_topic.this : name => topic.id },
    { for step, topic in google_pubsub_topic.dead_letter : "${replace(step, "_", "-")}-dead-letter" => topic.id },
    { for step, topic in google_pubsub_topic.replay : "${replace(step, "_", "-")}-replay" => topic.id },
  )
}

resource "google_pubsub_subscription" "pull" {
  for_each = local.pull_subscriptions

  name                       = "${var.prefix}${each.key}"
  topic                      = google_pubsub_topic.this[each.value.topic].id
  ack_deadline_seconds       = each.value.ack_deadline_seconds
  message_retention_duration = "2678400s" # 31 days, the most there is

  retry_policy {
    minimum_backoff = local.delivery.minimum_backoff
    maximum_backoff = local.delivery.maximum_backoff
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letter[each.key].id
    max_delivery_attempts = local.delivery.max_delivery_attempts
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [google_pubsub_topic_iam_member.pull_dead_letters_arrive]
}

resource "google_pubsub_subscription" "pull_dead_letter" {
  for_each = local.pull_subscriptions

  name                       = "${var.prefix}${each.key}-dead-letter"
  topic                      = google_pubsub_topic.dead_letter[each.key].id
  ack_deadline_seconds       = 600
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "pull_dead_letters_arrive" {
  for_each = local.pull_subscriptions

  topic  = google_pubsub_topic.dead_letter[each.key].id
  role   = "roles/pubsub.publisher"
  member = google_project_service_identity.this["pubsub"].member
}

resource "google_pubsub_subscription_iam_member" "pull_dead_letters_leave" {
  for_each = local.pull_subscriptions

  subscription = google_pubsub_subscription.pull[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = google_project_service_identity.this["pubsub"].member
}
