# Spark's executors run here without public addresses. With Private Google Access and no NAT they reach Google's own
# services and nothing else. Those include every other project's buckets: only a VPC Service Controls perimeter
# (perimeter.tf) keeps a scan from leaving that way.

resource "google_compute_network" "this" {
  name                    = "${var.prefix}scanflow"
  auto_create_subnetworks = false
  depends_on              = [time_sleep.apis]
}

resource "google_compute_subnetwork" "spark" {
  name                     = "${var.prefix}spark"
  network                  = google_compute_network.this.id
  region                   = var.region
  ip_cidr_range            = "10.10.0.0/20"
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

# Dataproc asks for open ways between a batch's own machines.
resource "google_compute_firewall" "spark" {
  name          = "${var.prefix}spark-among-itself"
  network       = google_compute_network.this.id
  direction     = "INGRESS"
  source_ranges = [google_compute_subnetwork.spark.ip_cidr_range]

  allow {
    protocol = "tcp"
  }
  allow {
    protocol = "udp"
  }
  allow {
    protocol = "icmp"
  }
}
