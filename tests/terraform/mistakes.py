"""One example of every kind of mistake that a check of terraform/ must find."""

MISTAKES = {
    "misspelt resource": 'resource "google_pubsub_topik" "a" {\n  name = "a"\n}',
    "misspelt data source": 'data "google_projekt" "a" {}',
    "misspelt attribute": 'resource "google_pubsub_topic" "b" {\n  name = "a"\n  lables = {}\n}',
    "misspelt block": (
        'resource "google_pubsub_subscription" "c" {\n  name  = "a"\n  topic = "b"\n  retry_polcy {}\n}'
    ),
    "misspelt attribute of a reference": 'output "d" {\n  value = google_storage_bucket.this["uploads"].ulr\n}',
    "missing argument": 'resource "google_pubsub_subscription" "e" {\n  name = "a"\n}',
    "missing block": 'resource "google_monitoring_alert_policy" "f" {\n  combiner     = "OR"\n  display_name = "a"\n}',
    "one block too many": (
        'resource "google_pubsub_topic" "g" {\n  name = "a"\n  schema_settings {\n    schema = "a"\n  }\n'
        '  schema_settings {\n    schema = "b"\n  }\n}'
    ),
    "wrong type": 'resource "google_pubsub_topic" "h" {\n  name = ["a"]\n}',
    "dangling resource": 'output "i" {\n  value = google_pubsub_topic.nowhere.id\n}',
    "dangling local": 'output "j" {\n  value = local.nowhere\n}',
    "dangling variable": 'output "k" {\n  value = var.nowhere\n}',
    "dangling module": 'output "l" {\n  value = module.nowhere\n}',
    "misspelt output": 'output "m" {\n  value = module.step["validate_scan"].uri\n}',
    "misspelt argument of a module": (
        'module "n" {\n  source   = "./modules/step"\n  for_each = {}\n  nmae     = "a"\n}'
    ),
}
