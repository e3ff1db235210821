//! Reads the bodies of requests, to their end and within bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as Incoming;
use bytes::BytesMut;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest payload of default mode. A body of 1 MiB comes escaped, and again, in parts, as metadata.
pub const PAYLOAD_BYTES_MAX: usize = 12 << 20;

/// Up to here a body is read beside any number of others; the host's own payloads are smaller.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// Larger bodies that are here at once, from when they are read until their function is done. The others
/// wait, so that memory has a bound.
const LARGE_AT_ONCE: usize = 2;

/// How long a large body waits for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest time in which a body arrives: the host is on the same machine.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// A body, as far as it could be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// It is whole.
    Read(BytesMut),
    /// It is larger than allowed. It was read to its end and thrown away.
    TooLarge,
    /// It broke off, or never came to its end.
    Broken,
    /// It is large, and its turn did not come.
    Busy,
}

/// The right to have a large body here.
pub type Room = OwnedSemaphorePermit;

/// Reads bodies, the large ones a few at a time.
pub struct Bodies {
    large: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { large: Arc::new(Semaphore::new(LARGE_AT_ONCE)) }
    }
}

impl Bodies {
    /// Reads `body` to its end. More than `bytes_max` is thrown away. A large one comes with its room, to
    /// be held as long as anything of it is.
    pub async fn read(&self, body: Incoming, bytes_max: usize) -> (Body, Option<Room>) {
        let read = tokio::time::timeout(BODY_TIME_MAX, self.collect(body, bytes_max)).await;
        read.unwrap_or((Body::Broken, None))
    }

    /// Reads `body` to its end and throws it away.
    pub async fn discard(&self, body: Incoming) {
        self.read(body, 0).await;
    }

    async fn collect(&self, body: Incoming, bytes_max: usize) -> (Body, Option<Room>) {
        let mut chunks = body.into_data_stream();
        let (mut bytes, mut room) = (BytesMut::new(), None);
        // Why it is thrown away, if it is.
        let mut refused = None;
        while let Some(chunk) = chunks.next().await {
            let Ok(chunk) = chunk else { return (Body::Broken, None) };
            let n_bytes = bytes.len() + chunk.len();
            if refused.is_none() && n_bytes > bytes_max {
                refused = Some(Body::TooLarge);
            } else if refused.is_none() && n_bytes > SMALL_BYTES_MAX && room.is_none() {
                let turn = Arc::clone(&self.large).acquire_owned();
                room = tokio::time::timeout(TURN_TIME_MAX, turn).await.ok().and_then(Result::ok);
                refused = room.is_none().then_some(Body::Busy);
            }
            match refused {
                Some(_) => (bytes, room) = (BytesMut::new(), None),
                None => bytes.extend_from_slice(&chunk),
            }
        }
        (refused.unwrap_or(Body::Read(bytes)), room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_to_its_end_whatever_its_size() {
        let bodies = Bodies::default();
        let check = async |n_bytes: usize, bytes_max: usize, want: Option<usize>| {
            let found = match bodies.read(Incoming::from(vec![b'x'; n_bytes]), bytes_max).await.0 {
                Body::Read(bytes) => Some(bytes.len()),
                Body::TooLarge | Body::Broken | Body::Busy => None,
            };
            assert_eq!(found, want, "{n_bytes} of {bytes_max}");
        };
        check(0, 0, Some(0)).await;
        check(10, 10, Some(10)).await;
        check(11, 10, None).await;
        check(1 << 20, PAYLOAD_BYTES_MAX, Some(1 << 20)).await;
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_taken_for_whole() {
        let chunks = [Ok("half"), Err(std::io::Error::other("gone"))];
        let body = Incoming::from_stream(futures::stream::iter(chunks));
        assert_eq!(Bodies::default().read(body, 100).await.0, Body::Broken);
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_have_room_for_two_and_small_ones_pass_by() {
        let bodies = Bodies::default();
        let read = |n_bytes: usize| bodies.read(Incoming::from(vec![b'x'; n_bytes]), 1 << 20);
        let held = [read(1 << 20).await, read(1 << 20).await];
        assert!(held.iter().all(|(_, room)| room.is_some()));
        assert!(matches!(read(100).await, (Body::Read(_), None)));
        assert_eq!(read(1 << 20).await.0, Body::Busy);
        drop(held);
        assert!(matches!(read(1 << 20).await, (Body::Read(_), Some(_))));
    }
}
