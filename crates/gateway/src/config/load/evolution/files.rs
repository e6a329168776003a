//! Evolution's names for the bucket that files are kept in.

use serde_json::Value;

use super::{super::Layers, Environment, variable};

/// Texts, under the key of ours.
const TEXTS: [(&str, &str); 4] = [
    ("S3_BUCKET", "media.s3.bucket"),
    ("S3_REGION", "media.s3.region"),
    ("S3_ACCESS_KEY", "media.s3.access_key_id"),
    ("S3_SECRET_KEY", "media.s3.secret_access_key"),
];

/// What Evolution connects to when it is not told.
const PORT: &str = "9000";

impl Layers {
    pub(super) fn files(&mut self, environment: &Environment) {
        if self.truth(environment, "S3_ENABLED") != Some(true) {
            return;
        }
        for (name, key) in TEXTS {
            if let Some(value) = environment.get(name) {
                self.set_text(key, value, variable(name));
            }
        }
        if environment.get("S3_BUCKET").is_none() {
            self.note("S3_ENABLED is true without S3_BUCKET: files stay with the store".to_owned());
        }
        let Some(host) = environment.get("S3_ENDPOINT") else { return };
        let is_secure = self.truth(environment, "S3_USE_SSL") == Some(true);
        let (scheme, usual) = if is_secure { ("https", "443") } else { ("http", "80") };
        let port = environment.get("S3_PORT").unwrap_or(PORT);
        let port = if port == usual { String::new() } else { format!(":{port}") };
        let endpoint = format!("{scheme}://{host}{port}");
        self.set_text("media.s3.endpoint", &endpoint, variable("S3_ENDPOINT"));
        // Amazon's own knows the other style alone by now.
        let path_style = !host.ends_with(".amazonaws.com");
        self.set("media.s3.path_style", Value::Bool(path_style), variable("S3_ENDPOINT"));
    }
}
