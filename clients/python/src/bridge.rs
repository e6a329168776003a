//! Futures of Rust for the two kinds of Python programs: those with an event loop, which are called
//! back, and those without, which wait.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pyo3::{IntoPyObjectExt as _, exceptions::PyRuntimeError, prelude::*};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::AbortHandle,
};

use crate::errors;

/// How often a waiting program looks whether it was interrupted.
const LOOK: Duration = Duration::from_millis(50);
/// How long tasks may take to end with the interpreter.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The one runtime of a process, with the process that it is of.
static RUNTIME: Mutex<Option<(u32, Runtime)>> = Mutex::new(None);

/// The runtime of this process. Threads do not survive a fork: a child gets its own.
pub(crate) fn runtime() -> PyResult<Handle> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some((of, runtime)) = &*runtime
        && *of == process
    {
        return Ok(runtime.handle().clone());
    }
    let fresh = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("zapbus")
        .enable_all()
        .build()
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    let handle = fresh.handle().clone();
    if let Some((_, of_the_parent)) = runtime.replace((process, fresh)) {
        // Its threads are the parent's: there is nothing here to wait for.
        std::mem::forget(of_the_parent);
    }
    Ok(handle)
}

/// Ends every task and thread. Called when the interpreter ends, while it is still whole.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    let ended = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((of, runtime)) = ended {
        if of == std::process::id() {
            py.detach(|| runtime.shutdown_timeout(LAST_WORD));
        } else {
            std::mem::forget(runtime);
        }
    }
}

/// A process in which something was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home(u32);

impl Home {
    pub(crate) fn here() -> Self {
        Self(std::process::id())
    }

    /// Connections do not survive a fork.
    pub(crate) fn check(self) -> PyResult<()> {
        if self.0 == std::process::id() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(
            "this client was made before the process was forked: make one in each process",
        ))
    }
}

/// Something that goes on, and may be cancelled.
#[pyclass(frozen, module = "zapbus._core")]
#[derive(Debug)]
pub(crate) struct Task(AbortHandle);

#[pymethods]
impl Task {
    /// Ends it; whoever waits for it is not called.
    fn cancel(&self) {
        self.0.abort();
    }
}

/// What a future has found, before it is an object of Python.
pub(crate) type Found<T> = Result<T, zapbus_client::Error>;

/// Runs a future, and calls `done(result, exception)` with what it has found.
pub(crate) fn spawn<T, F>(future: F, done: Py<PyAny>) -> PyResult<Task>
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
    F: Future<Output = Found<T>> + Send + 'static,
{
    let task = runtime()?.spawn(async move {
        let found = future.await;
        // An interpreter that ends needs no answer.
        let _ = Python::try_attach(|py| tell(py, found, &done));
    });
    Ok(Task(task.abort_handle()))
}

fn tell<T>(py: Python<'_>, found: Found<T>, done: &Py<PyAny>)
where
    T: for<'py> IntoPyObject<'py>,
{
    let found = match found {
        Ok(found) => match found.into_bound_py_any(py) {
            Ok(found) => Ok(found),
            Err(error) => Err(error),
        },
        Err(error) => Err(errors::exception(py, &error)),
    };
    // The loop may be closed: then nobody waits.
    let _ = match found {
        Ok(found) => done.call1(py, (found, py.None())),
        Err(error) => done.call1(py, (py.None(), error.into_value(py))),
    };
}

/// Waits for a future, and looks now and then whether the program was interrupted.
pub(crate) fn wait<T, F>(py: Python<'_>, future: F) -> PyResult<T>
where
    T: Send,
    F: Future<Output = Found<T>> + Send,
{
    let runtime = runtime()?;
    let mut future = std::pin::pin!(future);
    loop {
        let found = py.detach(|| {
            runtime.block_on(async { tokio::time::timeout(LOOK, future.as_mut()).await })
        });
        match found {
            Ok(found) => return found.map_err(|error| errors::exception(py, &error)),
            Err(_) => py.check_signals()?,
        }
    }
}
