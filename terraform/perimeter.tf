# What keeps data from leaving through Google's own services (another project's bucket, a copied table): a VPC Service
# Controls perimeter, which needs an organisation. Off where var.access_policy is null; docs/operations/perimeter.md.

locals {
  perimeter_services = [for api in ["artifactregistry", "bigquery", "cloudfunctions", "dataproc", "pubsub", "run", "storage"] : "${api}.googleapis.com"]
}

resource "google_access_context_manager_service_perimeter" "this" {
  count = var.access_policy != null && var.owns_project ? 1 : 0

  parent         = "accessPolicies/${var.access_policy}"
  name           = "accessPolicies/${var.access_policy}/servicePerimeters/scanflow_${replace(var.project, "-", "_")}"
  title          = "scanflow_${replace(var.project, "-", "_")}"
  perimeter_type = "PERIMETER_TYPE_REGULAR"

  status {
    resources           = ["projects/${data.google_project.this.number}"]
    restricted_services = local.perimeter_services

    vpc_accessible_services {
      enable_restriction = true
      allowed_services   = ["RESTRICTED-SERVICES"]
    }

    dynamic "ingress_policies" {
      for_each = length(var.perimeter_members) > 0 ? [var.perimeter_members] : []
      content {
        ingress_from {
          identities = ingress_policies.value
          sources {
            access_level = "*"
          }
        }
        ingress_to {
          resources = ["projects/${data.google_project.this.number}"]
          dynamic "operations" {
            for_each = local.perimeter_services
            content {
              service_name = operations.value
              method_selectors {
                method = "*"
              }
            }
          }
        }
      }
    }
  }

  depends_on = [time_sleep.apis]
}
