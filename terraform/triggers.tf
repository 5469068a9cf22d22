# Builds of a connected GitHub repository.

# A pull request's code is run by whoever wrote it: under an account that may write logs and nothing else, by steps that
# stand here and not in a file that the pull request can change.
resource "google_cloudbuild_trigger" "pull_request" {
  for_each = { for repository in var.repository[*] : "pull-request" => repository }

  name            = "${var.prefix}${each.key}"
  location        = var.region
  service_account = google_service_account.this["tester"].id

  build {
    timeout = "3600s"

    step {
      id     = "test"
      name   = "python:3.13-trixie"
      script = "#!/bin/bash\nset -euo pipefail\nmake lint test\n"
    }

    options {
      logging      = "CLOUD_LOGGING_ONLY"
      machine_type = "E2_HIGHCPU_8"
    }
  }

  github {
    owner = each.value.owner
    name  = each.value.name

    pull_request {
      branch          = "^main$"
      comment_control = "COMMENTS_ENABLED_FOR_EXTERNAL_CONTRIBUTORS_ONLY"
    }
  }

  depends_on = [time_sleep.apis]
}

# The main branch is deployed once somebody has approved the build.
resource "google_cloudbuild_trigger" "main" {
  for_each = { for repository in var.repository[*] : "main" => repository }

  name            = "${var.prefix}${each.key}"
  location        = var.region
  filename        = "cloudbuild.yaml"
  service_account = google_service_account.this["deployer"].id

  # What is not given is as cloudbuild.yaml has it: no prefix, and environments/prod.tfvars.
  substitutions = merge(
    { _REGION = var.region, _ALERT_EMAIL = var.alert_email },
    var.prefix == "" ? {} : { _PREFIX = var.prefix },
    each.value.environment == "prod" ? {} : { _ENVIRONMENT = each.value.environment },
  )

  approval_config {
    approval_required = true
  }

  github {
    owner = each.value.owner
    name  = each.value.name

    push {
      branch = "^main$"
    }
  }

  depends_on = [time_sleep.apis]
}
