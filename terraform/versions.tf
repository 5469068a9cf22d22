terraform {
  required_version = ">= 1.7"

  # terraform init -backend-config="bucket=<project>-terraform"
  backend "gcs" {
    prefix = "scanflow"
  }

  required_providers {
    google      = { source = "hashicorp/google", version = "~> 6.50" }
    google-beta = { source = "hashicorp/google-beta", version = "~> 6.50" } # Identity-Aware Proxy on Cloud Run, service agents
    archive     = { source = "hashicorp/archive", version = "~> 2.7" }
  }
}

provider "google" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true
}

provider "google-beta" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true
}

data "google_project" "this" {
  project_id = var.project
}

locals {
  apis = [
    "artifactregistry", "bigquery", "billingbudgets", "cloudbuild", "cloudfunctions", "cloudresourcemanager",
    "cloudscheduler", "compute", "containerscanning", "dataproc", "iam", "iap", "logging", "monitoring",
    "ondemandscanning", "pubsub", "run", "storage",
  ]
}

resource "google_project_service" "this" {
  for_each = toset(local.apis)

  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}
