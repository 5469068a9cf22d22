# The topics and the steps they drive. The local stack reads these same declarations, so it cannot drift from the cloud.

locals {
  topics = ["scan-uploaded", "scan-accepted", "scan-rejected"]

  # Every step is a function behind one push subscription per topic, named <step>-on-<topic>.
  steps = {
    validate_scan = {
      topics = ["scan-uploaded"]
      environment = {
        SCANS_BUCKET      = local.buckets.scans
        QUARANTINE_BUCKET = local.buckets.quarantine
      }
    }
    write_features = {
      topics = ["scan-accepted"]
      environment = {
        MODELS_BUCKET   = local.buckets.models
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
      topics = ["scan-accepted", "scan-rejected"]
      environment = {
        DATASET = local.dataset
      }
    }
  }

  # Every scheduled step is a function that Cloud Scheduler calls over HTTP.
  scheduled = {
    ingest_scans = {
      schedule = "*/15 * * * *"
      environment = {
        UPLOADS_BUCKET = local.buckets.uploads
        SOURCE_BUCKET  = var.source_bucket
        SOURCE_PREFIX  = var.source_prefix
        LABEL_MAP      = var.label_map
      }
    }
    verify_ingestion = {
      schedule = "30 2 * * *"
      environment = {
        UPLOADS_BUCKET    = local.buckets.uploads
        SCANS_BUCKET      = local.buckets.scans
        QUARANTINE_BUCKET = local.buckets.quarantine
        SOURCE_BUCKET     = var.source_bucket
        SOURCE_PREFIX     = var.source_prefix
        LABEL_MAP         = var.label_map
        DATASET           = local.dataset
      }
    }
    start_preprocessing = {
      schedule = "0 * * * *"
      environment = {
        PREPARED_BUCKET = local.buckets.prepared
        MODELS_BUCKET   = local.buckets.models
        DATASET         = local.dataset
        REGION          = var.region
        BATCH_TEMPLATE  = local.batch_template
      }
    }
  }

  # Retry and dead-letter policy of every push subscription.
  delivery = {
    ack_deadline_seconds  = 60
    minimum_backoff       = "1s"
    maximum_backoff       = "60s"
    max_delivery_attempts = 10
  }

  # Drained in batches by start_preprocessing.
  pull_subscriptions = {
    preprocessing = { topic = "scan-accepted", ack_deadline_seconds = 600 }
  }
}
