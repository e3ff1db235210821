//! Reads the bodies of requests, to their end and within bounds.

use std::time::Duration;

use axum::body::Body as Incoming;
use bytes::BytesMut;
use futures::StreamExt;
use tokio::sync::Semaphore;

/// Largest payload of default mode. A body of 1 MiB comes escaped, and again, in parts, as metadata.
pub const PAYLOAD_BYTES_MAX: usize = 12 << 20;

/// Up to here a body is read beside any number of others; the host's own payloads are smaller.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// Larger bodies that are read at once. The others wait, so that memory has a bound.
const LARGE_AT_ONCE: usize = 2;

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
}

/// Reads bodies, the large ones a few at a time.
pub struct Bodies {
    large: Semaphore,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { large: Semaphore::new(LARGE_AT_ONCE) }
    }
}

impl Bodies {
    /// Reads `body` to its end. More than `bytes_max` is thrown away.
    pub async fn read(&self, body: Incoming, bytes_max: usize) -> Body {
        let read = tokio::time::timeout(BODY_TIME_MAX, self.collect(body, bytes_max)).await;
        read.unwrap_or(Body::Broken)
    }

    /// Reads `body` to its end and throws it away.
    pub async fn discard(&self, body: Incoming) {
        self.read(body, 0).await;
    }

    async fn collect(&self, body: Incoming, bytes_max: usize) -> Body {
        let mut chunks = body.into_data_stream();
        let (mut bytes, mut is_too_large, mut permit) = (BytesMut::new(), false, None);
        while let Some(chunk) = chunks.next().await {
            let Ok(chunk) = chunk else { return Body::Broken };
            let n_bytes = bytes.len() + chunk.len();
            if is_too_large || n_bytes > bytes_max {
                (is_too_large, bytes) = (true, BytesMut::new());
                continue;
            }
            if n_bytes > SMALL_BYTES_MAX && permit.is_none() {
                permit = self.large.acquire().await.ok();
            }
            bytes.extend_from_slice(&chunk);
        }
        match is_too_large {
            true => Body::TooLarge,
            false => Body::Read(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_to_its_end_whatever_its_size() {
        let bodies = Bodies::default();
        let check = async |n_bytes: usize, bytes_max: usize, want: Option<usize>| {
            let found = match bodies.read(Incoming::from(vec![b'x'; n_bytes]), bytes_max).await {
                Body::Read(bytes) => Some(bytes.len()),
                Body::TooLarge | Body::Broken => None,
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
        assert_eq!(Bodies::default().read(body, 100).await, Body::Broken);
    }
}
