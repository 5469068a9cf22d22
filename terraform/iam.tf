# Who may do what. The maps below are the whole of it: read from top to bottom they are an access review.
# tests/terraform/test_least_privilege.py holds them against the calls that the code makes.

locals {
  pseudonym_key = "${var.prefix}pseudonym-key"

  accounts = {
    inference        = "Inference service"
    dashboard        = "Dashboard"
    preprocessing    = "Spark batches"
    training         = "Training job"
    function_builder = "Builds the functions"
    image_builder    = "Builds the images"
    deployer         = "Cloud Build pipeline"
    tester           = "Tests pull requests"
    gateway          = "Hospital gateway"
  }

  members = merge(
    { for name, account in google_service_account.this : name => account.member },
    { for name, step in module.step : name => step.account.member },
  )

  account_names = merge(
    { for name, account in google_service_account.this : name => account.name },
    { for name, step in module.step : name => step.account.name },
  )

  # account -> bucket -> what it may do with objects
  bucket_access = {
    validate_scan       = { uploads = ["read"], scans = ["read", "create"], quarantine = ["create"] }
    write_features      = { scans = ["read"], prepared = ["read"] }
    ingest_scans        = { uploads = ["read", "create"] }
    verify_ingestion    = { uploads = ["read"], scans = ["read"] }
    reconcile           = { uploads = ["read"] }
    check_drift         = { models = ["read"] }
    check_pipeline      = { uploads = ["read", "create"], models = ["read"] }
    start_preprocessing = { prepared = ["read", "create"] }
    inference           = { scans = ["read"], models = ["read"] }
    dashboard           = { models = ["read"] }
    preprocessing       = { scans = ["read"], models = ["read"], prepared = ["write"] }
    training            = { prepared = ["read"], models = ["write"], scans = ["read"] }
    function_builder    = { functions = ["read"] }
    gateway             = { uploads = ["read", "add"] } # it stands in a hospital: it shall delete nothing
    deployer            = { uploads = ["add"], functions = ["write"] }
  }

  # account -> tables it appends rows to, one by one
  table_appends = {
    write_features     = ["features"]
    score_scan         = ["predictions"]
    record_scan        = ["scans", "rejections", "series_slices", "slice_scores", "series"]
    verify_ingestion   = ["ingestion_checks"]
    check_drift        = ["drift_checks"]
    record_dead_letter = ["dead_letters"]
    dashboard          = ["feedback"]
    training           = ["release_decisions"]
    inference          = ["release_decisions"]
  }

  # account -> tables it loads files into
  table_loads = {
    preprocessing = ["features", "cnn_features", "preprocessing_errors"]
  }

  # accounts that query the dataset
  queries = ["verify_ingestion", "reconcile", "summarise_series", "check_drift", "check_pipeline", "dashboard", "deployer", "training"]

  # accounts that may write the releases' pointer, and no other object: inference takes a challenger out that left its band
  pointer_writers = ["inference"]

  # account -> topics it publishes to
  publishes = {
    validate_scan       = ["scan-accepted", "scan-rejected"]
    score_scan          = ["scan-scored"]
    summarise_series    = ["series-summarised"]
    start_preprocessing = ["preprocessing-dead-letter"]
    reconcile           = ["scan-uploaded", "score-scan-replay"]
  }

  # account -> queues it adds tasks to
  enqueues = {
    record_scan = ["summarise_series"]
  }

  # account -> subscriptions it drains
  drains = {
    start_preprocessing = ["preprocessing"]
    gateway             = ["deliver-dicom", "deliver-dicomweb", "deliver-fhir", "deliver-hl7"]
  }

  # accounts that turn Study and Series Instance UIDs into pseudonyms, beside the steps that name the secret in local.steps
  pseudonym_makers = ["gateway", "dashboard"]

  # accounts that call the inference service
  inference_callers = ["score_scan", "dashboard", "deployer", "gateway"]

  # account -> accounts it may start something as
  acts_as = {
    start_preprocessing = ["preprocessing"]
    deployer            = concat(["inference", "dashboard", "training", "function_builder", "image_builder"], keys(local.functions))
  }

  researcher_tables = flatten([for name in ["scans", "features", "cnn_features"] : [name, "${name}_raw"]])

  object_roles = {
    read   = "roles/storage.objectViewer"
    add    = "roles/storage.objectCreator" # a name that is taken answers 403 then (shared/gcp/storage.py)
    create = google_project_iam_custom_role.object_creator.id
    write  = "roles/storage.objectUser"
  }
}

