//! For those who receive webhooks.

use std::time::Duration;

use pyo3::{exceptions::PyValueError, prelude::*};
use zapbus_client::{VerifyError, WebhookVerifier};

/// Verifies signatures.
#[pyclass(frozen, module = "zapbus._core")]
#[derive(Debug)]
pub(crate) struct Verifier(WebhookVerifier);

#[pymethods]
impl Verifier {
    #[new]
    fn new(secrets: Vec<String>, tolerance: f64) -> PyResult<Self> {
        let wrong = |what: String| PyValueError::new_err(what);
        let tolerance = Duration::try_from_secs_f64(tolerance)
            .map_err(|_| wrong(format!("tolerance: {tolerance}: expected seconds")))?;
        let verifier = WebhookVerifier::new(secrets).map_err(|error| wrong(error.to_string()))?;
        Ok(Self(verifier.tolerance(tolerance)))
    }

    /// The id and the time that are signed, or a code and a message of what is wrong.
    #[pyo3(signature = (body, headers, now=None))]
    fn verify(
        &self,
        body: &[u8],
        headers: Vec<(String, String)>,
        now: Option<i64>,
    ) -> Result<(String, i64), PyErr> {
        let verified = match now {
            Some(now) => self.0.verify_at(body, &headers, now),
            None => self.0.verify(body, &headers),
        };
        let signed =
            verified.map_err(|error| PyValueError::new_err((code(&error), error.to_string())))?;
        Ok((signed.id, signed.timestamp))
    }

    /// The headers of a request.
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Vec<(&'static str, String)> {
        self.0.sign(id, timestamp, body).to_vec()
    }
}

fn code(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::MissingHeader(_) => "missing_header",
        VerifyError::UnreadableHeader(_) => "unreadable_header",
        VerifyError::TooOld(_) => "too_old",
        VerifyError::TooNew(_) => "too_new",
        VerifyError::WrongSignature => "wrong_signature",
        _ => "other",
    }
}
