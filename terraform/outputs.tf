output "uploads" {
  description = "Where to drop scans: under Cancer/, Non-Cancer/ or Unlabelled/."
  value       = "gs://${google_storage_bucket.this["uploads"].name}"
}

output "inference_url" {
  description = "Base address of the API; callers send an ID token for it."
  value       = local.inference_url
}

output "dashboard_url" {
  description = "Address of the dashboard; Identity-Aware Proxy asks who you are."
  value       = google_cloud_run_v2_service.dashboard.uri
}

output "deployer" {
  description = "Service account that gcloud builds submit runs as."
  value       = google_service_account.this["deployer"].id
}
