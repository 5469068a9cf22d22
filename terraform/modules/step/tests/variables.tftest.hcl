# Every variable that has a form refuses what has another.

mock_provider "google" {}

variables {
  pubsub_agent          = "serviceAccount:service-1@gcp-sa-pubsub.iam.gserviceaccount.com"
  source_code           = { bucket = "my-project-functions", name = "validate_scan.zip" }
  builder               = { account = "projects/my-project/serviceAccounts/builder", repository = "projects/my-project/locations/europe-west4/repositories/functions" }
  notification_channels = []
  delivery              = { ack_deadline_seconds = 60, minimum_backoff = "10s", maximum_backoff = "600s", max_delivery_attempts = 20 }
  topics                = { "scan-uploaded" = "projects/my-project/topics/scan-uploaded" }
  dead_letter_topic     = "projects/my-project/topics/validate-scan-dead-letter"
  project               = "my-project"
  region                = "europe-west4"
  step                  = { environment = {} }
}

run "a_value_of_another_form_is_refused" {
  command = plan

  variables {
    name              = "Validate-Scan"
    step              = { environment = { scans_bucket = "a" }, cpu = "two", memory = "4GB", concurrency = 0, max_instances = 0, timeout = 600 }
    project           = "Upper_Case"
    region            = "europe-west4-a"
    dead_letter_topic = null
    delivery          = { ack_deadline_seconds = 5, minimum_backoff = "10", maximum_backoff = "601s", max_delivery_attempts = 4 }
  }

  expect_failures = [
    var.name,
    var.step,
    var.project,
    var.region,
    var.dead_letter_topic,
    var.delivery,
  ]
}

# In runs of their own: what refers to a value that is refused is not looked at.
run "a_prefix_of_another_form_is_refused" {
  command = plan

  variables {
    name   = "validate_scan"
    prefix = "dev"
  }

  expect_failures = [var.prefix]
}

run "a_name_too_long_for_an_account_is_refused" {
  command = plan

  variables {
    name   = "validate_a_scan_of_a_patient"
    prefix = "dev-"
  }

  expect_failures = [var.name]
}
