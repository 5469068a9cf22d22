# One module call for every entry of local.steps and local.scheduled: adding a function is adding an entry there.

locals {
  functions = merge(local.steps, local.scheduled)

  # What each function's zip holds: its own two files and the rooms of shared/, so that a change to one function
  # changes no other's hash.
  shared_files = { for file in fileset("${path.module}/..", "shared/**/*.py") : file => file("${path.module}/../${file}") }
  sources = {
    for name in keys(local.functions) : name => merge(local.shared_files, {
      for file in ["main.py", "requirements.txt"] : file => file("${path.module}/../functions/${name}/${file}")
    })
  }
}

data "archive_file" "function" {
  for_each = local.sources

  type             = "zip"
  output_path      = "${path.module}/.terraform/functions/${each.key}.zip"
  output_file_mode = "0644" # the same on every machine, and so the hash

  dynamic "source" {
    for_each = each.value
    content {
      filename = source.key
      content  = source.value
    }
  }
}

resource "google_storage_bucket_object" "function" {
  for_each = data.archive_file.function

  bucket = google_storage_bucket.this["functions"].name
  name   = "${each.key}-${each.value.output_sha256}.zip"
  source = each.value.output_path

  lifecycle {
    create_before_destroy = true # the old zip goes when the function has the new one
  }
}

module "step" {
  source   = "./modules/step"
  for_each = local.functions

  name        = each.key
  prefix      = var.prefix
  step        = merge(each.value, contains(keys(var.max_instances), each.key) ? { max_instances = var.max_instances[each.key] } : {})
  project     = var.project
  region      = var.region
  source_code = google_storage_bucket_object.function[each.key]
  builder = {
    account    = google_service_account.this["function_builder"].name
    repository = google_artifact_registry_repository.functions.id
  }
  topics = {
    for topic in try(concat(each.value.topics, ["${replace(each.key, "_", "-")}-replay"]), []) :
    topic => local.topic_ids[topic]
  }
  dead_letter_topic     = try(google_pubsub_topic.dead_letter[each.key].id, null)
  delivery              = local.delivery
  pubsub_agent          = google_project_service_identity.this["pubsub"].member
  notification_channels = local.notification_channels
  depends_on            = [time_sleep.builder]
}
