# Variables that must fit one another.

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

run "a_value_that_does_not_fit_another_is_refused" {
  command = plan

  variables {
    kms_key                 = "projects/p/locations/us-central1/keyRings/a/cryptoKeys/b"
    inference_min_instances = 50
    prefix                  = "development-" # start-preprocessing would have 31 characters
  }

  expect_failures = [
    var.kms_key,
    var.inference_min_instances,
    var.prefix,
  ]
}
