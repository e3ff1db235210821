//! Notices that the host is gone. It may die, or give up waiting, without ending this process
//! (protocol, section 11), and the next host starts another one beside it.

use std::time::Duration;

/// Between two looks. This process ends within five seconds (contract: an orphan ends itself).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The process that started this one.
#[derive(Debug, Clone, Copy)]
pub struct Parent {
    id: u32,
}

impl Parent {
    /// The parent as it is now. To be asked first thing: who has gone before is not missed.
    pub fn now() -> Self {
        Self { id: parent_id() }
    }

    /// Completes when it is gone: then another process is the parent. (Linux's signal for this follows the
    /// thread that started the process, which the host may retire.)
    pub async fn gone(self) {
        while parent_id() == self.id {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(unix)]
fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// Elsewhere nobody can be seen to go.
#[cfg(not(unix))]
fn parent_id() -> u32 {
    0
}