resource "google_service_account" "this" {
  for_each = local.accounts

  account_id   = "${var.prefix}${replace(each.key, "_", "-")}"
  display_name = "${local.shown}${each.value}"
  depends_on   = [time_sleep.apis]
}

# Creating an object where one of its name exists asks for the right to delete it before the precondition
# if_generation_match=0 is looked at; without that right a scan delivered twice would fail instead of being passed over.
resource "google_project_iam_custom_role" "object_creator" {
  role_id     = "${local.underscored}scanflowObjectCreator"
  title       = "Creates objects once"
  permissions = ["storage.objects.create", "storage.objects.delete"]
  depends_on  = [time_sleep.apis]
}

resource "google_project_iam_custom_role" "row_appender" {
  role_id     = "${local.underscored}scanflowRowAppender"
  title       = "Appends rows to tables, reads none"
  permissions = ["bigquery.tables.get", "bigquery.tables.updateData"]
  depends_on  = [time_sleep.apis]
}

# roles/bigquery.dataEditor would let a batch read every row and delete the table.
resource "google_project_iam_custom_role" "table_loader" {
  role_id     = "${local.underscored}scanflowTableLoader"
  title       = "Loads files into a table, reads none"
  permissions = ["bigquery.tables.get", "bigquery.tables.update", "bigquery.tables.updateData"]
  depends_on  = [time_sleep.apis]
}

# roles/bigquery.dataEditor would let whoever erases rows delete tables too.
resource "google_project_iam_custom_role" "row_eraser" {
  role_id = "${local.underscored}scanflowRowEraser"
  title   = "Reads, deletes and appends rows, deletes no table"
  permissions = [
    "bigquery.tables.get",
    "bigquery.tables.getData",
    "bigquery.tables.list",
    "bigquery.tables.updateData",
  ]
  depends_on = [time_sleep.apis]
}

resource "google_project_iam_custom_role" "batch_submitter" {
  role_id     = "${local.underscored}scanflowBatchSubmitter"
  title       = "Submits Dataproc batches and asks after them"
  permissions = ["dataproc.batches.create", "dataproc.batches.get", "dataproc.operations.get"]
  depends_on  = [time_sleep.apis]
}

resource "google_project_iam_custom_role" "build_submitter" {
  role_id     = "${local.underscored}scanflowBuildSubmitter"
  title       = "Submits builds and asks after them, changes no trigger"
  permissions = ["cloudbuild.builds.create", "cloudbuild.builds.get", "cloudbuild.builds.list"]
  depends_on  = [time_sleep.apis]
}

resource "google_storage_bucket_iam_member" "accounts" {
  for_each = merge([
    for account, buckets in local.bucket_access : merge([
      for bucket, rights in buckets : {
        for right in rights : "${account} may ${right} ${bucket}" => { account = account, bucket = bucket, right = right }
      }
    ]...)
  ]...)

  bucket = google_storage_bucket.this[each.value.bucket].name
  role   = local.object_roles[each.value.right]
  member = local.members[each.value.account]
}

resource "google_storage_bucket_iam_member" "pointer_writers" {
  for_each = toset(local.pointer_writers)

  bucket = google_storage_bucket.this["models"].name
  role   = google_project_iam_custom_role.object_creator.id
  member = local.members[each.value]

  condition {
    title      = "The pointer alone"
    expression = "resource.name == \"projects/_/buckets/${local.buckets.models}/objects/current.json\""
  }
}

resource "google_storage_bucket_iam_member" "source" {
  for_each = toset(var.source_bucket == "" ? [] : ["ingest_scans", "verify_ingestion"])

  bucket = var.source_bucket
  role   = "roles/storage.objectViewer"
  member = local.members[each.value]
}

