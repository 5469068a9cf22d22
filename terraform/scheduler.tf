resource "google_cloud_scheduler_job" "function" {
  for_each = local.scheduled

  name             = replace(each.key, "_", "-")
  region           = var.region
  schedule         = each.value.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${each.value.timeout}s"

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
