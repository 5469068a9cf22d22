# From nothing, with everything switched on: a key too, whose grants must be known in the first plan; and a prefix, whose
# names tests/terraform/test_prefix.py looks through.

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

run "everything_switched_on" {
  variables {
    prefix               = "dev-"
    billing_account      = "012345-6789AB-CDEF01"
    imaging_systems      = ["serviceAccount:mri-3@some-project.iam.gserviceaccount.com"]
    uploaders            = ["user:uploader@example.org"]
    clinicians           = ["group:clinicians@example.org"]
    researchers          = ["group:researchers@example.org"]
    erasers              = ["user:privacy@example.org"]
    source_bucket        = "another-bucket"
    label_map            = "glioma=Cancer,ward 3=Unlabelled"
    kms_key              = "projects/some-project/locations/europe-west4/keyRings/a/cryptoKeys/b"
    repository           = { owner = "someone", name = "scanflow", environment = "dev" }
    max_instances        = { validate_scan = 50, inference = 20 }
    training_gpu         = true
    binary_authorization = true
    access_policy        = "123456"
    perimeter_members    = ["user:uploader@example.org"]
    images = {
      inference     = "europe-west4-docker.pkg.dev/some-project/scanflow/inference@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      dashboard     = "europe-west4-docker.pkg.dev/some-project/scanflow/dashboard@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      preprocessing = "europe-west4-docker.pkg.dev/some-project/scanflow/preprocessing@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      training      = "europe-west4-docker.pkg.dev/some-project/scanflow/training@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    }
  }

  assert {
    condition     = alltrue([for bucket in google_storage_bucket.this : bucket.encryption[0].default_kms_key_name == var.kms_key])
    error_message = "The key encrypts every bucket."
  }
  assert {
    condition     = toset(keys(google_kms_crypto_key_iam_member.agents)) == toset(["artifactregistry", "bigquery", "compute", "dataproc", "pubsub", "storage"])
    error_message = "Every agent that encrypts with the key is given it."
  }
  assert {
    condition     = jsondecode(local.batch_template).environmentConfig.executionConfig.kmsKey == var.kms_key
    error_message = "The key encrypts Spark's disks."
  }
  assert {
    condition     = [for grant in google_storage_bucket_iam_member.imaging_systems : grant.role] == ["roles/storage.objectCreator"]
    error_message = "An imaging system creates objects and does nothing else."
  }
  assert {
    condition     = toset([for grant in google_storage_bucket_iam_member.uploaders : grant.role]) == toset(["roles/storage.objectCreator", "roles/storage.objectViewer"])
    error_message = "An uploader can neither delete nor overwrite."
  }
  assert {
    condition     = google_cloudbuild_trigger.pull_request["pull-request"].service_account == google_service_account.this["tester"].id
    error_message = "A pull request's code runs under an account that may do nothing."
  }
  assert {
    condition     = google_cloudbuild_trigger.main["main"].approval_config[0].approval_required
    error_message = "Somebody approves what is deployed."
  }
  assert {
    condition     = google_cloudbuild_trigger.main["main"].substitutions == tomap({ _REGION = "europe-west4", _ALERT_EMAIL = "someone@example.org", _PREFIX = "dev-", _ENVIRONMENT = "dev" })
    error_message = "The pipeline is told whose names it works on."
  }
  assert {
    condition     = jsondecode(google_monitoring_dashboard.this.dashboard_json).displayName == "[dev] Scanflow"
    error_message = "A dashboard says which environment it shows."
  }
  assert {
    condition     = google_access_context_manager_service_perimeter.this[0].status[0].vpc_accessible_services[0].enable_restriction && length(setsubtract(["storage.googleapis.com", "bigquery.googleapis.com", "pubsub.googleapis.com"], google_access_context_manager_service_perimeter.this[0].status[0].restricted_services)) == 0
    error_message = "A perimeter keeps scans, rows and messages in."
  }
  assert {
    condition     = google_binary_authorization_policy.this[0].default_admission_rule[0].evaluation_mode == "ALWAYS_DENY" && google_cloud_run_v2_job.training.binary_authorization[0].use_default
    error_message = "With binary_authorization no image of elsewhere runs."
  }
  assert {
    condition     = !google_cloud_scheduler_job.function["ingest_scans"].paused
    error_message = "A source is ingested."
  }
  assert {
    condition     = google_cloud_run_v2_job.training.template[0].template[0].node_selector[0].accelerator == "nvidia-l4"
    error_message = "With training_gpu the job asks for a GPU."
  }
  assert {
    condition     = google_cloud_run_v2_service.inference.template[0].scaling[0].max_instance_count == 20
    error_message = "Quotas are raised by a variable."
  }
}
