# Every variable that has a form refuses what has another, with a sentence that says what to write.

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

run "a_value_of_another_form_is_refused" {
  command = plan

  variables {
    project                  = "Upper_Case"
    prefix                   = "dev"
    region                   = "europe-west4-a"
    alert_email              = "someone"
    billing_account          = "my account"
    labels                   = { A = "b" }
    imaging_systems          = ["allUsers"]
    uploaders                = ["someone@example.org"]
    clinicians               = ["allAuthenticatedUsers"]
    researchers              = ["clinicians"]
    erasers                  = ["allUsers"]
    source_bucket            = "gs://a/b"
    label_map                = "glioma=Tumour"
    max_instances            = { nobody = 5 }
    monthly_budget           = 0
    log_retention_days       = 0
    upload_notification_days = 32
    access_policy            = "organizations/1"
    perimeter_members        = ["group:a@example.org"]
    images                   = { inference = "inference:latest", dashboard = "dashboard:latest", preprocessing = "preprocessing:latest", training = "training:latest" }
    training_gpu             = true
    repository               = { owner = "some one", name = "a/b", environment = "prod" }
    burnt_in_text            = "loud"
    series_quiet_seconds     = 0
  }

  expect_failures = [
    var.project,
    var.prefix,
    var.region,
    var.alert_email,
    var.billing_account,
    var.labels,
    var.imaging_systems,
    var.uploaders,
    var.clinicians,
    var.researchers,
    var.erasers,
    var.source_bucket,
    var.label_map,
    var.max_instances,
    var.monthly_budget,
    var.log_retention_days,
    var.upload_notification_days,
    var.access_policy,
    var.perimeter_members,
    var.images,
    var.repository,
    var.burnt_in_text,
    var.series_quiet_seconds,
  ]
}
