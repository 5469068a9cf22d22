# With var.binary_authorization a service runs images of this project's own repositories only, and the hello pages of the
# first apply. Who may push there is iam.tf's to say: the pipeline and the functions' builder.
resource "google_binary_authorization_policy" "this" {
  count = var.binary_authorization && var.owns_project ? 1 : 0

  global_policy_evaluation_mode = "ENABLE"

  dynamic "admission_whitelist_patterns" {
    for_each = [
      "${var.region}-docker.pkg.dev/${var.project}/**",
      "us-docker.pkg.dev/cloudrun/container/**",
    ]
    content {
      name_pattern = admission_whitelist_patterns.value
    }
  }

  default_admission_rule {
    evaluation_mode  = "ALWAYS_DENY"
    enforcement_mode = "ENFORCED_BLOCK_AND_AUDIT_LOG"
  }

  depends_on = [time_sleep.apis]
}
