locals {
  buckets = {
    uploads    = "${var.project}-uploads"
    scans      = "${var.project}-scans"
    quarantine = "${var.project}-quarantine"
    prepared   = "${var.project}-prepared"
    models     = "${var.project}-models"
  }
}
