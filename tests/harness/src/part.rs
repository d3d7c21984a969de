//! Something that runs and can be ended.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of a component and what ends them.
pub(crate) struct Part {
    pub(crate) tasks: TaskTracker,
    pub(crate) quit: CancellationToken,
}

impl Part {
    /// Cuts off every task at the await it is at.
    pub(crate) async fn end(self) {
        self.quit.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
