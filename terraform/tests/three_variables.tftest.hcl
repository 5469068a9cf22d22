# From nothing, with the three variables that have no default. One run a file: a second would find the first one's state.

mock_provider "google" {
  source = "./tests/mocks"
}
mock_provider "google-beta" {}
mock_provider "archive" {}
mock_provider "time" {}

variables {
  project     = "some-project"
  region      = "europe-west4"
  alert_email = "someone@example.org"
}

run "three_variables_are_enough" {
  assert {
    condition     = output.uploads == "gs://some-project-uploads"
    error_message = "The uploads bucket is named after the project."
  }
  assert {
    condition     = alltrue([for bucket in google_storage_bucket.this : bucket.public_access_prevention == "enforced" && bucket.uniform_bucket_level_access])
    error_message = "No bucket can be made public."
  }
  assert {
    condition     = toset(keys(module.step)) == toset(concat(keys(local.steps), keys(local.scheduled)))
    error_message = "Every step and every scheduled step is a function."
  }
  assert {
    condition = alltrue([for name, files in local.sources :
      toset([for file in keys(files) : file if !startswith(file, "shared/")]) == toset(["main.py", "requirements.txt"])
      && files["main.py"] == file("../functions/${name}/main.py")
    ])
    error_message = "A function's zip holds its own files and shared/, so that a change to one changes no other's."
  }
  assert {
    condition     = alltrue([for job in google_cloud_scheduler_job.function : job.http_target[0].oidc_token[0].service_account_email != ""])
    error_message = "Cloud Scheduler shows who it is."
  }
  assert {
    condition = alltrue([for queue in google_cloud_tasks_queue.this :
      queue.http_target[0].uri_override[0].uri_override_enforce_mode == "ALWAYS" && queue.http_target[0].oidc_token[0].service_account_email != ""
    ])
    error_message = "A queue alone says what its tasks call, and as whom."
  }
  assert {
    condition     = length(google_cloudbuild_trigger.pull_request) == 0 && length(google_cloudbuild_trigger.main) == 0
    error_message = "There is no trigger without a repository."
  }
  assert {
    condition     = google_pubsub_topic.this["scan-uploaded"].message_retention_duration == "172800s"
    error_message = "Notifications of uploads, which carry object names, are kept for two days."
  }
  assert {
    condition     = google_logging_project_bucket_config.regional[0].location == var.region && google_logging_project_bucket_config.audit[0].location == var.region
    error_message = "Logs are kept in the region, not in global."
  }
  assert {
    condition     = google_project_default_service_accounts.this[0].action == "DEPRIVILEGE"
    error_message = "Compute Engine's default account loses its rights."
  }
  assert {
    condition     = length(google_billing_budget.this) == 0
    error_message = "There is no budget without a billing account."
  }
  assert {
    condition     = google_cloud_run_v2_service.inference.template[0].containers[0].image == "hello"
    error_message = "Where no images are given, what was deployed last is deployed."
  }
  assert {
    condition     = length(google_cloud_run_v2_job.training.template[0].template[0].node_selector) == 0
    error_message = "The first apply asks for no GPU: a new project has none."
  }
  assert {
    condition     = jsondecode(local.batch_template).environmentConfig.executionConfig.authenticationConfig.userWorkloadAuthenticationType == "SERVICE_ACCOUNT"
    error_message = "A Spark batch runs as its own account, not as whoever submitted it."
  }
}
