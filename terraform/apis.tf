# The APIs that everything needs. Nothing starts before they are on: every resource depends on time_sleep.apis, directly or
# through another one (tests/terraform/test_first_apply.py walks the graph).

locals {
  labels = merge({ app = "scanflow" }, var.labels)

  apis = [
    "accesscontextmanager", "artifactregistry", "bigquery", "billingbudgets", "binaryauthorization", "cloudbilling",
    "cloudbuild", "cloudfunctions", "cloudkms", "cloudresourcemanager", "cloudscheduler", "cloudtasks", "compute",
    "containerscanning", "dataproc", "dataprocrm", "iam", "iap", "logging", "monitoring", "ondemandscanning", "pubsub", "run", "secretmanager",
    "storage",
  ]
}

# Read while Terraform plans, before it can switch on anything: bootstrap.sh switches on what these two calls need.
data "google_project" "this" {
  project_id = var.project
}

data "google_storage_bucket_object_content" "images" {
  bucket = "${var.project}-${var.prefix}terraform"
  name   = "images.json"
}

resource "google_project_service" "this" {
  for_each = toset(local.apis)

  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}

# An API answers "has not been used in this project before" for a minute after it is switched on.
resource "time_sleep" "apis" {
  create_duration = "90s"
  triggers        = { apis = join(" ", local.apis) }
  depends_on      = [google_project_service.this]
}

# Service agents that have to be there before they are given anything.
resource "google_project_service_identity" "this" {
  provider = google-beta
  for_each = toset(["artifactregistry", "dataproc", "iap", "pubsub"])

  service    = "${each.value}.googleapis.com"
  depends_on = [time_sleep.apis]
}
