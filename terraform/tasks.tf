# Scheduled steps that are called between their schedule's ticks too, where seconds count. Who may add a task says when,
# and nothing more: the queue says what is called, and as whom.

locals {
  # scheduled step -> how often a task tries it, until the schedule's next tick does
  queues = {
    summarise_series = { max_attempts = 5, min_backoff = "1s", max_backoff = "10s" }
  }
}

resource "google_cloud_tasks_queue" "this" {
  for_each = local.queues

  name     = "${var.prefix}${replace(each.key, "_", "-")}"
  location = var.region

  http_target {
    http_method = "POST"

    uri_override {
      scheme                    = "HTTPS"
      host                      = trimprefix(module.step[each.key].url, "https://")
      uri_override_enforce_mode = "ALWAYS"
    }

    oidc_token {
      service_account_email = module.step[each.key].account.email
      audience              = module.step[each.key].url
    }
  }

  retry_config {
    max_attempts = each.value.max_attempts
    min_backoff  = each.value.min_backoff
    max_backoff  = each.value.max_backoff
  }
}
