# What every Spark batch has in common; start_preprocessing adds the job and its manifest (shared/gcp/dataproc.py).

locals {
  batch_template = jsonencode({
    runtimeConfig = {
      version        = "3.0" # Spark 4
      containerImage = var.images.preprocessing
      properties = {
        "spark.executor.cores"                 = "4"
        "spark.executor.memory"                = "8g"
        "spark.dynamicAllocation.enabled"      = "true"
        "spark.dynamicAllocation.minExecutors" = "2"
        "spark.dynamicAllocation.maxExecutors" = "50"
      }
    }
    environmentConfig = {
      executionConfig = {
        serviceAccount = google_service_account.this["preprocessing"].email
        subnetworkUri  = google_compute_subnetwork.spark.id
        stagingBucket  = google_storage_bucket.this["spark"].name
        ttl            = "21600s"
      }
      peripheralsConfig = {
        sparkHistoryServerConfig = { for cluster in google_dataproc_cluster.history : "dataprocCluster" => cluster.id }
      }
    }
  })
}

# A cluster of one machine that runs no jobs: it shows the Spark pages of batches that have ended.
resource "google_dataproc_cluster" "history" {
  count = var.spark_history ? 1 : 0

  name   = "spark-history"
  region = var.region

  cluster_config {
    staging_bucket = google_storage_bucket.this["spark"].name
    temp_bucket    = google_storage_bucket.this["spark"].name

    gce_cluster_config {
      subnetwork             = google_compute_subnetwork.spark.id
      internal_ip_only       = true
      service_account        = google_service_account.this["spark_history"].email
      service_account_scopes = ["cloud-platform"]

      shielded_instance_config {
        enable_secure_boot          = true
        enable_vtpm                 = true
        enable_integrity_monitoring = true
      }
    }

    master_config {
      num_instances = 1
      machine_type  = "e2-standard-2"

      disk_config {
        boot_disk_size_gb = 50
      }
    }

    software_config {
      image_version = "2.2-debian12"
      override_properties = {
        "dataproc:dataproc.allow.zero.workers" = "true"
        "spark:spark.history.fs.logDirectory"  = "gs://${google_storage_bucket.this["spark"].name}/*/spark-job-history"
      }
    }

    endpoint_config {
      enable_http_port_access = true
    }

    dynamic "encryption_config" {
      for_each = var.kms_key[*]
      content {
        kms_key_name = encryption_config.value
      }
    }
  }

  depends_on = [google_project_iam_member.spark]
}
