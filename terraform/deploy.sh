#!/bin/sh
# A release in steps, so that a bad one reaches nobody, or a tenth, or is taken back whole. cloudbuild.yaml calls them in
# this order, with trials between them (tests/smoke.py):
#
#   candidate      a new revision of each service, with a tag and without traffic
#   tenth          a tenth of the traffic for it
#   all            terraform apply: services, functions, jobs and Spark's image
#   keep           remember what is deployed, for the next release's way back and for who applies by hand
#   traffic-back   after a step that failed: all traffic to the revisions from before
#   state-back     and then images, functions and Terraform's state
#
# A step that fails leaves the file `failed`; those after it do nothing until the last two act on it and fail the build.
# Reads PROJECT_ID, REGION, ENVIRONMENT, PREFIX (dev-, or nothing) and images.json, the digests to release. Runs from the repository's root, in any image with sh.
set -eu

services="inference dashboard"
prefix=${PREFIX:-}
state="gs://$PROJECT_ID-${prefix}terraform"
step=${1:-}
root=$(pwd)

finish() {
  code=$?
  [ "$code" -eq 0 ] && exit 0
  echo "The step $step failed."
  touch "$root/failed"
  exit 0
}

image() { # by its digest: a tag may be moved, and the scan was of this one
  python3 -c 'import json, sys; print(json.load(open("images.json"))[sys.argv[1]])' "$1"
}

serving() { # the revision that has all the traffic
  gcloud run services describe "$prefix$1" --region="$REGION" --format=json |
    python3 -c 'import json, sys; print(*[to["revisionName"] for to in json.load(sys.stdin)["status"]["traffic"] if to.get("percent") == 100])'
}

candidate() {
  for service in $services; do
    serving "$service" > "$service.revision"
    [ -s "$service.revision" ] || { echo "$service: no revision has all the traffic; is a roll-back unfinished?"; exit 1; }
  done
  for service in $services; do
    gcloud run deploy "$prefix$service" --region="$REGION" --image="$(image "$service")" --no-traffic --tag=candidate --quiet
  done
  gcloud run services describe "${prefix}inference" --region="$REGION" --format='value(status.url)' > inference.url
  gcloud run services describe "${prefix}inference" --region="$REGION" --format=json |
    python3 -c 'import json, sys; print(*[to["url"] for to in json.load(sys.stdin)["status"]["traffic"] if to.get("tag") == "candidate"])' \
      > candidate.url
}

tenth() {
  for service in $services; do
    gcloud run services update-traffic "$prefix$service" --region="$REGION" --to-tags=candidate=10 --quiet
  done
}

all() {
  cd terraform
  terraform apply -input=false plan
}

keep() {
  tar -czf deployed.tgz --exclude=.terraform terraform functions shared services/inference/release
  gcloud storage cp deployed.tgz "$state/deployed.tgz"
  gcloud storage cp images.json "$state/images.json"
}

traffic_back() {
  for service in $services; do
    [ -s "$service.revision" ] || continue
    gcloud run services update-traffic "$prefix$service" --region="$REGION" --to-revisions="$(cat "$service.revision")=100" --quiet
  done
  mkdir -p previous
  if gcloud storage cp "$state/deployed.tgz" previous/deployed.tgz; then
    tar -xzf previous/deployed.tgz -C previous
  fi
}

# The sources of the last good release, and its images, which still stand in images.json.
state_back() {
  if [ -d previous/terraform ]; then
    cd previous/terraform
    rm -f candidate.auto.tfvars.json
    terraform init -input=false -lockfile=readonly -backend-config="bucket=$PROJECT_ID-${prefix}terraform"
    terraform apply -input=false -auto-approve -refresh=false -var-file="environments/$ENVIRONMENT.tfvars"
  fi
  echo "The release failed and is taken back. Look at the first step that failed."
  exit 1
}

case $step in
  candidate | tenth | all | keep)
    [ -e failed ] && exit 0
    trap finish EXIT
    "$step"
    ;;
  traffic-back)
    [ -e failed ] || exit 0
    traffic_back
    ;;
  state-back)
    [ -e failed ] || exit 0
    state_back
    ;;
  *)
    echo "usage: deploy.sh candidate | tenth | all | keep | traffic-back | state-back" >&2
    exit 2
    ;;
esac
