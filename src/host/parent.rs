//! Notices that the host is gone. It may die, or give up waiting, without ending this process
//! (protocol, section 11), and the next host starts another one beside it.

use std::time::Duration;

/// Between two looks. This process ends within five seconds (contract: an orphan ends itself).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Completes when the process that started this one is gone: then another one is its parent. (Linux's
/// signal for this follows the thread that started the process, which the host may retire.)
pub async fn gone() {
    #[cfg(unix)]
    {
        use std::os::unix::process::parent_id;
        let parent = parent_id();
        while parent_id() == parent {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    #[cfg(not(unix))]
    std::future::pending::<()>().await;
}
