//! The queues of an account: in memory, or those of Azurite over HTTP.
//!
//! `put -> get (hidden for a time) -> delete, or release, or the time runs out -> get again`
//!
//! # Invariants
//! - What is got here is remembered with its receipt, so that [`Queues::advance`] can let the time
//!   run out at once, with both services.
//! - A message that a living host works on stays hidden: the real one renews it meanwhile. See
//!   [`Queues::let_go`].

mod azurite;
mod memory;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

use crate::azurite::Azurite;
use azurite::Remote;
use memory::Memory;

/// How long a received message stays hidden, unless it is renewed or answered.
pub const HIDDEN: Duration = Duration::from_secs(600);
/// How long a message is kept.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Most messages of one list.
pub const LIST_MAX: usize = 32;

/// A message, as it was received or looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueMessage {
    pub id: String,
    /// Empty if it was only looked at.
    pub pop_receipt: String,
    pub dequeue_count: u32,
    pub inserted_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub next_visible_at: OffsetDateTime,
    /// The text as the service keeps it: base64, if a host or [`Queues::put`] wrote it.
    pub stored: String,
}

impl QueueMessage {
    pub fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.stored).ok()
    }

    /// The text that was put, or nothing if that is not UTF-8 in base64.
    pub fn text(&self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }
}

pub struct Queues {
    service: Service,
    /// Messages that were got, and not deleted.
    hidden: Mutex<BTreeMap<(String, String), Hidden>>,
}

enum Service {
    Memory(Memory),
    Azurite(Remote),
}

#[derive(Debug, Clone)]
struct Hidden {
    message: QueueMessage,
    /// The host that works on it and would renew it.
    holder: Option<u64>,
}

impl Queues {
    /// In this process. With a seed, messages come in an order that it decides.
    pub fn memory(seed: Option<u64>) -> Self {
        Self::new(Service::Memory(Memory::new(seed)))
    }

    /// Of Azurite, under names that no other test has.
    pub fn azurite(azurite: &'static Azurite) -> Self {
        Self::new(Service::Azurite(Remote::new(azurite)))
    }

    fn new(service: Service) -> Self {
        Self { service, hidden: Mutex::default() }
    }

    /// Puts a text, in base64, as a host does. The queue is created if need be.
    pub async fn put(&self, queue: &str, text: impl AsRef<[u8]>) {
        self.put_stored(queue, &STANDARD.encode(text)).await;
    }

    /// Puts what the service is to keep, as it is.
    pub async fn put_stored(&self, queue: &str, stored: &str) {
        match &self.service {
            Service::Memory(memory) => memory.put(queue, stored, KEPT),
            Service::Azurite(remote) => remote.put(queue, stored).await,
        }
    }

    /// Receives up to `max` messages and hides them for [`HIDDEN`].
    pub async fn get(&self, queue: &str, max: usize) -> Vec<QueueMessage> {
        self.get_for(None, queue, max).await
    }

    /// The same for a host, which holds them until it answers, lets go or dies.
    pub async fn get_for(&self, holder: Option<u64>, queue: &str, max: usize) -> Vec<QueueMessage> {
        let max = max.min(LIST_MAX);
        let got = match &self.service {
            Service::Memory(memory) => memory.get(queue, max, HIDDEN),
            Service::Azurite(remote) => remote.get(queue, max, HIDDEN).await,
        };
        let mut hidden = self.hidden();
        for message in &got {
            let key = (queue.to_owned(), message.id.clone());
            hidden.insert(key, Hidden { message: message.clone(), holder });
        }
        got
    }

    /// Up to [`LIST_MAX`] visible messages, which stay visible.
    pub async fn peek(&self, queue: &str) -> Vec<QueueMessage> {
        match &self.service {
            Service::Memory(memory) => memory.peek(queue, LIST_MAX),
            Service::Azurite(remote) => remote.peek(queue, LIST_MAX).await,
        }
    }

    /// How many messages there are, hidden ones too.
    pub async fn count(&self, queue: &str) -> usize {
        match &self.service {
            Service::Memory(memory) => memory.count(queue),
            Service::Azurite(remote) => remote.count(queue).await,
        }
    }

    /// Deletes a received message. `false` if it was received again since.
    pub async fn delete(&self, queue: &str, message: &QueueMessage) -> bool {
        let is_deleted = match &self.service {
            Service::Memory(memory) => memory.delete(queue, message),
            Service::Azurite(remote) => remote.delete(queue, message).await,
        };
        if is_deleted {
            self.hidden().remove(&(queue.to_owned(), message.id.clone()));
        }
        is_deleted
    }

    /// Lets a received message be seen again after `pause`. `false` if it was received again since.
    pub async fn release(&self, queue: &str, message: &QueueMessage, pause: Duration) -> bool {
        let renewed = match &self.service {
            Service::Memory(memory) => memory.update(queue, message, pause),
            Service::Azurite(remote) => remote.update(queue, message, pause).await,
        };
        let Some(message) = renewed else { return false };
        let key = (queue.to_owned(), message.id.clone());
        self.hidden().insert(key, Hidden { message, holder: None });
        true
    }

    /// Moves a received message to the queue of poison, as a new one with the same text. A queue of
    /// poison has none itself: the message is deleted.
    pub async fn poison(&self, queue: &str, message: &QueueMessage) {
        if !queue.ends_with("-poison") {
            self.put_stored(&format!("{queue}-poison"), &message.stored).await;
        }
        // Somebody else may have received it meanwhile: then it goes there twice, as in life.
        let _is_deleted = self.delete(queue, message).await;
    }

    /// Messages that `holder` works on are no longer renewed: it has died.
    pub fn let_go(&self, holder: u64) {
        for hidden in self.hidden().values_mut() {
            if hidden.holder == Some(holder) {
                hidden.holder = None;
            }
        }
    }

    /// Lets `time` pass for messages that are hidden, except those that a living host works on.
    pub async fn advance(&self, time: Duration) {
        let waiting: Vec<((String, String), Hidden)> = {
            let hidden = self.hidden();
            let waiting = hidden.iter().filter(|(_, hidden)| hidden.holder.is_none());
            waiting.map(|(key, hidden)| (key.clone(), hidden.clone())).collect()
        };
        for ((queue, _), Hidden { message, .. }) in waiting {
            let left = message.next_visible_at - OffsetDateTime::now_utc();
            let left = Duration::try_from(left).unwrap_or_default();
            if !left.is_zero() {
                // It fails for a message that was received or deleted meanwhile, rightly.
                let _is_released = self.release(&queue, &message, left.saturating_sub(time)).await;
            }
        }
    }

    fn hidden(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Hidden>> {
        self.hidden.lock().expect("nobody panics while holding it")
    }
}