resource "google_storage_bucket_iam_member" "imaging_systems" {
  for_each = toset(var.imaging_systems)

  bucket = google_storage_bucket.this["uploads"].name
  role   = "roles/storage.objectCreator"
  member = each.value
}

# The upload script reads back what it sent, to resume and to verify. Without the right to delete, nobody can overwrite what
# another has sent: names are made of the content, and a name that is taken answers 403.
resource "google_storage_bucket_iam_member" "uploaders" {
  for_each = merge([
    for role in ["roles/storage.objectViewer", "roles/storage.objectCreator"] : {
      for member in var.uploaders : "${member} as ${role}" => { member = member, role = role }
    }
  ]...)

  bucket = google_storage_bucket.this["uploads"].name
  role   = each.value.role
  member = each.value.member
}

# Who erases finds every version of an object, deletes it, and writes files of many scans again without one.
resource "google_storage_bucket_iam_member" "erasers" {
  for_each = merge([
    for bucket, role in {
      uploads    = "roles/storage.objectUser"
      scans      = "roles/storage.objectUser"
      quarantine = "roles/storage.objectUser"
      prepared   = "roles/storage.objectUser"
      models     = "roles/storage.objectViewer"
    } : { for member in var.erasers : "${member} in ${bucket}" => { member = member, bucket = bucket, role = role } }
  ]...)

  bucket = google_storage_bucket.this[each.value.bucket].name
  role   = each.value.role
  member = each.value.member
}

resource "google_bigquery_dataset_iam_member" "erasers" {
  for_each = toset(var.erasers)

  dataset_id = google_bigquery_dataset.this.dataset_id
  role       = google_project_iam_custom_role.row_eraser.id
  member     = each.value
}

resource "google_project_iam_member" "eraser_jobs" {
  for_each = toset(var.erasers)

  project    = var.project
  role       = "roles/bigquery.jobUser"
  member     = each.value
  depends_on = [time_sleep.apis]
}

resource "google_storage_bucket_iam_member" "researchers" {
  for_each = toset(var.researchers)

  bucket = google_storage_bucket.this["scans"].name
  role   = "roles/storage.objectViewer"
  member = each.value
}

resource "google_bigquery_table_iam_member" "appends" {
  for_each = merge([
    for account, tables in local.table_appends : {
      for table in tables : "${account} appends to ${table}" => { account = account, table = table }
    }
  ]...)

  dataset_id = google_bigquery_dataset.this.dataset_id
  table_id   = google_bigquery_table.raw[each.value.table].table_id
  role       = google_project_iam_custom_role.row_appender.id
  member     = local.members[each.value.account]
}

resource "google_bigquery_table_iam_member" "loads" {
  for_each = merge([
    for account, tables in local.table_loads : {
      for table in tables : "${account} loads ${table}" => { account = account, table = table }
    }
  ]...)

  dataset_id = google_bigquery_dataset.this.dataset_id
  table_id   = google_bigquery_table.raw[each.value.table].table_id
  role       = google_project_iam_custom_role.table_loader.id
  member     = local.members[each.value.account]
}

resource "google_bigquery_dataset_iam_member" "queries" {
  for_each = toset(local.queries)

  dataset_id = google_bigquery_dataset.this.dataset_id
  role       = "roles/bigquery.dataViewer"
  member     = local.members[each.value]
}

resource "google_bigquery_table_iam_member" "researchers" {
  for_each = merge([
    for member in var.researchers : {
      for table in local.researcher_tables : "${member} reads ${table}" => { member = member, table = table }
    }
  ]...)

  dataset_id = google_bigquery_dataset.this.dataset_id
  table_id   = each.value.table
  role       = "roles/bigquery.dataViewer"
  member     = each.value.member
  depends_on = [google_bigquery_table.raw, google_bigquery_table.view]
}

# Running a query or a load says nothing about which tables it may touch: those are named above.
resource "google_project_iam_member" "jobs" {
  for_each = setunion(local.queries, keys(local.table_loads))

  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = local.members[each.value]
}

