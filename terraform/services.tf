locals {
  inference_url = google_cloud_run_v2_service.inference.uri
}

# Images of the services, and those that Cloud Functions builds. A pushed image is scanned for known weaknesses.
resource "google_artifact_registry_repository" "images" {
  repository_id = "scanflow"
  location      = var.region
  format        = "DOCKER"
  kms_key_name  = var.kms_key

  docker_config {
    immutable_tags = true
  }

  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  cleanup_policies {
    id     = "keep what a rollback may need"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete the rest"
    action = "DELETE"
    condition {
      older_than = "7776000s" # 90 days
    }
  }

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agents]
}

resource "google_artifact_registry_repository" "functions" {
  repository_id = "scanflow-functions"
  location      = var.region
  format        = "DOCKER"
  kms_key_name  = var.kms_key

  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agents]
}

resource "google_cloud_run_v2_service" "inference" {
  name                = "inference"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL" # other systems call it; IAM asks every caller for a token
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.this["inference"].email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = 32
    timeout                          = "60s"

    scaling {
      min_instance_count = var.inference_min_instances
      max_instance_count = 20
    }

    containers {
      image = var.images.inference

      resources {
        limits            = { cpu = "2", memory = "2Gi" }
        startup_cpu_boost = true
        cpu_idle          = true
      }

      dynamic "env" {
        for_each = {
          GOOGLE_CLOUD_PROJECT = var.project
          SCANS_BUCKET         = local.buckets.scans
          MODELS_BUCKET        = local.buckets.models
        }
        content {
          name  = env.key
          value = env.value
        }
      }

      startup_probe {
        http_get {
          path = "/readyz"
        }
        period_seconds    = 1
        failure_threshold = 60
      }

      liveness_probe {
        http_get {
          path = "/healthz"
        }
        period_seconds    = 10
        failure_threshold = 3
      }
    }
  }

  depends_on = [google_project_service.this]
}

# The pages people open. Identity-Aware Proxy asks who they are before a request reaches the container.
resource "google_cloud_run_v2_service" "dashboard" {
  provider = google-beta

  name                = "dashboard"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  launch_stage        = "BETA"
  iap_enabled         = true
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.this["dashboard"].email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = 80
    timeout                          = "3600s" # a session is one long request
    session_affinity                 = true

    scaling {
      max_instance_count = 5
    }

    containers {
      image = var.images.dashboard

      resources {
        limits            = { cpu = "1", memory = "1Gi" }
        startup_cpu_boost = true
        cpu_idle          = true
      }

      dynamic "env" {
        for_each = {
          GOOGLE_CLOUD_PROJECT = var.project
          DATASET              = local.dataset
          INFERENCE_URL        = local.inference_url
          MODELS_BUCKET        = local.buckets.models
          SCANS_BUCKET         = local.buckets.scans
        }
        content {
          name  = env.key
          value = env.value
        }
      }

      startup_probe {
        http_get {
          path = "/_stcore/health"
        }
        period_seconds    = 1
        failure_threshold = 60
      }

      liveness_probe {
        http_get {
          path = "/_stcore/health"
        }
        period_seconds    = 10
        failure_threshold = 3
      }
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_cloud_run_v2_service_iam_member" "iap" {
  name     = google_cloud_run_v2_service.dashboard.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_project_service_identity.this["iap"].member
}

resource "google_iap_web_cloud_run_service_iam_member" "clinicians" {
  for_each = toset(var.clinicians)

  cloud_run_service_name = google_cloud_run_v2_service.dashboard.name
  location               = var.region
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.value
}

resource "google_cloud_run_v2_job" "training" {
  name                = "training"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account               = google_service_account.this["training"].email
      execution_environment         = "EXECUTION_ENVIRONMENT_GEN2"
      gpu_zonal_redundancy_disabled = true
      timeout                       = "3600s" # the longest a task with a GPU may take
      max_retries                   = 0

      node_selector {
        accelerator = "nvidia-l4"
      }

      containers {
        image = var.images.training

        resources {
          limits = { cpu = "8", memory = "32Gi", "nvidia.com/gpu" = "1" }
        }

        dynamic "env" {
          for_each = {
            GOOGLE_CLOUD_PROJECT = var.project
            PREPARED_BUCKET      = local.buckets.prepared
            MODELS_BUCKET        = local.buckets.models
            DATASET              = local.dataset
          }
          content {
            name  = env.key
            value = env.value
          }
        }
      }
    }
  }

  depends_on = [google_project_service.this]
}

# The release that ships with the code is the first in the bucket. Training adds others and moves the pointer; Terraform
# never moves it back, and a newer bundled release takes no older one away.
locals {
  release_folder = "${path.module}/../services/inference/release"
  release        = jsondecode(file("${local.release_folder}/card.json")).version
}

resource "google_storage_bucket_object" "release" {
  for_each = fileset(local.release_folder, "*") # all of RELEASE_FILES in shared/ml/model.py, or training has no frozen test

  bucket          = google_storage_bucket.this["models"].name
  name            = "releases/${local.release}/${each.value}"
  source          = "${local.release_folder}/${each.value}"
  deletion_policy = "ABANDON"
}

resource "google_storage_bucket_object" "current" {
  bucket     = google_storage_bucket.this["models"].name
  name       = "current.json"
  content    = jsonencode({ version = local.release, previous = null })
  depends_on = [google_storage_bucket_object.release]

  lifecycle {
    ignore_changes = all
  }
}

# Pull requests run everything but the apply; the main branch runs all.
resource "google_cloudbuild_trigger" "this" {
  for_each = { for event in ["pull-request", "main"] : event => var.repository if var.repository != null }

  name            = each.key
  location        = var.region
  filename        = "cloudbuild.yaml"
  service_account = google_service_account.this["deployer"].id

  substitutions = {
    _REGION      = var.region
    _ALERT_EMAIL = var.alert_email
    _APPLY       = each.key == "main"
  }

  github {
    owner = each.value.owner
    name  = each.value.name

    dynamic "pull_request" {
      for_each = each.key == "pull-request" ? [1] : []
      content {
        branch          = "^main$"
        comment_control = "COMMENTS_ENABLED_FOR_EXTERNAL_CONTRIBUTORS_ONLY"
      }
    }

    dynamic "push" {
      for_each = each.key == "main" ? [1] : []
      content {
        branch = "^main$"
      }
    }
  }
}
