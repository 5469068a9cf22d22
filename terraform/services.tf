locals {
  inference_url = google_cloud_run_v2_service.inference.uri

  # What was deployed last stands in the state bucket: bootstrap.sh puts hello pages there, the pipeline the digests of each
  # successful build. So nobody who applies by hand puts a hello page where a service was.
  images = coalesce(var.images, jsondecode(data.google_storage_bucket_object_content.images.content))

  # A new project may run 20 vCPU and 40 GiB a region, counted as max_instances x size.
  max_instances = merge({ inference = 10, dashboard = 5 }, var.max_instances)

  l4_regions = ["asia-southeast1", "europe-west1", "europe-west4", "us-central1", "us-east4"]
}

# Images of the services, and those that Cloud Functions builds. All are scanned for known weaknesses, the first by the
# pipeline, the others as they are pushed. What is scanned, recorded and deployed goes by digest, so that tags may be moved: were
# they immutable, no policy could clean up an image that has one.
resource "google_artifact_registry_repository" "images" {
  repository_id = "${var.prefix}scanflow"
  location      = var.region
  format        = "DOCKER"
  kms_key_name  = var.kms_key

  vulnerability_scanning_config {
    enablement_config = "DISABLED" # cloudbuild.yaml scans each image itself, and pays once
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

  depends_on = [time_sleep.apis, google_kms_crypto_key_iam_member.agents]
}

resource "google_artifact_registry_repository" "functions" {
  repository_id = "${var.prefix}scanflow-functions"
  location      = var.region
  format        = "DOCKER"
  kms_key_name  = var.kms_key

  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  depends_on = [time_sleep.apis, google_kms_crypto_key_iam_member.agents]
}

resource "google_cloud_run_v2_service" "inference" {
  name                = "${var.prefix}inference"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL" # other systems call it; IAM asks every caller for a token
  deletion_protection = var.deletion_protection

  # The pipeline tries a new revision without traffic, then with a tenth of it; an apply gives all to the latest.
  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  dynamic "binary_authorization" {
    for_each = var.binary_authorization ? [true] : []
    content {
      use_default = true
    }
  }

  template {
    service_account                  = google_service_account.this["inference"].email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = 32
    timeout                          = "60s"

    scaling {
      min_instance_count = var.inference_min_instances
      max_instance_count = local.max_instances.inference
    }

    containers {
      image = local.images.inference

      resources {
        limits            = { cpu = "2", memory = "2Gi" }
        startup_cpu_boost = true
        cpu_idle          = true
      }

      dynamic "env" {
        for_each = merge(local.prefix_setting, {
          GOOGLE_CLOUD_PROJECT = var.project
          SCANS_BUCKET         = local.buckets.scans
          MODELS_BUCKET        = local.buckets.models
          DATASET              = local.dataset
        })
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

  depends_on = [time_sleep.apis]
}

# The pages people open. Identity-Aware Proxy asks who they are before a request reaches the container.
resource "google_cloud_run_v2_service" "dashboard" {
  name                = "${var.prefix}dashboard"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  iap_enabled         = true
  deletion_protection = var.deletion_protection

  # The pipeline tries a new revision without traffic, then with a tenth of it; an apply gives all to the latest.
  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  dynamic "binary_authorization" {
    for_each = var.binary_authorization ? [true] : []
    content {
      use_default = true
    }
  }

  template {
    service_account                  = google_service_account.this["dashboard"].email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = 80
    timeout                          = "3600s" # a session is one long request
    session_affinity                 = true

    scaling {
      max_instance_count = local.max_instances.dashboard
    }

    containers {
      image = local.images.dashboard

      resources {
        limits            = { cpu = "1", memory = "1Gi" }
        startup_cpu_boost = true
        cpu_idle          = true
      }

      dynamic "env" {
        for_each = merge(local.prefix_setting, {
          GOOGLE_CLOUD_PROJECT = var.project
          DATASET              = local.dataset
          INFERENCE_URL        = local.inference_url
          MODELS_BUCKET        = local.buckets.models
          SCANS_BUCKET         = local.buckets.scans
        })
        content {
          name  = env.key
          value = env.value
        }
      }

      # For a reader who looks for a study by its UID, which is hashed in the session and kept nowhere.
      env {
        name = "PSEUDONYM_KEY"
        value_source {
          secret_key_ref {
            secret  = local.pseudonym_key
            version = "latest"
          }
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

  depends_on = [time_sleep.apis, google_secret_manager_secret_iam_member.pseudonym_key]
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
  name                = "${var.prefix}training"
  location            = var.region
  launch_stage        = var.training_gpu ? "BETA" : "GA"
  deletion_protection = false

  dynamic "binary_authorization" {
    for_each = var.binary_authorization ? [true] : []
    content {
      use_default = true
    }
  }

  template {
    template {
      service_account               = google_service_account.this["training"].email
      execution_environment         = "EXECUTION_ENVIRONMENT_GEN2"
      gpu_zonal_redundancy_disabled = var.training_gpu ? true : null
      timeout                       = var.training_gpu ? "3600s" : "43200s" # with a GPU an hour is the most there is
      max_retries                   = 0

      dynamic "node_selector" {
        for_each = var.training_gpu ? ["nvidia-l4"] : []
        content {
          accelerator = node_selector.value
        }
      }

      containers {
        image = local.images.training

        resources {
          limits = merge({ cpu = "8", memory = "32Gi" }, var.training_gpu ? { "nvidia.com/gpu" = "1" } : {})
        }

        dynamic "env" {
          for_each = merge(local.prefix_setting, {
            GOOGLE_CLOUD_PROJECT = var.project
            PREPARED_BUCKET      = local.buckets.prepared
            MODELS_BUCKET        = local.buckets.models
            SCANS_BUCKET         = local.buckets.scans # what readers corrected is read from it
            DATASET              = local.dataset
          })
          content {
            name  = env.key
            value = env.value
          }
        }
      }
    }
  }

  depends_on = [time_sleep.apis]
}

# The release that ships with the code is the first in the bucket. Training adds others and moves the pointer; Terraform
# never moves it back, and a newer bundled release takes no older one away.
locals {
  release_folder = "${path.module}/../services/inference/release"
  release        = jsondecode(file("${local.release_folder}/card.json")).version
}

resource "google_storage_bucket_object" "release" {
  for_each = fileset(local.release_folder, "*") # all of RELEASE_FILES in shared/ml/release_files.py, or training has no frozen test

  bucket          = google_storage_bucket.this["models"].name
  name            = "releases/${local.release}/${each.value}"
  source          = "${local.release_folder}/${each.value}"
  deletion_policy = "ABANDON"
}

locals {
  known_files = ["head.jpg", "lesion.png", "cat.jpg"] # of dashboard/samples
}

# The known files that check_pipeline sends through the bucket.
resource "google_storage_bucket_object" "synthetic" {
  for_each = toset(local.known_files)

  bucket = google_storage_bucket.this["models"].name
  name   = "synthetic/${each.value}"
  source = "${path.module}/../dashboard/samples/${each.value}"
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
