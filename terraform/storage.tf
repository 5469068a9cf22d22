locals {
  buckets = {
    uploads    = "${var.project}-uploads"
    scans      = "${var.project}-scans"
    quarantine = "${var.project}-quarantine"
    prepared   = "${var.project}-prepared"
    models     = "${var.project}-models"
  }

  # Days after which an object moves to cheaper storage, after which it goes, and for which a deleted one can be had back.
  retention = {
    uploads    = { nearline = 30, delete = null, recover = 30 }
    scans      = { nearline = 90, delete = null, recover = 30 }
    quarantine = { nearline = null, delete = 365, recover = 7 }
    prepared   = { nearline = null, delete = null, recover = 7 }
    models     = { nearline = null, delete = null, recover = 90 }
    functions  = { nearline = null, delete = null, recover = 0 }
    spark      = { nearline = null, delete = 90, recover = 0 }
  }

  # The system's own, which no code names: function sources, and Spark's staging area and event logs.
  internal_buckets = {
    functions = "${var.project}-functions"
    spark     = "${var.project}-spark"
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

  # Of an overwritten or deleted object three versions are kept, and every one for a month.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
      num_newer_versions         = 3
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

  dynamic "lifecycle_rule" {
    for_each = local.retention[each.key].nearline[*]
    content {
      action {
        type          = "SetStorageClass"
        storage_class = "NEARLINE"
      }
      condition {
        age = lifecycle_rule.value
      }
    }
  }

  dynamic "lifecycle_rule" {
    for_each = local.retention[each.key].delete[*]
    content {
      action {
        type = "Delete"
      }
      condition {
        age = lifecycle_rule.value
      }
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.agents]
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
  depends_on = [google_project_service.this]
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
