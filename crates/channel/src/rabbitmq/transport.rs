//! The bytes below lapin, which can be cut off from outside.
//!
//! lapin reads and writes in a thread of its own, which ends when the broker says so or the
//! connection breaks. From a broker that says nothing it would wait for ever, with the thread and the
//! socket.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use futures_io::{AsyncRead, AsyncWrite};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::frames::{Inbound, Outbound};
use crate::pool::Wire;

/// A connection as lapin uses it.
#[derive(Debug)]
pub(super) struct Transport {
    wire: Compat<Wire>,
    cut: Arc<Cut>,
    inbound: Inbound,
    outbound: Outbound,
}

/// Cuts its transport off when it is dropped: whoever waits for bytes gets an error.
#[derive(Debug)]
pub(super) struct Scissors(Arc<Cut>);

#[derive(Debug, Default)]
struct Cut {
    made: AtomicBool,
    /// Who reads and who writes.
    waiting: Mutex<[Option<Waker>; 2]>,
}

/// Places in [`Cut::waiting`].
const READER: usize = 0;
const WRITER: usize = 1;

impl Transport {
    pub(super) fn new(wire: Wire) -> (Self, Scissors) {
        let cut: Arc<Cut> = Arc::default();
        let transport = Self {
            wire: wire.compat(),
            cut: Arc::clone(&cut),
            inbound: Inbound::default(),
            outbound: Outbound::new(),
        };
        (transport, Scissors(cut))
    }
}

impl Drop for Scissors {
    fn drop(&mut self) {
        self.0.made.store(true, Ordering::SeqCst);
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }
}

impl Cut {
    /// Fails if it is made; else whoever asks is woken when it is.
    fn check(&self, side: usize, cx: &Context<'_>) -> io::Result<()> {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut waiting[side] {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        match self.made.load(Ordering::SeqCst) {
            true => {
                Err(io::Error::new(ErrorKind::ConnectionAborted, "the connection was given up"))
            }
            false => Ok(()),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            this.cut.check(READER, cx)?;
            let read = ready!(Pin::new(&mut this.wire).poll_read(cx, bytes))?;
            let kept = this.inbound.pass(&mut bytes[..read], this.outbound.published)?;
            // Nothing at all is the end; nothing that is kept is none.
            if read == 0 || kept > 0 {
                return Poll::Ready(Ok(kept));
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cut.check(WRITER, cx)?;
        let written = ready!(Pin::new(&mut this.wire).poll_write(cx, bytes))?;
        this.outbound.pass(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.cut.check(WRITER, cx)?;
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.cut.check(WRITER, cx)?;
        Pin::new(&mut this.wire).poll_close(cx)
    }
}
