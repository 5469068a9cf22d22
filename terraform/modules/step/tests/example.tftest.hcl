# The README's example, applied from nothing against a mocked provider.

mock_provider "google" {}

variables {
  name                  = "validate_scan"
  step                  = { environment = { SCANS_BUCKET = "my-project-scans" }, cpu = "2", memory = "4Gi", concurrency = 4 }
  project               = "my-project"
  region                = "europe-west4"
  source_code           = { bucket = "my-project-functions", name = "validate_scan.zip" }
  builder               = { account = "projects/my-project/serviceAccounts/builder", repository = "projects/my-project/locations/europe-west4/repositories/functions" }
  topics                = { "scan-uploaded" = "projects/my-project/topics/scan-uploaded" }
  dead_letter_topic     = "projects/my-project/topics/validate-scan-dead-letter"
  delivery              = { ack_deadline_seconds = 60, minimum_backoff = "10s", maximum_backoff = "600s", max_delivery_attempts = 20 }
  pubsub_agent          = "serviceAccount:service-1@gcp-sa-pubsub.iam.gserviceaccount.com"
  notification_channels = ["projects/my-project/notificationChannels/1"]
}

run "the_example" {
  assert {
    condition     = keys(google_pubsub_subscription.push) == ["scan-uploaded"] && google_pubsub_subscription.push["scan-uploaded"].name == "validate-scan-on-scan-uploaded"
    error_message = "There is one push subscription for each topic, named after both."
  }
  assert {
    condition     = google_pubsub_subscription.push["scan-uploaded"].dead_letter_policy[0].max_delivery_attempts == 20
    error_message = "What exhausts its attempts goes to the dead-letter topic."
  }
  assert {
    condition     = google_cloudfunctions2_function.this.service_config[0].environment_variables["THREADS"] == "4"
    error_message = "The server has a thread for each request that it is given at a time."
  }
  assert {
    condition     = google_cloudfunctions2_function.this.service_config[0].timeout_seconds == 60
    error_message = "A push is given up when the subscription gives it up."
  }
}
