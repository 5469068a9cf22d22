locals {
  buckets = {
    uploads    = "${var.project}-${var.prefix}uploads"
    scans      = "${var.project}-${var.prefix}scans"
    quarantine = "${var.project}-${var.prefix}quarantine"
    prepared   = "${var.project}-${var.prefix}prepared"
    models     = "${var.project}-${var.prefix}models"
  }

  # Days for which a deleted object can be had back (the soft delete of Cloud Storage). Nothing moves to colder storage:
  # moving ten million objects of 50 KB costs 200 dollars and saves 10 a month. Nothing goes by itself: a quarantine
  # record that went before its upload would make verify_ingestion miss a file every night.
  retention = {
    uploads    = { recover = 30 }
    scans      = { recover = 30 }
    quarantine = { recover = 7 }
    prepared   = { recover = 7 }
    models     = { recover = 90 }
    functions  = { recover = 0 }
  }

  # The system's own, which no code names.
  internal_buckets = {
    functions = "${var.project}-${var.prefix}functions"
  }
}

resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_62: Cloud Audit Logs record every read and write (iam.tf), in a bucket that nobody is given
  for_each = merge(local.buckets, local.internal_buckets)

  name                        = each.value
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  versioning {
    enabled = true
  }

  soft_delete_policy {
    retention_duration_seconds = local.retention[each.key].recover * 24 * 3600
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }

  # An overwritten or deleted version goes after a month, or once three newer ones are there. Two rules, because the
  # conditions of one must all hold.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      num_newer_versions = 3
      with_state         = "ARCHIVED"
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  depends_on = [time_sleep.apis, google_kms_crypto_key_iam_member.agents]
}

# Folders to upload to, so that nobody has to know their names. validate_scan passes over them.
resource "google_storage_bucket_object" "labels" {
  for_each = toset(["Cancer/", "Non-Cancer/", "Unlabelled/"])

  bucket = google_storage_bucket.this["uploads"].name
  name   = each.value
  source = "/dev/null" # empty, as Cloud Storage's own marker of a folder is
}

# The OBJECT_FINALIZE notifications that start everything.
data "google_storage_project_service_account" "this" {
  depends_on = [time_sleep.apis]
}

resource "google_pubsub_topic_iam_member" "storage_publishes" {
  topic  = google_pubsub_topic.this["scan-uploaded"].id
  role   = "roles/pubsub.publisher"
  member = data.google_storage_project_service_account.this.member
}

resource "google_storage_notification" "uploads" {
  bucket         = google_storage_bucket.this["uploads"].name
  topic          = google_pubsub_topic.this["scan-uploaded"].id
  payload_format = "JSON_API_V1"
  event_types    = ["OBJECT_FINALIZE"]
  depends_on     = [google_pubsub_topic_iam_member.storage_publishes]
}
