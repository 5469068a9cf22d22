# What a plan reads before anything is there: the images that bootstrap.sh leaves in the state bucket.
mock_data "google_storage_bucket_object_content" {
  defaults = {
    content = "{\"inference\": \"hello\", \"dashboard\": \"hello\", \"preprocessing\": \"hello\", \"training\": \"hello\"}"
  }
}
