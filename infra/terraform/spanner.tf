resource "google_spanner_instance" "this" {
  count = var.create_spanner_instance ? 1 : 0

  project          = var.project
  name             = var.spanner_instance
  display_name     = var.spanner_instance
  config           = coalesce(var.spanner_config, "regional-${var.region}")
  edition          = var.spanner_edition
  processing_units = var.spanner_processing_units
  labels           = var.labels

  depends_on = [google_project_service.used]
}

# Without a table: its column Operation is a message, and the provider cannot send proto descriptors with DDL
# (hashicorp/terraform-provider-google#20068). `lro spanner migrate` makes the table and brings it up to date; the output
# spanner_url is its argument. Terraform does not look at the schema afterwards, so the two do not fight.
resource "google_spanner_database" "operations" {
  # checkov:skip=CKV_GCP_93: encrypted with Google's own key unless spanner_kms_key names one
  project                = var.project
  instance               = var.create_spanner_instance ? google_spanner_instance.this[0].name : var.spanner_instance
  name                   = var.spanner_database
  database_dialect       = "GOOGLE_STANDARD_SQL"
  deletion_protection    = var.deletion_protection
  enable_drop_protection = var.deletion_protection

  dynamic "encryption_config" {
    for_each = var.spanner_kms_key == null ? [] : [var.spanner_kms_key]

    content {
      kms_key_name = encryption_config.value
    }
  }
}

resource "google_spanner_database_iam_member" "service" {
  project  = var.project
  instance = google_spanner_database.operations.instance
  database = google_spanner_database.operations.name
  role     = var.spanner_role
  member   = google_service_account.service.member
}
