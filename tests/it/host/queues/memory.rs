//! Queues in this process, with the rules of the real service.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use time::OffsetDateTime;

use super::QueueMessage;
use crate::host::payload::guid;

pub struct Memory(Mutex<Inner>);

struct Inner {
    queues: BTreeMap<String, Vec<QueueMessage>>,
    /// Decides the order of messages, if any order will do.
    rng: Option<Rng>,
}

impl Memory {
    pub fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(Inner { queues: BTreeMap::new(), rng: seed.map(Rng::with_seed) }))
    }

    pub fn put(&self, queue: &str, stored: &str, kept: Duration) {
        let now = OffsetDateTime::now_utc();
        let message = QueueMessage {
            id: guid(),
            pop_receipt: String::new(),
            dequeue_count: 0,
            inserted_at: now,
            expires_at: now + kept,
            next_visible_at: now,
            stored: stored.to_owned(),
        };
        self.inner().queues.entry(queue.to_owned()).or_default().push(message);
    }

    pub fn get(&self, queue: &str, max: usize, hidden: Duration) -> Vec<QueueMessage> {
        let now = OffsetDateTime::now_utc();
        let mut inner = self.inner();
        let Inner { queues, rng } = &mut *inner;
        let Some(messages) = queues.get_mut(queue) else { return Vec::new() };
        messages.retain(|message| message.expires_at > now);
        let mut visible: Vec<&mut QueueMessage> =
            messages.iter_mut().filter(|message| message.next_visible_at <= now).collect();
        if let Some(rng) = rng {
            rng.shuffle(&mut visible);
        }
        let receive = |message: &mut QueueMessage| {
            message.dequeue_count += 1;
            message.pop_receipt = guid();
            message.next_visible_at = now + hidden;
            message.clone()
        };
        visible.into_iter().take(max).map(receive).collect()
    }

    pub fn peek(&self, queue: &str, max: usize) -> Vec<QueueMessage> {
        let now = OffsetDateTime::now_utc();
        let inner = self.inner();
        let visible = |message: &&QueueMessage| message.next_visible_at <= now;
        let messages = inner.queues.get(queue).into_iter().flatten();
        let shown =
            |message: &QueueMessage| QueueMessage { pop_receipt: String::new(), ..message.clone() };
        messages.filter(visible).take(max).map(shown).collect()
    }

    pub fn count(&self, queue: &str) -> usize {
        self.inner().queues.get(queue).map_or(0, Vec::len)
    }

    pub fn delete(&self, queue: &str, message: &QueueMessage) -> bool {
        let mut inner = self.inner();
        let Some(messages) = inner.queues.get_mut(queue) else { return false };
        let before = messages.len();
        messages.retain(|found| !is_held_by(found, message));
        messages.len() < before
    }

    /// The message with its new receipt, if `message` has the one that counts.
    pub fn update(
        &self,
        queue: &str,
        message: &QueueMessage,
        pause: Duration,
    ) -> Option<QueueMessage> {
        let mut inner = self.inner();
        let messages = inner.queues.get_mut(queue)?;
        let found = messages.iter_mut().find(|found| is_held_by(found, message))?;
        found.pop_receipt = guid();
        found.next_visible_at = OffsetDateTime::now_utc() + pause;
        Some(found.clone())
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

fn is_held_by(found: &QueueMessage, message: &QueueMessage) -> bool {
    found.id == message.id && found.pop_receipt == message.pop_receipt
}
