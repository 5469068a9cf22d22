# What every Spark batch has in common; start_preprocessing adds the job and its manifest (shared/gcp/dataproc.py).

locals {
  batch_template = jsonencode({
    runtimeConfig = {
      version        = "3.0" # Spark 4.0 and Java 21: pyproject.toml holds pyspark to the same
      containerImage = local.images.preprocessing
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
        # From runtime 3.0 on a batch runs as whoever submitted it unless told otherwise.
        authenticationConfig = { userWorkloadAuthenticationType = "SERVICE_ACCOUNT" }
        subnetworkUri        = google_compute_subnetwork.spark.id
        kmsKey               = var.kms_key
        ttl                  = "21600s"
      }
    }
  })
}
