terraform {
  required_version = ">= 1.9"

  # terraform init -backend-config="bucket=<project>-terraform"; bootstrap.sh makes the bucket.
  backend "gcs" {
    prefix = "scanflow"
  }

  required_providers {
    google      = { source = "hashicorp/google", version = "~> 7.46" }
    google-beta = { source = "hashicorp/google-beta", version = "~> 7.46" } # service agents, which it alone makes
    archive     = { source = "hashicorp/archive", version = "~> 2.7" }
    time        = { source = "hashicorp/time", version = "~> 0.13" }
  }
}

provider "google" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true
  default_labels        = local.labels
}

provider "google-beta" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true
  default_labels        = local.labels
}
