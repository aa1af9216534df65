# A service from an image, with everything that its operations need. docs/deploy.md goes through it step by step.

terraform {
  required_version = ">= 1.9.0, < 2.0.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }
}

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of everything."
  type        = string
  default     = "europe-west1"
}

variable "image" {
  description = "Image of the service; what the build has pushed to the repository below."
  type        = string
}

variable "invokers" {
  description = "IAM members that may call the service, such as user:you@example.com."
  type        = set(string)
  default     = []
}

provider "google" {
  project = var.project
  region  = var.region
}

resource "google_project_service" "artifact_registry" {
  service            = "artifactregistry.googleapis.com"
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: an example's images need no key of one's own
  location      = var.region
  repository_id = "images"
  format        = "DOCKER"

  depends_on = [google_project_service.artifact_registry]
}

module "lro" {
  source = "../.."

  project  = var.project
  region   = var.region
  name     = "reminders"
  image    = var.image
  invokers = var.invokers
}

output "url" {
  description = "URL of the service."
  value       = module.lro.url
}

output "spanner_url" {
  description = "Argument of `lro spanner migrate`."
  value       = module.lro.spanner_url
}
