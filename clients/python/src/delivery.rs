//! An event in the hands of a Python program.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pyo3::{exceptions::PyValueError, prelude::*};
use zapbus_client::{Error, Received};

use crate::errors;

/// An event to be settled. Settling it twice does nothing the second time; collected as garbage
/// without it, the event comes again.
#[pyclass(frozen, module = "zapbus._core")]
#[derive(Debug)]
pub(crate) struct Delivery {
    received: Received,
    open: Mutex<Option<zapbus_client::Delivery>>,
}

impl From<zapbus_client::Delivery> for Delivery {
    fn from(delivery: zapbus_client::Delivery) -> Self {
        Self { received: delivery.received().clone(), open: Mutex::new(Some(delivery)) }
    }
}

impl Delivery {
    fn settle(
        &self,
        py: Python<'_>,
        settle: impl FnOnce(zapbus_client::Delivery) -> Result<(), Error>,
    ) -> PyResult<()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        open.map_or(Ok(()), settle).map_err(|error| errors::exception(py, &error))
    }
}

#[pymethods]
impl Delivery {
    #[getter]
    fn id(&self) -> Option<&str> {
        self.received.id()
    }

    #[getter]
    fn kind(&self) -> &str {
        self.received.kind()
    }

    #[getter]
    fn ordering_key(&self) -> Option<&str> {
        self.received.ordering_key()
    }

    #[getter]
    fn is_again(&self) -> bool {
        self.received.is_again()
    }

    #[getter]
    fn document(&self) -> &str {
        self.received.document()
    }

    #[getter]
    fn is_settled(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn ack(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, zapbus_client::Delivery::ack)
    }

    #[pyo3(signature = (after=None))]
    fn nack(&self, py: Python<'_>, after: Option<f64>) -> PyResult<()> {
        let after = after.map(seconds).transpose()?;
        self.settle(py, |delivery| delivery.nack(after))
    }

    fn reject(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, zapbus_client::Delivery::reject)
    }

    fn in_progress(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let said = open.as_ref().map_or(Ok(()), zapbus_client::Delivery::in_progress);
        said.map_err(|error| errors::exception(py, &error))
    }

    /// Gives it back unsettled: it comes again.
    fn give_back(&self) {
        drop(self.open.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A duration that Python gives in seconds.
pub(crate) fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds}: expected seconds, 0 or more")))
}
