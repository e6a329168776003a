//! What large answers take until whoever asked has taken them.
//!
//! Somebody who asks for pages and does not read them must cost no more memory than there is room
//! for. An answer over [`SMALL`] takes room for its bytes, goes out in pieces, and is dropped when
//! no piece was taken for a while; it takes a look of its own for that, because the streams of an
//! HTTP/2 connection stand still one by one.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::{IntoResponse, Response},
};
use bytes::Buf;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::error::ApiError;

/// Bytes of an answer that needs no room: the buffers of a connection hold as much.
const SMALL: u64 = 64 << 10;

/// Bytes that go to the connection at a time.
const PIECE: usize = 64 << 10;

/// Bytes of answers to callers with credentials, and of those that anybody gets: the description
/// of the API, metrics.
const KNOWN: usize = 64 << 20;
const STRANGERS: usize = 16 << 20;

/// What an answer takes that is read from elsewhere as it goes out.
const STREAMED: u64 = 256 << 10;

/// Marks an answer that is read from elsewhere as it goes out, a piece at a time: how many bytes it
/// has in all.
#[derive(Debug, Clone, Copy)]
pub struct Streamed(pub u64);

/// The node's room for large answers.
#[derive(Debug, Clone)]
pub struct Answers {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    patience: Duration,
}

impl Answers {
    /// An answer of which nothing is taken for `patience` is dropped.
    pub fn new(patience: Duration) -> Self {
        let room = |bytes: usize| Arc::new(Semaphore::new(bytes >> 10));
        Self { known: room(KNOWN), strangers: room(STRANGERS), patience }
    }

    /// The answer of a route, with room for it; 503 when there is none. What is made while it is
    /// sent, such as a stream of events, has no size and takes no room here.
    pub fn hold(&self, route: &str, response: Response) -> Response {
        let streamed = response.extensions().get::<Streamed>().map(|streamed| streamed.0);
        let exact = response.body().size_hint().exact();
        let Some(bytes) = streamed.or(exact).filter(|bytes| *bytes > SMALL) else {
            return response;
        };
        let weight = if streamed.is_some() { bytes.min(STREAMED) } else { bytes };
        let (room, most) =
            if is_public(route) { (&self.strangers, STRANGERS) } else { (&self.known, KNOWN) };
        // One that is larger than the room has it to itself.
        let kib = usize::try_from(weight.div_ceil(1 << 10)).unwrap_or(most).min(most >> 10);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        match room.clone().try_acquire_many_owned(kib) {
            Ok(permit) => response.map(|body| Body::new(self.pieces(body, bytes, permit))),
            Err(_) => ApiError::Busy.into_response(),
        }
    }

    fn pieces(&self, body: Body, bytes: u64, permit: OwnedSemaphorePermit) -> Pieces {
        let waiting = Waiting { body, rest: Bytes::new(), taken: 0, _permit: permit };
        let waiting = Arc::new(Mutex::new(Some(waiting)));
        tokio::spawn(watch(Arc::downgrade(&waiting), self.patience));
        Pieces { waiting, left: bytes }
    }
}

fn is_public(route: &str) -> bool {
    ["/docs", "/openapi.json", "/metrics", "/ui", "/media"]
        .iter()
        .any(|public| route.starts_with(public))
}

/// An answer on its way.
struct Pieces {
    /// `None` once all of it was taken, or it was dropped.
    waiting: Arc<Mutex<Option<Waiting>>>,
    /// Bytes that were not taken yet.
    left: u64,
}

struct Waiting {
    body: Body,
    /// What the body gave and nobody took yet.
    rest: Bytes,
    /// Pieces taken.
    taken: u64,
    _permit: OwnedSemaphorePermit,
}

impl Waiting {
    /// The next piece, a copy: the connection's buffers must not keep the whole alive.
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(other) => return Poll::Ready(other),
            }
        }
        let piece = self.rest.len().min(PIECE);
        let copy = Bytes::copy_from_slice(&self.rest[..piece]);
        self.rest.advance(piece);
        self.taken += 1;
        Poll::Ready(Some(Ok(Frame::data(copy))))
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = guard.as_mut() else {
            drop(guard);
            return Poll::Ready((self.left > 0).then(|| Err(stalled())));
        };
        let polled = waiting.poll_piece(context);
        let taken = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Poll::Ready(_) => {
                *guard = None;
                0
            }
            Poll::Pending => 0,
        };
        if taken >= self.left {
            *guard = None;
        }
        drop(guard);
        self.left = self.left.saturating_sub(taken);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn stalled() -> axum::Error {
    axum::Error::new(std::io::Error::new(std::io::ErrorKind::TimedOut, "the answer was not taken"))
}

/// Drops an answer of which no piece was taken for as long as `patience`.
async fn watch(waiting: Weak<Mutex<Option<Waiting>>>, patience: Duration) {
    let mut seen = 0;
    loop {
        tokio::time::sleep(patience).await;
        let Some(waiting) = waiting.upgrade() else { return };
        let mut guard = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.as_ref().map(|waiting| waiting.taken) {
            None => return,
            Some(taken) if taken == seen => {
                *guard = None;
                return;
            }
            Some(taken) => seen = taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn page(bytes: usize) -> Response {
        vec![7_u8; bytes].into_response()
    }

    async fn whole(response: Response) -> Result<Bytes, axum::Error> {
        Ok(response.into_body().collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn large_answers_share_the_room_there_is() {
        let answers = Answers::new(Duration::from_secs(60));
        let held: Vec<Response> =
            (0..8).map(|_| answers.hold("/v1/events", page(8 << 20))).collect();
        assert!(held.iter().all(|response| response.status() == 200));
        assert_eq!(answers.hold("/v1/events", page(8 << 20)).status(), 503);
        assert_eq!(answers.hold("/v1/events", page(1 << 10)).status(), 200, "small ones need none");
        assert_eq!(answers.hold("/docs/{*rest}", page(1 << 20)).status(), 200, "a room of its own");
        for response in held {
            assert_eq!(whole(response).await.unwrap(), vec![7_u8; 8 << 20]);
        }
        let larger_than_the_room = answers.hold("/v1/events", page(KNOWN + 1));
        assert_eq!(whole(larger_than_the_room).await.unwrap().len(), KNOWN + 1);
        assert_eq!(answers.known.available_permits(), KNOWN >> 10, "all of it is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_dropped() {
        let answers = Answers::new(Duration::from_secs(60));
        let mut body = answers.hold("/v1/events", page(1 << 20)).into_body();
        let slow = answers.hold("/v1/events", page(1 << 20)).into_body();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            assert!(body.frame().await.unwrap().is_ok(), "slow is not still");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(slow);
        tokio::time::sleep(Duration::from_secs(121)).await;
        assert_eq!(answers.known.available_permits(), KNOWN >> 10);
        assert!(body.frame().await.unwrap().is_err(), "not a shorter answer");
    }
}