resource "google_project_iam_member" "researcher_jobs" {
  for_each = toset(var.researchers)

  project    = var.project
  role       = "roles/bigquery.jobUser"
  member     = each.value
  depends_on = [time_sleep.apis]
}

resource "google_pubsub_topic_iam_member" "publishes" {
  for_each = merge([
    for account, topics in local.publishes : {
      for topic in topics : "${account} publishes ${topic}" => { account = account, topic = topic }
    }
  ]...)

  topic  = local.topic_ids[each.value.topic]
  role   = "roles/pubsub.publisher"
  member = local.members[each.value.account]
}

resource "google_cloud_tasks_queue_iam_member" "enqueues" {
  for_each = merge([
    for account, queues in local.enqueues : {
      for name in queues : "${account} adds tasks to ${name}" => { account = account, name = name }
    }
  ]...)

  name     = google_cloud_tasks_queue.this[each.value.name].name
  location = var.region
  role     = "roles/cloudtasks.enqueuer"
  member   = local.members[each.value.account]
}

resource "google_pubsub_subscription_iam_member" "drains" {
  for_each = merge([
    for account, subscriptions in local.drains : {
      for name in subscriptions : "${account} drains ${name}" => { account = account, name = name }
    }
  ]...)

  subscription = google_pubsub_subscription.pull[each.value.name].name
  role         = "roles/pubsub.subscriber"
  member       = local.members[each.value.account]
}

# bootstrap.sh makes the key of the pseudonyms, so that it is in no state file.
resource "google_secret_manager_secret_iam_member" "pseudonym_key" {
  for_each = toset(local.pseudonym_makers)

  secret_id = local.pseudonym_key
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this[each.value].member
}

moved {
  from = google_secret_manager_secret_iam_member.pseudonym_key["validate_scan"]
  to   = module.step["validate_scan"].google_secret_manager_secret_iam_member.reads["PSEUDONYM_KEY"]
}

resource "google_cloud_run_v2_service_iam_member" "inference_callers" {
  for_each = toset(local.inference_callers)

  name     = google_cloud_run_v2_service.inference.name
  location = var.region
  role     = "roles/run.invoker"
  member   = local.members[each.value]
}

resource "google_service_account_iam_member" "acts_as" {
  for_each = merge([
    for account, others in local.acts_as : {
      for other in others : "${account} acts as ${other}" => { account = account, other = other }
    }
  ]...)

  service_account_id = local.account_names[each.value.other]
  role               = "roles/iam.serviceAccountUser"
  member             = local.members[each.value.account]
}

resource "google_project_iam_member" "batch_submitter" {
  project = var.project
  role    = google_project_iam_custom_role.batch_submitter.id
  member  = local.members["start_preprocessing"]
}

# Dataproc asks for this role, which brings the right to every bucket of the project: the condition takes that away, so
# that a batch never sees the uploads.
resource "google_project_iam_member" "spark" {
  for_each = toset(["preprocessing"])

  project = var.project
  role    = "roles/dataproc.worker"
  member  = google_service_account.this[each.value].member

  condition {
    title      = "no bucket"
    expression = "resource.service != \"storage.googleapis.com\""
  }
}

resource "google_artifact_registry_repository_iam_member" "images_are_read" {
  for_each = toset(["preprocessing"])

  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = local.members[each.value]
}

resource "google_artifact_registry_repository_iam_member" "functions_are_built" {
  repository = google_artifact_registry_repository.functions.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.this["function_builder"].member
}

resource "google_project_iam_member" "function_builder" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.this["function_builder"].member
}

# Cloud Functions copies a function's zip into a bucket that it makes itself, where the build reads it.
resource "google_project_iam_member" "function_builder_sources" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.this["function_builder"].member

  condition {
    title      = "no bucket but those of Cloud Functions"
    expression = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-\")"
  }
}

