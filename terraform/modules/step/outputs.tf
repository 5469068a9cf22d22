output "account" {
  description = "Service account that the function runs as."
  value       = google_service_account.this
}

output "url" {
  description = "Where the function is called."
  value       = google_cloudfunctions2_function.this.service_config[0].uri
}

output "function" {
  description = "Name of the function and of the Cloud Run service behind it."
  value       = google_cloudfunctions2_function.this.name
}
