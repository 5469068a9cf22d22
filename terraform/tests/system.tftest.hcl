# The whole system planned and "applied" against mocked providers: terraform test. tests/terraform/ runs it with a
# provider that knows the schema only.

mock_provider "google" {}
mock_provider "google-beta" {}
mock_provider "archive" {}

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
    condition     = length(google_dataproc_cluster.history) == 0
    error_message = "Nothing runs, and costs, that nobody asked for."
  }
  assert {
    condition     = length(google_cloudbuild_trigger.this) == 0
    error_message = "There is no trigger without a repository."
  }
}

run "everything_switched_on" {
  variables {
    imaging_systems = ["serviceAccount:mri-3@some-project.iam.gserviceaccount.com"]
    uploaders       = ["user:uploader@example.org"]
    clinicians      = ["group:clinicians@example.org"]
    researchers     = ["group:researchers@example.org"]
    source_bucket   = "another-bucket"
    spark_history   = true
    kms_key         = "projects/some-project/locations/europe-west4/keyRings/a/cryptoKeys/b"
    repository      = { owner = "someone", name = "scanflow" }
  }

  assert {
    condition     = alltrue([for bucket in google_storage_bucket.this : bucket.encryption[0].default_kms_key_name == var.kms_key])
    error_message = "The key encrypts every bucket."
  }
  assert {
    condition     = [for grant in google_storage_bucket_iam_member.imaging_systems : grant.role] == ["roles/storage.objectCreator"]
    error_message = "An imaging system creates objects and does nothing else."
  }
  assert {
    condition     = jsondecode(local.batch_template).environmentConfig.peripheralsConfig.sparkHistoryServerConfig.dataprocCluster == google_dataproc_cluster.history[0].id
    error_message = "Batches report to the history server."
  }
  assert {
    condition     = google_cloudbuild_trigger.this["pull-request"].substitutions._APPLY == "false" && google_cloudbuild_trigger.this["main"].substitutions._APPLY == "true"
    error_message = "A pull request is never applied."
  }
  assert {
    condition     = !google_cloud_scheduler_job.function["ingest_scans"].paused
    error_message = "A source is ingested."
  }
}