# The pipeline replaces code: images, functions, Cloud Run revisions. A change to anything else, rights above all, is
# refused to it and made by a person.
resource "google_project_iam_member" "deployer" {
  for_each = toset([
    "roles/browser",
    "roles/cloudfunctions.developer",
    "roles/logging.logWriter",
    "roles/ondemandscanning.admin",
    "roles/run.developer",
    "roles/serviceusage.serviceUsageConsumer",
  ])

  project = var.project
  role    = each.value
  member  = local.members["deployer"]
}

# It builds images by a build of its own, as image_builder (terraform/images.yaml).
resource "google_project_iam_member" "deployer_builds" {
  project = var.project
  role    = google_project_iam_custom_role.build_submitter.id
  member  = local.members["deployer"]
}

# A pull request's tests may write logs and nothing else.
resource "google_project_iam_member" "tester" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = local.members["tester"]
}

resource "google_artifact_registry_repository_iam_member" "images_are_built" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = local.members["image_builder"]
}

# The code of packages runs while images are built: under an account that reads the sources, writes logs and pushes images.
resource "google_project_iam_member" "image_builder" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = local.members["image_builder"]
}

resource "google_storage_bucket_iam_member" "image_builder_sources" {
  bucket = "${var.project}-${var.prefix}terraform"
  role   = "roles/storage.objectViewer"
  member = local.members["image_builder"]

  condition {
    title      = "sources alone, not the state"
    expression = "resource.name.startsWith(\"projects/_/buckets/${var.project}-${var.prefix}terraform/objects/source/\")"
  }
}

# Objects of the state bucket, and the bucket itself, which `gcloud builds submit` looks at before it uploads sources.
resource "google_storage_bucket_iam_member" "state" {
  for_each = toset(["roles/storage.objectUser", "roles/storage.legacyBucketReader"])

  bucket = "${var.project}-${var.prefix}terraform"
  role   = each.value
  member = local.members["deployer"]
}

resource "google_artifact_registry_repository_iam_member" "images_are_scanned" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = local.members["deployer"]
}

# BigQuery makes its encryption account when somebody asks for it.
data "google_bigquery_default_service_account" "this" {
  count = var.kms_key == null ? 0 : 1

  depends_on = [time_sleep.apis]
}

# Who encrypts with var.kms_key. The keys of the map are known in plan, its values only once the agents are made.
locals {
  kms_agents = {
    artifactregistry = google_project_service_identity.this["artifactregistry"].member
    bigquery         = one(data.google_bigquery_default_service_account.this[*].member)
    compute          = "serviceAccount:service-${data.google_project.this.number}@compute-system.iam.gserviceaccount.com" # Spark's disks
    dataproc         = google_project_service_identity.this["dataproc"].member
    pubsub           = google_project_service_identity.this["pubsub"].member
    storage          = data.google_storage_project_service_account.this.member
  }
}

resource "google_kms_crypto_key_iam_member" "agents" {
  for_each = { for agent, member in local.kms_agents : agent => member if var.kms_key != null }

  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
  depends_on    = [time_sleep.apis]
}

# Who read or changed a scan. Object names are in these entries, and a file name may name a patient: they go to a bucket
# of their own (monitoring.tf), which nobody is given.
resource "google_project_iam_audit_config" "data" {
  for_each = toset(var.owns_project ? ["bigquery.googleapis.com", "storage.googleapis.com"] : [])

  project = var.project
  service = each.value

  dynamic "audit_log_config" {
    for_each = toset(["ADMIN_READ", "DATA_READ", "DATA_WRITE"])
    content {
      log_type = audit_log_config.value
    }
  }

  depends_on = [time_sleep.apis]
}

# Compute Engine's own account is an editor of the project unless an organisation policy forbids it. Nothing here uses it.
resource "google_project_default_service_accounts" "this" {
  count = var.owns_project ? 1 : 0

  project    = var.project
  action     = "DEPRIVILEGE"
  depends_on = [time_sleep.apis]
}

# What Cloud Functions' builds are given has to be known everywhere before eight of them start at once.
resource "time_sleep" "builder" {
  create_duration = "60s"

  depends_on = [
    google_artifact_registry_repository_iam_member.functions_are_built,
    google_project_iam_member.function_builder,
    google_project_iam_member.function_builder_sources,
  ]
}
