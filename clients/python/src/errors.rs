//! Errors of the client as exceptions of Python. Which class it is, Python's half decides.

use pyo3::{prelude::*, sync::PyOnceLock, types::PyDict};
use zapbus_client::Error;

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error).unwrap_or_else(|broken| broken)
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let make = MAKE.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("zapbus._errors")?.getattr("make")?.unbind())
    })?;
    let fields = PyDict::new(py);
    fields.set_item("kind", kind(error))?;
    fields.set_item("message", error.to_string())?;
    if let Some(problem) = error.problem() {
        fields.set_item("status", problem.status)?;
        fields.set_item("code", problem.code.as_deref())?;
        fields.set_item("detail", &problem.detail)?;
        let faults: Vec<(&str, &str)> =
            problem.faults.iter().map(|it| (it.path.as_str(), it.message.as_str())).collect();
        fields.set_item("faults", faults)?;
        fields.set_item("request_id", problem.request_id.as_deref())?;
        fields.set_item("retry_after", problem.retry_after.map(|after| after.as_secs_f64()))?;
        fields.set_item("body", problem.body.to_string())?;
    }
    let exception = make.call(py, (), Some(&fields))?;
    Ok(PyErr::from_value(exception.into_bound(py)))
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Refused(_) => "refused",
        Error::Unreachable { .. } => "unreachable",
        Error::Timeout { .. } => "timeout",
        Error::Unreadable(_) => "unreadable",
        Error::Usage(_) => "usage",
        Error::Closed { .. } => "closed",
        Error::TooLarge { .. } => "too_large",
        Error::SubscriptionClosed => "subscription_closed",
        Error::GaveUp { .. } => "gave_up",
        _ => "other",
    }
}
