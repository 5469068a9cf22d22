# A prefix that begins as a name of the system does: score-scan could be the prefixed name of a thing called scan.

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

run "a_prefix_that_begins_as_a_name_is_refused" {
  command = plan

  variables {
    prefix = "score-"
  }

  expect_failures = [var.prefix]
}
