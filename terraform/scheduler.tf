locals {
  schedule_names = concat([for job in google_cloud_scheduler_job.function : job.name], [google_cloud_scheduler_job.training.name])
}

resource "google_cloud_scheduler_job" "function" {
  for_each = local.scheduled

  name             = "${var.prefix}${replace(each.key, "_", "-")}"
  region           = var.region
  schedule         = each.value.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${each.value.timeout}s"
  paused           = each.key == "ingest_scans" && var.source_bucket == ""

  http_target {
    http_method = "POST"
    uri         = module.step[each.key].url

    oidc_token {
      service_account_email = module.step[each.key].account.email
      audience              = module.step[each.key].url
    }
  }

  retry_config {
    retry_count          = 3
    min_backoff_duration = "30s"
  }
}

# Training starts as its own account, straight through Cloud Run's API.
resource "google_cloud_scheduler_job" "training" {
  name             = "${var.prefix}training"
  region           = var.region
  schedule         = "0 4 * * 0"
  time_zone        = "Etc/UTC"
  attempt_deadline = "180s"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.training.id}:run"

    oauth_token {
      service_account_email = google_service_account.this["training"].email
    }
  }
}

resource "google_cloud_run_v2_job_iam_member" "training" {
  name     = google_cloud_run_v2_job.training.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.this["training"].member
}
