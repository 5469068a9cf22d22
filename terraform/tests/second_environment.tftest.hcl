# The second environment of a project, planned from nothing: it has its own of everything but what a project has once.

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

run "a_second_environment_leaves_what_a_project_has_once_to_the_first" {
  command = plan

  variables {
    prefix               = "dev-"
    owns_project         = false
    billing_account      = "012345-6789AB-CDEF01"
    binary_authorization = true
    access_policy        = "123456"
  }

  assert {
    condition = alltrue([for made in [
      google_access_context_manager_service_perimeter.this,
      google_billing_budget.this,
      google_binary_authorization_policy.this,
      google_logging_project_bucket_config.audit,
      google_logging_project_bucket_config.regional,
      google_logging_project_sink.audit,
      google_logging_project_sink.default,
      google_project_default_service_accounts.this,
      google_project_iam_audit_config.data,
    ] : length(made) == 0])
    error_message = "A project has these once."
  }
  assert {
    condition     = google_cloud_run_v2_service.inference.binary_authorization[0].use_default
    error_message = "The project's policy holds for every environment that asks for it."
  }
}
