#!/usr/bin/env bash
# What has to be there before the first `terraform plan`: the APIs that plan itself calls, a bucket for Terraform's state,
# and in it the images of the first apply (hello pages). May run again at any time; it changes nothing that is there.
#
#   terraform/bootstrap.sh PROJECT REGION [PREFIX]
#
# PREFIX is Terraform's variable of that name, as in dev-, where two environments share the project. Each has a state of its own.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  echo "usage: terraform/bootstrap.sh PROJECT REGION [PREFIX], for example: terraform/bootstrap.sh my-project europe-west4" >&2
  exit 2
fi
project=$1
region=$2
prefix=${3:-}
if [[ ! $prefix =~ ^([a-z][a-z0-9]*-)?$ ]]; then
  echo "A prefix has lower-case letters and digits and ends with a dash, as in dev-" >&2
  exit 2
fi
state="gs://$project-${prefix}terraform"

need() { # what is asked for, and what to do where it is not there
  "${@:2}" >/dev/null 2>&1 || { echo "$1" >&2; exit 1; }
}
need "Install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install" command -v gcloud
need "Install Terraform 1.9 or later: https://developer.hashicorp.com/terraform/install" command -v terraform
need "Log in first: gcloud auth login" gcloud auth print-access-token
need "Log Terraform in: gcloud auth application-default login" gcloud auth application-default print-access-token
need "You cannot see the project $project: create it, or ask its owner for the role Owner." \
  gcloud projects describe "$project"
if [ "$(gcloud billing projects describe "$project" --format='value(billingEnabled)')" != True ]; then
  echo "Link a billing account first: gcloud billing projects link $project --billing-account=..." >&2
  exit 1
fi

gcloud services enable --project="$project" \
  serviceusage.googleapis.com cloudresourcemanager.googleapis.com iam.googleapis.com cloudbilling.googleapis.com \
  secretmanager.googleapis.com storage.googleapis.com

if ! gcloud storage buckets describe "$state" >/dev/null 2>&1; then
  gcloud storage buckets create "$state" --project="$project" --location="$region" \
    --uniform-bucket-level-access --public-access-prevention
fi
gcloud storage buckets update "$state" --versioning >/dev/null

if ! gcloud storage objects describe "$state/images.json" >/dev/null 2>&1; then
  hello=us-docker.pkg.dev/cloudrun/container
  printf '{"inference": "%s", "dashboard": "%s", "preprocessing": "%s", "training": "%s"}\n' \
    "$hello/hello" "$hello/hello" "$hello/hello" "$hello/job" |
    gcloud storage cp --if-generation-match=0 - "$state/images.json"
fi

# The key that study and series ids are made with: here, so that it is in no state file. A new one makes new ids.
if ! gcloud secrets describe "${prefix}pseudonym-key" --project="$project" >/dev/null 2>&1; then
  head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' |
    gcloud secrets create "${prefix}pseudonym-key" --project="$project" --replication-policy=user-managed --locations="$region" \
      --data-file=-
fi

echo "Ready. Next: cd terraform && terraform init -backend-config=bucket=$project-${prefix}terraform"
