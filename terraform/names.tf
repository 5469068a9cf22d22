# With var.prefix the names of everything begin so, and two environments fit one project. What code names by a constant
# (topics, subscriptions) it finds through NAME_PREFIX, which every function, service and job is given.

locals {
  prefix_setting = var.prefix == "" ? {} : { NAME_PREFIX = var.prefix }

  # Datasets, custom roles and metrics take no dash.
  underscored = replace(var.prefix, "-", "_")

  # Who reads an alert or looks for a dashboard sees which environment it is of.
  shown = var.prefix == "" ? "" : "[${trimsuffix(var.prefix, "-")}] "

  account_ids    = [for name in concat(keys(local.accounts), [for file in fileset("${path.module}/../functions", "*/main.py") : dirname(file)]) : replace(name, "_", "-")]
  longest_prefix = 30 - max([for name in local.account_ids : length(name)]...)
  first_words    = [for name in concat(local.account_ids, local.topics, keys(local.pull_subscriptions), ["spark", "scanflow"]) : split("-", name)[0]]
}
