//! Listens to the queues of an app: receives, invokes, deletes, releases, sorts out poison.
//!
//! `room for a batch? -> get -> each on its own: lost? poison? invoke -> delete or release`

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Inner;
use super::app::{Function, Trigger, is_disabled};
use super::invoke::Invocation;
use super::payload;
use super::process::Level;
use super::queues::QueueMessage;
use super::reply::Failure;

/// Shortest pause between two looks at an empty queue; it doubles.
const POLL_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Starts a listener for each queue function that this host listens to.
pub fn start(inner: &Arc<Inner>) {
    for function in &inner.app.functions {
        let Trigger::Queue { queue, is_binary } = &function.trigger else { continue };
        let listens = inner.options.listens.as_ref();
        let is_wanted = listens.is_none_or(|names| names.contains(&function.name));
        if is_wanted && !is_disabled(&function.name, &inner.options.settings) {
            let listener = Listener {
                inner: Arc::clone(inner),
                function: function.clone(),
                queue: queue.clone(),
                is_binary: *is_binary,
            };
            tokio::spawn(Arc::new(listener).listen());
        }
    }
}

struct Listener {
    inner: Arc<Inner>,
    function: Function,
    queue: String,
    is_binary: bool,
}

impl Listener {
    async fn listen(self: Arc<Self>) {
        let mut draining = self.inner.is_draining.subscribe();
        let listening = Arc::clone(&self).poll();
        tokio::select! {
            () = listening => {}
            // Fails only without a sender: then the host has gone.
            _draining = draining.wait_for(|is_draining| *is_draining) => {}
        }
    }

    /// Polls until it is dropped.
    async fn poll(self: Arc<Self>) {
        let options = &self.inner.app.options.queues;
        let threshold = usize::try_from(options.new_batch_threshold).unwrap_or(usize::MAX);
        let batch = usize::try_from(options.batch_size).unwrap_or(usize::MAX);
        let n_in_work = Arc::new(watch::Sender::new(0_usize));
        let mut room = n_in_work.subscribe();
        let mut pause = POLL_PAUSE_MIN;
        loop {
            // Fails only without a sender, and this holds one.
            drop(room.wait_for(|n| *n <= threshold).await);
            let holder = Some(self.inner.number);
            let messages = self.inner.account.queues.get_for(holder, &self.queue, batch).await;
            if messages.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(options.max_polling_interval.max(POLL_PAUSE_MIN));
                continue;
            }
            pause = POLL_PAUSE_MIN;
            for message in messages {
                let (listener, n_in_work) = (Arc::clone(&self), Arc::clone(&n_in_work));
                n_in_work.send_modify(|n| *n += 1);
                tokio::spawn(async move {
                    listener.deliver(message).await;
                    n_in_work.send_modify(|n| *n -= 1);
                });
            }
        }
    }

    async fn deliver(&self, message: QueueMessage) {
        let _in_work = self.inner.begin();
        let (queues, options) = (&self.inner.account.queues, &self.inner.app.options.queues);
        if self.inner.options.loses.as_ref().is_some_and(|loses| loses(&message)) {
            let _is_deleted = queues.delete(&self.queue, &message).await;
            return;
        }
        let is_worn_out = message.dequeue_count > options.max_dequeue_count;
        if is_worn_out || message.bytes().is_none() {
            self.poison(&message).await;
            return;
        }
        let invocation = match self.inner.happens(self.inner.options.doubled) {
            false => self.invoke(&message).await,
            // The same receipt twice, as a slow start makes of it: the first one's end counts.
            true => tokio::join!(self.invoke(&message), self.invoke(&message)).0,
        };
        // Nothing is said to the queue if it fails: the message was received again meanwhile.
        match &invocation.result {
            // A host that has ended says nothing: the message stays hidden.
            Err(Failure::Stopped) => {}
            Ok(_) if self.inner.happens(self.inner.options.again) => {
                let _is_released = queues.release(&self.queue, &message, Duration::ZERO).await;
            }
            Ok(_) => {
                let _is_deleted = queues.delete(&self.queue, &message).await;
            }
            Err(_) if message.dequeue_count >= options.max_dequeue_count => {
                self.poison(&message).await;
            }
            Err(_) => {
                let pause = options.visibility_timeout;
                let _is_released = queues.release(&self.queue, &message, pause).await;
            }
        }
    }

    async fn invoke(&self, message: &QueueMessage) -> Invocation {
        let (inner, function) = (&self.inner, &self.function);
        let stamp = inner.stamp();
        let body =
            payload::queue(&function.name, &function.binding, self.is_binary, message, &stamp);
        match body {
            Ok(body) => inner.invoke(function, &stamp, body).await,
            Err(why) => {
                let result = Err(Failure::Input(why));
                inner.note(Invocation { result, ..Invocation::new(function, &stamp) })
            }
        }
    }

    async fn poison(&self, message: &QueueMessage) {
        let (queue, id) = (&self.queue, &message.id);
        let text = format!(
            "Message has reached MaxDequeueCount. Moving message '{id}' to queue '{queue}-poison'."
        );
        self.inner.log(Level::Warning, &text);
        self.inner.account.queues.poison(queue, message).await;
    }
}
